"""Pages of the admin for login, confirmation of the identity, and the second factor."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from operator import itemgetter
from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.forms import AdminAuthenticationForm, AdminPasswordChangeForm
from django.contrib.auth import REDIRECT_FIELD_NAME, authenticate
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import User
from django.contrib.auth.views import PasswordChangeView
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse, reverse_lazy
from django.utils.decorators import method_decorator
from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _, gettext_lazy, ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django_otp import login as otp_login

from authsite.accounts import login, second_factor
from authsite.accounts.sessions import end_sessions, sessions_of, stored_key
from authsite.accounts.sign_on import sessions
from authsite.accounts.sign_on.models import MAX_NAME, ExternalIdentity
from authsite.accounts.sign_on.refusals import SignOnRefused
from authsite.accounts.sign_on.views import refused, signed_out_page, wanted_page
from authsite.admin.links import without_refused_links
from devices.admin.base import reauthentication
from devices.admin.base.pages import site_page
from devices.admin.base.reauthentication import recently_authenticated
from devices.values.text import is_blank, skeleton


def check_password(request: HttpRequest, password: str) -> str:
    """Return the password of the account that is signed in; raise ValidationError for a wrong one.

    Failures are counted together with those of the login page.
    """
    name = sessions.password_name(request)
    if authenticate(request, username=name, password=password) != request.user:
        raise ValidationError(_("The password is wrong."), code="wrong")
    return password


def counted_as(request: HttpRequest, credentials: dict[str, Any] | None = None) -> str | None:
    """Return the name that failures of a password count under.

    It is the name as it was given, but for what a directory overlooks in it, which would buy five
    more guesses each: Active Directory finds `kim` by `kím` as well, and with what nobody sees.
    """
    name: str | None = (credentials or request.POST).get("username")
    if not (settings.LDAP_URL and name) or name.isascii():
        return name
    if User.objects.filter(username=name).exists():
        return name
    seen = "".join(char for char in name if not is_blank(char))
    return ExternalIdentity.objects.spelling(skeleton(seen))


class LoginForm(AdminAuthenticationForm):
    """Django's own, which tells browsers how long a name may be and takes any length."""

    error_messages = AdminAuthenticationForm.error_messages | {
        "invalid_login": gettext_lazy("The username or the password is wrong.")
    }

    def clean_username(self) -> str:
        """Refuse a name that no account can have, and return the name that failures count under."""
        name: str = self.cleaned_data["username"]
        if len(name) > MAX_NAME:
            raise self.get_invalid_login_error()
        return ExternalIdentity.objects.spelling(name) if settings.LDAP_URL else name


class ConfirmForm(forms.Form):
    password = forms.CharField(
        label=gettext_lazy("Password"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password", "autofocus": True}),
    )

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        self._request = request
        super().__init__(*args)

    def clean_password(self) -> str:
        return check_password(self._request, self.cleaned_data["password"])


class ChangePasswordForm(AdminPasswordChangeForm):
    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        self._request = request
        super().__init__(*args, **kwargs)

    def clean_old_password(self) -> str:
        return check_password(self._request, self.cleaned_data["old_password"])


class ChangePasswordView(PasswordChangeView):
    """The admin's page for a new password, with the failures counted."""

    form_class = ChangePasswordForm
    success_url = reverse_lazy("admin:password_change_done")

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "request": self.request}


class CodeInput(forms.PasswordInput):
    """A code as it is typed; one that was refused does not come back."""

    input_type = "text"


def code_field(help_text: Any, **attributes: Any) -> forms.CharField:
    """Return the field for a code, which browsers fill in from a message."""
    usual = {"autocomplete": "one-time-code", "spellcheck": "false"}
    widget = CodeInput(attrs={**usual, **attributes})
    label = gettext_lazy("Code")
    return forms.CharField(label=label, max_length=32, widget=widget, help_text=help_text)


class CodeForm(forms.Form):
    code = code_field(
        gettext_lazy("The six digits that your app shows now, or a recovery code."), autofocus=True
    )


class EnrolForm(forms.Form):
    code = code_field(gettext_lazy("The six digits that the app shows now."), inputmode="numeric")


def _by_its_form(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Lead whoever comes without the form, as after the password was asked for, to its page."""

    @wraps(view)
    def sent(site: Any, request: HttpRequest) -> HttpResponse:
        if request.method == "POST":
            return view(site, request)
        return HttpResponseRedirect(reverse("admin:factors"))

    return sent


class AccountPages(admin.AdminSite):
    """Admin site with a second factor, and with the password again before a secret is shown.

    A page links to nothing that the account may not see.
    """

    login_form = LoginForm
    login_template = "admin/accounts/login.html"

    def has_permission(self, request: HttpRequest) -> bool:
        """Whether the account is staff's and has given its second factor, where it must."""
        return super().has_permission(request) and second_factor.is_satisfied(request)

    def admin_view(self, view: Callable[..., Any], cacheable: bool = False) -> Any:
        """Return the view of a page, which then links to nothing that its reader may not see."""
        guarded = super().admin_view(view, cacheable)

        @wraps(guarded)
        def linked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            answer: HttpResponseBase = guarded(request, *args, **kwargs)
            if isinstance(answer, TemplateResponse) and not request.user.is_superuser:
                answer.add_post_render_callback(partial(without_refused_links, request))
            return answer

        return linked

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Say whether there is a page for the second factor."""
        return {
            **super().each_context(request),
            "second_factor_is_on": second_factor.is_on(),
            "sign_on_is_on": bool(settings.OIDC_ISSUER),
            "sign_on_label": settings.OIDC_LABEL or _("your company account"),
        }

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Add the pages; an account that has not given its second factor may still log out."""
        keep = self.admin_view
        pages: list[URLPattern | URLResolver] = [
            path("logout/", self.logout, name="logout"),
            path("confirm/", keep(self.confirm_identity), name="confirm_identity"),
            path("sessions/", keep(self.own_sessions), name="own_sessions"),
            path("second-factor/", self.second_factor, name="second_factor"),
            path("second-factor/settings/", self.factors, name="factors"),
            path("second-factor/app/", self.enrol_app, name="enrol_app"),
            path("second-factor/codes/", self.new_codes, name="new_codes"),
            path("second-factor/remove/", self.remove_factor, name="remove_factor"),
        ]
        return [*pages, *super().get_urls()]

    # --- Login and confirmation -----------------------------------------------------------

    @method_decorator(never_cache)
    @method_decorator(login_not_required)
    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        waits = super().has_permission(request) and not second_factor.is_satisfied(request)
        if request.method == "GET" and waits:
            return _to_next("admin:second_factor", request)
        context = {"passwords_are_for_emergencies": bool(settings.BREAK_GLASS_ACCOUNTS)}
        try:
            return super().login(request, {**context, **(extra_context or {})})
        except SignOnRefused as refusal:  # by the directory, which is no failure of the password
            return refused(request, refusal)

    @method_decorator(login_not_required)  # whose session is over by now is logged out, too
    def logout(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        """Log out, and lead whom a provider signed on to its sign-out."""
        by_provider = sessions.source(request) is sessions.Source.OPENID_CONNECT
        id_token = request.session.get(sessions.ID_TOKEN, "")
        response = super().logout(request, extra_context)
        if request.user.is_authenticated or not by_provider:
            return response
        return signed_out_page(request, id_token)

    @method_decorator([never_cache, sensitive_post_parameters()])
    def confirm_identity(self, request: HttpRequest) -> HttpResponse:
        """Ask for the password, and the second factor after it, then go back to the page.

        Whom a provider signed on is asked there; whom a proxy signed on, for the second factor.
        """
        source = sessions.source(request)
        if source is sessions.Source.OPENID_CONNECT:
            return self._page(request, "confirm_by_provider", _("Confirm that it is you"))
        if source is sessions.Source.PROXY:
            if not second_factor.is_enrolled(request.user):  # type: ignore[arg-type]
                return self._page(request, "confirm_by_nothing", _("Confirm that it is you"))
            login.record_password(request)
            return _to_next("admin:second_factor", request)
        form = ConfirmForm(request, request.POST or None)
        try:
            is_valid = form.is_valid()
        except SignOnRefused as refusal:
            return refused(request, refusal)
        if not is_valid:
            return self._page(request, "confirm_identity", _("Confirm that it is you"), form=form)
        login.record_password(request)
        if second_factor.is_enrolled(request.user):  # type: ignore[arg-type]
            return _to_next("admin:second_factor", request)
        login.forget_failures(request, request.user)
        reauthentication.confirm(request)
        return HttpResponseRedirect(wanted_page(request))

    @method_decorator([never_cache, sensitive_post_parameters()])
    def second_factor(self, request: HttpRequest) -> HttpResponse:
        """Ask for a code or a passkey; an account without one is sent to enrol."""
        user = self._staff(request)
        if not second_factor.is_enrolled(user):
            return _to_next("admin:factors", request)
        form = CodeForm(request.POST or None)
        if form.is_valid():
            code = form.cleaned_data["code"]
            verified: Any = authenticate(request, username=user.get_username(), code=code)
            if verified is not None:
                login.record_second_factor(request, verified.otp_device)
                return HttpResponseRedirect(wanted_page(request))
            form.add_error("code", _why_refused(second_factor.wait_after(user, code)))
        return self._page(
            request,
            "second_factor",
            _("Second step"),
            form=form if second_factor.has_codes(user) else None,
            has_passkeys=second_factor.passkeys(user).exists(),
        )

    def password_change(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        user: Any = request.user
        if not user.has_usable_password():
            # Whoever the company has thrown out must not come back by a password of this registry.
            return self._page(request, "no_password", _("Change password"))
        request.current_app = self.name
        context = {**self.each_context(request), **(extra_context or {})}
        return cast("TemplateResponse", ChangePasswordView.as_view(extra_context=context)(request))

    @method_decorator(never_cache)
    def own_sessions(self, request: HttpRequest) -> HttpResponse:
        """List the sessions of the account, the last used one first, and end others of them."""
        user: Any = request.user
        if request.method == "POST":
            only = request.POST.get("session")
            ended = end_sessions([user], keep=request.session.session_key, only=only)
            text = ngettext("%(n)d session ended.", "%(n)d sessions ended.", ended)
            messages.success(request, text % {"n": ended})
            return HttpResponseRedirect(reverse("admin:own_sessions"))
        own = stored_key(request.session.session_key)
        found = [
            {
                "key": key,
                "is_own": key == own,
                "began": datetime.fromtimestamp(held[login.SIGNED_IN_AT], UTC),
                "used": datetime.fromtimestamp(held[login.ACTIVE_AT], UTC),
                "by": source.label if (source := sessions.source_in(held)) else _("Password"),
                "browser": held.get(login.BROWSER),
                "address": held.get(login.BEGAN_FROM),
            }
            for key, held in sessions_of([user])
            if login.SIGNED_IN_AT in held
        ]
        found.sort(key=itemgetter("is_own", "used"), reverse=True)
        return self._page(request, "sessions", _("My sessions"), sessions=found)

    # --- The second factor ----------------------------------------------------------------

    @method_decorator(never_cache)
    def factors(self, request: HttpRequest) -> HttpResponse:
        return self._factors(request, self._enrolling(request))

    @method_decorator([never_cache, sensitive_post_parameters()])
    @recently_authenticated
    def enrol_app(self, request: HttpRequest) -> HttpResponse:
        """Show what an app needs to make codes, and verify its first code."""
        user = self._enrolling(request)
        form = EnrolForm(request.POST or None)
        if form.is_valid():
            code = form.cleaned_data["code"].strip()
            app = second_factor.finish_enrolment(user, request.session, code)
            if app is not None:
                otp_login(request, app)
                login.renew_session(request)
                messages.success(request, _("Your app is set up. Its codes are asked from now on."))
                if second_factor.recovery_device(user) is not None:
                    return HttpResponseRedirect(reverse("admin:factors"))
                codes = second_factor.issue_recovery_codes(user)
                return self._factors(request, user, codes=codes)
            wait = second_factor.wait_of(second_factor.begin_enrolment(user, request.session))
            form.add_error("code", _why_refused(wait))
        pending = second_factor.begin_enrolment(user, request.session)
        return self._page(
            request,
            "enrol_app",
            _("Set up an app for codes"),
            form=form,
            drawing=mark_safe(second_factor.qr_code(pending)),  # noqa: S308 (made by us)
            key=second_factor.typed_key(pending),
        )

    @method_decorator(never_cache)
    @recently_authenticated
    @_by_its_form
    def new_codes(self, request: HttpRequest) -> HttpResponse:
        """Replace the recovery codes and show the new ones, once."""
        user = self._enrolling(request)
        if not second_factor.is_enrolled(user):
            raise PermissionDenied
        return self._factors(request, user, codes=second_factor.issue_recovery_codes(user))

    @method_decorator(never_cache)
    @recently_authenticated
    @_by_its_form
    def remove_factor(self, request: HttpRequest) -> HttpResponse:
        """Remove the app, or a passkey; recovery codes go with the last of them."""
        user = self._enrolling(request)
        if second_factor.remove(user, request.POST.get("factor", "")):
            messages.success(request, _("Removed."))
        else:
            messages.warning(request, _("There is no such factor any more."))
        return HttpResponseRedirect(reverse("admin:factors"))

    def _factors(
        self, request: HttpRequest, user: Any, codes: list[str] | None = None
    ) -> HttpResponse:
        recovery = second_factor.recovery_device(user)
        return self._page(
            request,
            "factors",
            _("Second factor"),
            app=second_factor.totp_device(user),
            passkeys=second_factor.passkeys(user),
            codes=codes,
            codes_left=recovery.token_set.count() if recovery else 0,
            is_recent=reauthentication.is_recent(request),
            signed_on_by=sessions.source(request),
        )

    def _staff(self, request: HttpRequest) -> Any:
        """Return the account, whether or not it has given its second factor."""
        if not super().has_permission(request):
            raise PermissionDenied
        return request.user

    def _enrolling(self, request: HttpRequest) -> Any:
        """Return the account if it has given its second factor, or has none to give."""
        user = self._staff(request)
        if not second_factor.is_on() or (
            second_factor.is_enrolled(user) and not second_factor.is_given(request)
        ):
            raise PermissionDenied
        return user

    def _page(
        self, request: HttpRequest, template: str, title: str, **context: Any
    ) -> TemplateResponse:
        request.current_app = self.name
        return site_page(
            self,
            request,
            f"admin/accounts/{template}.html",
            title=title,
            next=wanted_page(request),
            minutes=settings.STAFF_CONFIRM_SECONDS // 60,
            **context,
        )


def _why_refused(wait: timedelta) -> str:
    """Return what staff are told of a code that was refused, and of a wait that is a long one."""
    minutes = math.ceil(wait / timedelta(minutes=1))
    if minutes <= 1:
        return _(
            "This code is wrong, was used already, or came too soon after a wrong one. "
            "Wait until your app shows the next one."
        )
    text = ngettext(
        "Too many wrong codes were given for your account, by you or by somebody else. Codes of "
        "this kind are accepted again in %(n)d minute. A passkey works at once, and an "
        "administrator can unlock your account.",
        "Too many wrong codes were given for your account, by you or by somebody else. Codes of "
        "this kind are accepted again in %(n)d minutes. A passkey works at once, and an "
        "administrator can unlock your account.",
        minutes,
    )
    return text % {"n": minutes}


def _to_next(view: str, request: HttpRequest) -> HttpResponseRedirect:
    """Lead to a page of ours that knows where staff wanted to go."""
    wanted = request.POST.get(REDIRECT_FIELD_NAME) or request.GET.get(REDIRECT_FIELD_NAME)
    query = {REDIRECT_FIELD_NAME: wanted} if wanted else None
    return HttpResponseRedirect(reverse(view, query=query))
