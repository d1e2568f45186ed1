"""Pages on which staff show who they are and keep their second factor, as parts of the admin."""

from typing import Any
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth import REDIRECT_FIELD_NAME, authenticate
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST
from django_otp import login as note_second_factor

from authsite.accounts import login, second_factor
from devices import reauthentication
from devices.reauthentication import recently_authenticated


class ConfirmForm(forms.Form):
    """The password of who is signed in."""

    password = forms.CharField(
        label=gettext_lazy("Password"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password", "autofocus": True}),
    )

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        self._request = request
        super().__init__(*args)

    def clean_password(self) -> str:
        """Refuse a wrong one; failures are counted as those of the login page are."""
        password: str = self.cleaned_data["password"]
        name = self._request.user.get_username()
        if authenticate(self._request, username=name, password=password) != self._request.user:
            raise ValidationError(_("The password is wrong."), code="wrong")
        return password


class CodeForm(forms.Form):
    """A code of the account's app, or one of its recovery codes."""

    code = forms.CharField(
        label=gettext_lazy("Code"),
        max_length=32,
        widget=forms.TextInput(
            attrs={"autocomplete": "one-time-code", "autofocus": True, "spellcheck": "false"}
        ),
        help_text=gettext_lazy("The six digits that your app shows now, or a recovery code."),
    )


class EnrolForm(forms.Form):
    """The first code of an app."""

    code = forms.CharField(
        label=gettext_lazy("Code"),
        max_length=32,
        widget=forms.TextInput(
            attrs={"autocomplete": "one-time-code", "inputmode": "numeric", "spellcheck": "false"}
        ),
        help_text=gettext_lazy("The six digits that the app shows now."),
    )


class AccountPages(admin.AdminSite):
    """An admin site whose staff give a second factor, and their password again before a secret."""

    def has_permission(self, request: HttpRequest) -> bool:
        """Whether the account is staff's and has given its second factor, where it must."""
        return super().has_permission(request) and second_factor.is_satisfied(request)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Say whether there is a page for the second factor."""
        on = second_factor.demand() is not second_factor.Demand.OFF
        return {**super().each_context(request), "second_factor_is_on": on}

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Add the pages; who waits for the second step may leave instead."""
        keep = self.admin_view
        pages: list[URLPattern | URLResolver] = [
            path("logout/", self.logout, name="logout"),
            path("confirm/", keep(self.confirm_identity), name="confirm_identity"),
            path("second-factor/", self.second_factor, name="second_factor"),
            path("second-factor/settings/", self.factors, name="factors"),
            path("second-factor/app/", self.enrol_app, name="enrol_app"),
            path("second-factor/codes/", self.new_codes, name="new_codes"),
            path("second-factor/remove/", self.remove_factor, name="remove_factor"),
        ]
        return [*pages, *super().get_urls()]

    # --- Who is there ---------------------------------------------------------------------

    @method_decorator(never_cache)
    @method_decorator(login_not_required)
    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the login page, or the second step to who has done the first."""
        waits = super().has_permission(request) and not second_factor.is_satisfied(request)
        if request.method == "GET" and waits:
            return HttpResponseRedirect(_with_next(reverse("admin:second_factor"), request))
        return super().login(request, extra_context)

    @method_decorator([never_cache, sensitive_post_parameters()])
    def confirm_identity(self, request: HttpRequest) -> HttpResponse:
        """Ask for the password, and the second factor after it, then go back to the page."""
        form = ConfirmForm(request, request.POST or None)
        if not form.is_valid():
            return self._page(request, "confirm_identity", _("Confirm that it is you"), form=form)
        login.note_password(request)
        if second_factor.must_be_given(request.user):  # type: ignore[arg-type]
            return HttpResponseRedirect(_with_next(reverse("admin:second_factor"), request))
        reauthentication.confirm(request)
        return HttpResponseRedirect(self._next(request))

    @method_decorator([never_cache, sensitive_post_parameters()])
    def second_factor(self, request: HttpRequest) -> HttpResponse:
        """Ask for a code or a passkey; who must enrol first is sent to do so."""
        user = self._staff(request)
        if not second_factor.must_be_given(user):
            return HttpResponseRedirect(_with_next(reverse("admin:factors"), request))
        form = CodeForm(request.POST or None)
        if form.is_valid():
            device = second_factor.accept(user, form.cleaned_data["code"])
            if device is not None:
                note_second_factor(request, device)
                if login.password_was_given(request):
                    reauthentication.confirm(request)
                return HttpResponseRedirect(self._next(request))
            form.add_error(
                "code",
                _(
                    "This code is wrong, was used already, or came too soon after a wrong one. "
                    "Wait until your app shows the next one."
                ),
            )
        return self._page(
            request,
            "second_factor",
            _("Second step"),
            form=form if second_factor.has_codes(user) else None,
            has_passkeys=second_factor.passkeys_of(user).exists(),
        )

    # --- The second factor ----------------------------------------------------------------

    @method_decorator(never_cache)
    def factors(self, request: HttpRequest) -> HttpResponse:
        """Show what the account has."""
        user = self._enrolling(request)
        return self._factors(request, user)

    @method_decorator([never_cache, sensitive_post_parameters()])
    @recently_authenticated
    def enrol_app(self, request: HttpRequest) -> HttpResponse:
        """Show what an app needs to make codes, and take its first one."""
        user = self._enrolling(request)
        form = EnrolForm(request.POST or None)
        if form.is_valid():
            app = second_factor.finish_enrolment(user, form.cleaned_data["code"].strip())
            if app is not None:
                note_second_factor(request, app)
                messages.success(request, _("Your app is set up. Its codes are asked from now on."))
                return self._codes_or_factors(request, user)
            form.add_error("code", _("This is not the code that the app shows now. Try the next."))
        pending = second_factor.begin_enrolment(user)
        return self._page(
            request,
            "enrol_app",
            _("Set up an app for codes"),
            form=form,
            drawing=mark_safe(second_factor.drawing_of(pending)),  # noqa: S308 (made by us)
            key=second_factor.key_of(pending),
        )

    @method_decorator([never_cache, require_POST])
    @recently_authenticated
    def new_codes(self, request: HttpRequest) -> HttpResponse:
        """Make recovery codes anew and show them, once."""
        user = self._enrolling(request)
        if not second_factor.must_be_given(user):
            raise PermissionDenied
        return self._factors(request, user, codes=second_factor.issue_recovery_codes(user))

    @method_decorator([never_cache, require_POST])
    @recently_authenticated
    def remove_factor(self, request: HttpRequest) -> HttpResponse:
        """Remove the app, or a passkey; recovery codes go with the last of them."""
        user = self._enrolling(request)
        second_factor.remove(user, request.POST.get("factor", ""))
        messages.success(request, _("Removed."))
        return HttpResponseRedirect(reverse("admin:factors"))

    def _codes_or_factors(self, request: HttpRequest, user: Any) -> HttpResponse:
        """Show recovery codes to who has none yet."""
        if second_factor.recovery_of(user) is None:
            return self._factors(request, user, codes=second_factor.issue_recovery_codes(user))
        return HttpResponseRedirect(reverse("admin:factors"))

    def _factors(
        self, request: HttpRequest, user: Any, codes: list[str] | None = None
    ) -> HttpResponse:
        recovery = second_factor.recovery_of(user)
        return self._page(
            request,
            "factors",
            _("Second factor"),
            app=second_factor.app_of(user),
            passkeys=second_factor.passkeys_of(user),
            codes=codes,
            codes_left=recovery.token_set.count() if recovery else 0,
            is_recent=reauthentication.is_recent(request),
            required=second_factor.demand() is second_factor.Demand.REQUIRED,
        )

    def _staff(self, request: HttpRequest) -> Any:
        """Return the account, whether or not it has given its second factor."""
        if not super().has_permission(request):
            raise PermissionDenied
        return request.user

    def _enrolling(self, request: HttpRequest) -> Any:
        """Return the account if it has given its second factor, or has none to give."""
        user = self._staff(request)
        on = second_factor.demand() is not second_factor.Demand.OFF
        if not on or (second_factor.must_be_given(user) and not user.is_verified()):
            raise PermissionDenied
        return user

    def _page(
        self, request: HttpRequest, template: str, title: str, **context: Any
    ) -> HttpResponse:
        request.current_app = self.name
        return TemplateResponse(
            request,
            f"admin/accounts/{template}.html",
            {
                **self.each_context(request),
                "title": title,
                "next": self._next(request),
                "minutes": settings.STAFF_CONFIRM_SECONDS // 60,
                **context,
            },
        )

    def _next(self, request: HttpRequest) -> str:
        """Return where staff wanted to go, if that is on this site."""
        wanted = request.POST.get(REDIRECT_FIELD_NAME) or request.GET.get(REDIRECT_FIELD_NAME, "")
        safe = url_has_allowed_host_and_scheme(
            wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
        )
        return wanted if safe else reverse("admin:index")


def _with_next(address: str, request: HttpRequest) -> str:
    """Return an address of ours that knows where staff wanted to go."""
    wanted = request.POST.get(REDIRECT_FIELD_NAME) or request.GET.get(REDIRECT_FIELD_NAME)
    return f"{address}?{urlencode({REDIRECT_FIELD_NAME: wanted})}" if wanted else address
