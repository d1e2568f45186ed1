"""The accounts of staff in the admin, with their second factors."""

from collections.abc import Iterator
from copy import copy
from functools import reduce
from itertools import groupby
from operator import or_
from typing import Any

from axes.admin import AccessAttemptAdmin, AccessLogAdmin
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.forms import (
    AdminPasswordChangeForm,
    AdminUserCreationForm,
    UserChangeForm,
)
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db.models import Exists, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Concat
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import format_lazy
from django.utils.translation import gettext as _, gettext_lazy, ngettext, ngettext_lazy
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice

from authsite.accounts import login, second_factor
from authsite.accounts.account import Account
from authsite.accounts.sessions import end_sessions
from authsite.accounts.sign_on.models import ExternalIdentity
from authsite.accounts.superusers import check_superuser_remains, take_superusers_turn
from authsite.accounts.tokens import scopes
from authsite.accounts.tokens.service_account import check_free
from authsite.roles import EFFECTIVE
from devices.admin.base.actions import BulkActionsMixin, BulkChange
from devices.admin.base.forms import CurrentForm, RowsField
from devices.admin.base.mixins import ReadOnlyMixin, SaveChangedFieldsMixin, SuperusersMixin
from devices.admin.base.pages import is_key, own_page
from devices.admin.base.reauthentication import recently_authenticated
from devices.admin.base.rendering import (
    NOTHING,
    Tone,
    badge,
    field_column,
    moment,
    moment_column,
)
from devices.models.dependants import links, undeletable
from devices.values.moments import in_utc
from devices.values.text import capitalized, isolated, joined

LAST_LOGIN = moment_column("last_login", gettext_lazy("Last login"))
JOINED = moment_column("date_joined", gettext_lazy("Created"))

# Staff keep their factors on pages of their own; failed logins are kept as attempts.
admin.site.unregister(
    [AccessAttempt, AccessFailureLog, AccessLog, Group, StaticDevice, TOTPDevice, User]
)


class PermissionsByRows(forms.models.ModelChoiceIterator):
    """Permissions by the kind of rows that they are about, as on the form of a token."""

    def __iter__(self) -> Iterator[Any]:
        verbs = {verb: place for place, verb in enumerate(scopes.VERBS)}
        by_kind = [
            (kind, sorted(permissions, key=lambda one: (verbs.get(_verb(one), len(verbs)), one.pk)))
            for kind, permissions in groupby(
                sorted(self.queryset, key=lambda one: one.content_type_id),
                key=lambda one: one.content_type,
            )
        ]
        for kind, permissions in sorted(by_kind, key=lambda found: _place(found[0])):
            yield _rows(kind), [self.choice(one) for one in permissions]


class PermissionsField(RowsField):
    """Boxes to tick: see, add, change, delete, and what else can be done to rows."""

    iterator = PermissionsByRows
    widget = forms.CheckboxSelectMultiple

    def label_from_instance(self, obj: Any) -> SafeString:
        """Return the action; a screen reader reads the kind of rows before it."""
        action = scopes.VERBS.get(_verb(obj), _(obj.name))
        rows = _rows(obj.content_type)
        return format_html('<span class="visually-hidden">{}: </span>{}', rows, action)


def _place(kind: ContentType) -> tuple[Any, ...]:
    """Return where a kind of rows stands: the registry's first, those of no model any more last."""
    model = kind.model_class()
    if model is None:
        return True, True, (kind.pk,)
    return False, kind.app_label not in {*scopes.APPS, "auth"}, scopes.place(model)


def _rows(kind: ContentType) -> str:
    """Return what rows are called on their pages: Django's groups are roles here.

    Accounts are there twice: what opens their pages, and what changes them over the API.
    """
    model: Any = kind.model_class()
    if model is None:  # a role may still hold permissions of what an older release had
        return kind.model
    if model is User:
        return _("Accounts, in the admin")
    if model is Account:
        return _("Accounts, over the API")
    if admin.site.is_registered(model):
        return capitalized(str(admin.site.get_model_admin(model).opts.verbose_name_plural))
    return scopes.rows_of(model)


def _verb(permission: Any) -> str:
    return str(permission.codename.partition("_")[0])


def permissions_field(db_field: Any, request: HttpRequest) -> Any:
    """Return the field for the permissions of a role, or those of an account beside its roles.

    It offers what has an effect, and what the row holds already: a form that left that out
    could neither keep it nor take it away.
    """
    full_name = Concat("content_type__app_label", Value("."), "codename")
    offered = Q(full_name__in=EFFECTIVE)
    match = request.resolver_match
    key = unquote(str(match.kwargs.get("object_id", ""))) if match else ""
    if is_key(key):  # of the row whose page it is; a new one holds nothing yet
        held = Permission.objects.filter(**{db_field.related_query_name(): key})
        offered |= Q(pk__in=held.values("pk"))
    rows = Permission.objects.alias(full_name=full_name).filter(offered)
    rows = rows.select_related("content_type").order_by("content_type", "pk")
    return db_field.formfield(form_class=PermissionsField, queryset=rows, help_text="")


NO_PASSWORD = gettext_lazy("Without a password, the account logs in by single sign-on alone.")
LOSES_PASSWORD = format_lazy(
    '{} <ul id="id_unusable_warning" class="messagelist"><li class="warning">{}</li></ul>',
    NO_PASSWORD,
    gettext_lazy("The password that it has now will be lost."),
)


class NewStaffForm(AdminUserCreationForm):
    usable_password = AdminUserCreationForm.create_usable_password_field(NO_PASSWORD)


class StaffPasswordForm(AdminPasswordChangeForm):
    usable_password_help_text = LOSES_PASSWORD  # type: ignore[assignment] # a lazy text


class StaffForm(CurrentForm, UserChangeForm):
    """Change an account, and undo nothing that others changed meanwhile."""

    class Meta(UserChangeForm.Meta):
        help_texts = {
            "is_active": gettext_lazy("Disable an account instead of deleting it."),
            "is_superuser": gettext_lazy("The account may do everything, without a role."),
        }

    def clean_username(self) -> str:
        """Refuse the name of another account, in whatever capitals."""
        name: str = self.cleaned_data["username"]
        if "username" in self.changed_data:
            check_free(name, besides=self.instance.pk)
        return name

    def clean(self) -> dict[str, Any]:
        """Refuse to take the last active superuser away."""
        cleaned = super().clean()
        for name in ("is_active", "is_superuser"):
            if name in self.changed_data and not cleaned.get(name):
                try:
                    check_superuser_remains([self.instance.pk])
                except ValidationError as error:
                    self.add_error(name, error)
        return cleaned


class NamedMixin(admin.ModelAdmin):
    """Calls a model of Django's on its pages as staff call it."""

    names: tuple[Any, Any]  # of one, and of many

    def __init__(self, model: Any, admin_site: Any) -> None:
        super().__init__(model, admin_site)
        # Looked up before: a copy finds no rows that refer to the model's, and keeps for both of
        # them what it finds. Then no query could name the tokens of an account any more.
        self.opts.get_fields()
        self.opts = copy(self.opts)
        self.opts.verbose_name, self.opts.verbose_name_plural = self.names

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        found = super().get_changelist_instance(request)
        found.opts = self.opts
        return found

    def get_deleted_objects(self, objs: Any, request: Any) -> Any:
        """Count what is deleted with the rows, and not the rows themselves.

        Nobody deletes tokens or service accounts by hand, and no permission lets anybody: whoever
        may delete an account deletes what is only there with it.
        """
        shown, counts, lacking, protected = super().get_deleted_objects(objs, request)
        for hidden in (self.model._meta.verbose_name_plural, *links(self.model)):
            counts.pop(hidden, None)
        return shown, counts, set(lacking) - undeletable(self.model), protected


TRIED = moment_column("attempt_time", gettext_lazy("Time"))
LOGGED_OUT = moment_column("logout_time", gettext_lazy("Logged out"))
ADDRESS = field_column("ip_address", gettext_lazy("IP address"))
BROWSER = field_column("user_agent", gettext_lazy("Browser"))
FAILURES = field_column("failures_since_start", gettext_lazy("Failures"))
ACCEPTED = field_column("http_accept", gettext_lazy("Accepted types"))
SENT: Any = (gettext_lazy("What the browser said"), {"fields": [BROWSER, ADDRESS, ACCEPTED]})


class LoginsMixin(NamedMixin):
    """Shows what django-axes keeps, which has no history."""

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kw: Any) -> Any:
        context["history_is_hidden"] = True
        if row := kw.get("obj"):
            context["heading"] = f"{isolated(row.username)}, {in_utc(row.attempt_time)}"
        return super().render_change_form(request, context, *args, **kw)


@admin.register(AccessAttempt)
class FailedLoginAdmin(LoginsMixin, AccessAttemptAdmin):  # type: ignore[misc]
    purpose = gettext_lazy(
        "Logins that failed are kept here for a while. Too many of them lock an account, which its "
        "page unlocks."
    )
    names = (gettext_lazy("failed login"), gettext_lazy("failed logins"))
    # Not what was sent: none of it is kept.
    fieldsets = [
        (None, {"fields": ["username", "path_info", FAILURES, "expiration"]}),
        SENT,
    ]
    readonly_fields = ["username", "path_info", FAILURES, "expiration", BROWSER, ADDRESS, ACCEPTED]
    list_display = [TRIED, ADDRESS, BROWSER, "username", "path_info", FAILURES, "status"]
    actions = ()  # django-axes' own forgets what a request lacks here; logins forget by themselves


@admin.register(AccessLog)
class LoginAdmin(LoginsMixin, AccessLogAdmin):  # type: ignore[misc]
    names = (gettext_lazy("login"), gettext_lazy("logins"))
    fieldsets = [(None, {"fields": ["username", "path_info"]}), SENT]
    readonly_fields = ["username", "path_info", BROWSER, ADDRESS, ACCEPTED]
    list_display = [TRIED, LOGGED_OUT, ADDRESS, "username", BROWSER, "path_info"]

    has_change_permission = ReadOnlyMixin.has_change_permission  # no buttons to save what is shown


@admin.register(Group)
class RoleAdmin(SuperusersMixin, NamedMixin, SaveChangedFieldsMixin, GroupAdmin):
    names = (gettext_lazy("role"), gettext_lazy("roles"))
    purpose = gettext_lazy("A role is a set of permissions, which accounts have together.")
    list_display = ["name"]
    form = CurrentForm

    def formfield_for_manytomany(self, db_field: Any, request: Any = None, **kwargs: Any) -> Any:
        """Offer the permissions as boxes to tick."""
        return permissions_field(db_field, request)

    def get_deleted_objects(self, objs: Any, request: Any) -> Any:
        """Count what goes with roles, and how often accounts have them."""
        shown, counts, *others = super().get_deleted_objects(objs, request)
        if granted := User.groups.through.objects.filter(group__in=objs).count():
            counts[_("grants to accounts")] = granted
        return shown, counts, *others


class RoleFilter(admin.RelatedFieldListFilter):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = _("role")


class LogOut(BulkChange):
    """Ends all sessions of accounts but that of whoever does it."""

    name = "log_out"
    description = gettext_lazy("Log out selected accounts")
    title = gettext_lazy("Log out accounts")
    text = gettext_lazy(
        "All sessions of these accounts end at once, in every browser; what is being typed there "
        "is lost. They can log in again:"
    )
    button = gettext_lazy("Log out")
    done = ngettext_lazy("%(n)d session ended.", "%(n)d sessions ended.", "n")
    is_destructive = True
    can_be_undone = False

    def change(self, rows: Any, given: dict[str, Any], request: HttpRequest) -> int:
        ended = end_sessions(rows, keep=request.session.session_key)
        _log(request, rows, "Logged out everywhere.")
        return ended


class RemoveFactors(BulkChange):
    """Takes every second factor off accounts."""

    name = "remove_second_factors"
    description = gettext_lazy("Remove the second factors of selected accounts")
    permissions = ("remove_factors",)
    title = gettext_lazy("Remove second factors")
    text = gettext_lazy(
        "These accounts will log in with their password alone until they set up a new second "
        "factor:"
    )
    button = gettext_lazy("Remove")
    done = ngettext_lazy("%(n)d account changed.", "%(n)d accounts changed.", "n")
    is_destructive = True
    can_be_undone = False

    def change(self, rows: Any, given: dict[str, Any], request: HttpRequest) -> int:
        changed = sum(second_factor.remove_all(user) > 0 for user in rows)
        _log(request, rows, "Removed the second factors.")
        return changed


def _log(request: HttpRequest, users: QuerySet[User], text: str) -> None:
    """Leave a line about each account in the log of the admin, which they have for history."""
    by: Any = request.user
    LogEntry.objects.log_actions(by.pk, users, CHANGE, change_message=text)


# After both, whoever did it knows a password of the account: a way in.
@admin.register(User)
@method_decorator(recently_authenticated, name="add_view")
@method_decorator(recently_authenticated, name="user_change_password")
class StaffAdmin(SuperusersMixin, NamedMixin, BulkActionsMixin, SaveChangedFieldsMixin, UserAdmin):
    """Accounts: roles, second factors, last logins, and the way back in after a loss.

    Whoever has a role is staff, and so may log in here; whoever has none is not.
    """

    names = (gettext_lazy("account"), gettext_lazy("accounts"))
    form = StaffForm
    add_form = NewStaffForm
    change_password_form = StaffPasswordForm
    purpose = gettext_lazy("An account of a person. Its roles say what it may see and do here.")
    list_display = ["username", "email", "roles", "factor", LAST_LOGIN, "standing"]
    list_filter = [("groups", RoleFilter), "is_superuser", "is_active"]
    filter_horizontal = ()
    readonly_fields = ["factor", "standing", "signs_on_by", LAST_LOGIN, JOINED]
    actions = [
        "unlock_accounts",
        LogOut().action(),
        recently_authenticated(RemoveFactors().action()),
    ]
    fieldsets = [
        (None, {"fields": ["username", "first_name", "last_name", "email"]}),
        (
            gettext_lazy("Roles"),
            {
                "fields": ["groups", "is_superuser", "is_active"],
                "description": gettext_lazy(
                    "Whoever has a role may log in here; whoever has none may not."
                ),
            },
        ),
        (
            gettext_lazy("Login"),
            {"fields": ["signs_on_by", "factor", "standing", LAST_LOGIN, JOINED]},
        ),
        (
            gettext_lazy("Single permissions beside the roles"),
            {"fields": ["user_permissions"], "classes": ["collapse"]},
        ),
    ]
    add_fieldsets = [
        (None, {"fields": ["username", "usable_password", "password1", "password2", "groups"]})
    ]

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        """Leave out a state that keeps nobody from logging in."""
        found = super().get_fieldsets(request, obj)
        if obj is None or self.standing(obj):
            return found
        return [
            (title, {**options, "fields": [one for one in options["fields"] if one != "standing"]})
            for title, options in found
        ]

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        """Return the account; a POST waits for its turn, and then locks the row."""
        if request.method == "POST":
            take_superusers_turn()
        return super().get_object(request, object_id, from_field)

    def get_deleted_objects(self, objs: Any, request: Any) -> Any:
        """Let nobody delete the last active superuser."""
        *found, protected = super().get_deleted_objects(objs, request)
        try:
            check_superuser_remains([user.pk for user in objs])
        except ValidationError:
            last = _("No other active superuser would be left.")
            return *found, [*protected, last]
        return *found, protected

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        self.delete_queryset(request, User.objects.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        chosen = list(queryset.values_list("pk", flat=True))
        Account.objects.filter(pk__in=chosen).delete_with_tokens()

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        with_factor = (
            Exists(model.objects.filter(user=OuterRef("pk"), confirmed=True))
            for model in second_factor.FACTORS
        )
        rows = super().get_queryset(request).prefetch_related("groups")
        rows = rows.select_related("service_account")
        return rows.annotate(
            has_factor=reduce(or_, (Q(one) for one in with_factor)),
            locked=Exists(login.lockouts().filter(username=OuterRef("username"))),
        )

    def formfield_for_manytomany(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        """Offer the few roles as boxes to tick."""
        if db_field.name == "groups":
            kwargs["widget"] = forms.CheckboxSelectMultiple
            field = db_field.formfield(**kwargs)
            field.label, field.help_text = _("Roles"), ""
            return field
        return permissions_field(db_field, request)

    def save_related(self, request: Any, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if {"groups", "is_superuser", "user_permissions"} & set(form.changed_data):
            user = form.instance
            granted = user.groups.exists() or user.user_permissions.exists()
            user.is_staff = user.is_superuser or granted
            user.save(update_fields=["is_staff"])

    def render_change_form(self, request: Any, context: Any, *args: Any, **kwargs: Any) -> Any:
        obj = kwargs.get("obj")
        context["is_locked"] = obj is not None and obj.locked
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=gettext_lazy("Roles"))
    def roles(self, user: User) -> str:
        names = sorted(group.name for group in user.groups.all())
        return joined([*([_("superuser")] if user.is_superuser else []), *names])

    @admin.display(description=gettext_lazy("Second factor"))
    def factor(self, user: User) -> SafeString | str:
        """Return whether the account has one, marked where it must and has not."""
        if user.has_factor:  # type: ignore[attr-defined]
            return _("set up")
        return badge(Tone.SOON, _("none")) if second_factor.is_required(user) else NOTHING

    @admin.display(description=gettext_lazy("Logs in with"))
    def signs_on_by(self, user: User) -> SafeString | str:
        """Return what proves that it is this person: a password here, or a provider, and when."""
        identity = ExternalIdentity.objects.filter(user=user).first()
        if identity is None:
            return _("a password of this registry") if user.has_usable_password() else NOTHING
        provider = identity.get_source_display()
        if identity.issuer:
            provider = f"{provider}, {identity.issuer}"
        return format_html(
            _("{provider}, as <bdi>{subject}</bdi>; last {moment}"),
            provider=provider,
            subject=identity.subject,
            moment=moment(identity.last_signed_on_at),
        )

    @admin.display(description=gettext_lazy("State"), empty_value="")
    def standing(self, user: User) -> SafeString | str:
        marks = []
        if not user.is_active:
            marks.append(badge(Tone.OFF, _("disabled")))
        elif hasattr(user, "service_account"):
            marks.append(badge(Tone.PLAIN, _("service")))
        elif not user.is_staff:
            marks.append(badge(Tone.OFF, _("no role")))
        if user.locked:  # type: ignore[attr-defined]
            marks.append(badge(Tone.BAD, _("locked")))
        return format_html_join(" ", "{}", ((mark,) for mark in marks)) if marks else ""

    @own_page("<int:object_id>/unlock/", needs="change")
    def unlock(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Let an account try again that failed too often."""
        if request.method == "POST":
            self.unlock_accounts(request, User.objects.filter(pk=object_id))
        return HttpResponseRedirect(reverse("admin:auth_user_change", args=[object_id]))

    @admin.action(description=gettext_lazy("Unlock selected accounts"), permissions=["change"])
    def unlock_accounts(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Forget the failed logins under these names, from every address."""
        unlocked = 0
        for user in queryset:
            if login.unlock(user):
                unlocked += 1
                self.log_change(request, user, "Unlocked.")
        if not unlocked:
            messages.info(request, _("No account was locked."))
            return
        text = ngettext("%(n)d account unlocked.", "%(n)d accounts unlocked.", unlocked)
        messages.success(request, text % {"n": unlocked})

    def has_remove_factors_permission(self, request: HttpRequest) -> bool:
        """Leave it to superusers: without its second factor an account is open to a password."""
        return bool(request.user.is_superuser) and second_factor.is_on()
