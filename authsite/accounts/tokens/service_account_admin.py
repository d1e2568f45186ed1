"""Pages for the accounts of services: who answers for each, its roles, its tokens."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.db.models import Count, Model, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy

from authsite.accounts.tokens.service_account import (
    ServiceAccount,
    check_free,
    check_held,
    names_of,
    permissions_of,
)
from devices.admin.base.forms import CurrentForm, LineInput, RowsField
from devices.admin.base.history import RecordedAdmin
from devices.admin.base.mixins import NoDeletingMixin
from devices.admin.base.pages import is_key
from devices.admin.base.rendering import CREATED, NOTHING, Tone, badge, enabled_badge
from devices.values.text import joined


class ServiceAccountForm(CurrentForm):
    """A service account with the roles and the state of its user."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=150, widget=LineInput)
    roles = RowsField(
        label=gettext_lazy("Roles"),
        queryset=Group.objects.order_by("name"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("What its tokens may do at most. None beyond your own."),
    )
    enabled = forms.BooleanField(
        label=gettext_lazy("Enabled"),
        required=False,
        initial=True,
        help_text=gettext_lazy("Disabling it ends its tokens for good."),
    )

    maker: Any = None  # the account that fills in the form

    class Meta:
        model = ServiceAccount
        fields = ["answerable", "purpose"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk is None:
            del self.fields["enabled"]
            return
        user = self.instance.user
        self.initial = {
            **self.initial,
            "name": user.get_username(),
            "roles": list(user.groups.values_list("pk", flat=True)),
            "enabled": user.is_active,
        }
        self.fields["name"].disabled = True
        self.fields["name"].show_hidden_initial = False

    def clean_name(self) -> str:
        name = User.normalize_username(self.cleaned_data["name"])
        if self.instance.pk is None:
            User._meta.get_field("username").run_validators(name)
            check_free(name)
        return name

    def clean_roles(self) -> Any:
        """Give no role that could do more than whoever gives it; those it has may stay."""
        roles = self.cleaned_data["roles"]
        had = self.instance.user.groups.all() if self.instance.pk else Group.objects.none()
        for role in roles:
            if role not in had:
                check_held(self.maker, names_of(role.permissions.all()))
        return roles

    def clean_enabled(self) -> bool:
        """Enable nothing that could do more than whoever enables it."""
        enabled: bool = self.cleaned_data["enabled"]
        if enabled and not self.instance.user.is_active:
            check_held(self.maker, permissions_of(self.instance.user))
        return enabled

    def clean(self) -> dict[str, Any]:
        """Bring nothing back that could do more than whoever names who answers for it."""
        cleaned = super().clean()
        if self.instance.pk is not None and cleaned.get("enabled") and "roles" in cleaned:
            user = self.instance.user
            own = Permission.objects.filter(Q(user=user.pk) | Q(group__in=cleaned["roles"]))
            self.instance.check_handed_on(names_of(own.distinct()), maker=self.maker)
        return cleaned

    def _current(self, name: str) -> Any:
        if name == "roles":
            return self.instance.user.groups.all()
        return self.instance.user.is_active if name == "enabled" else super()._current(name)


@admin.register(ServiceAccount)
class ServiceAccountAdmin(NoDeletingMixin, RecordedAdmin):
    purpose = gettext_lazy(
        "A service account is a program's: it has roles and tokens, cannot log in, and somebody "
        "answers for it."
    )
    form = ServiceAccountForm
    list_display = ["user", "is_enabled", "answerable", "purpose", "roles", "live_tokens", CREATED]
    list_select_related = ["user", "answerable"]
    search_fields = ["user__username", "purpose", "answerable__username"]
    search_help_text = gettext_lazy("Search by name, purpose or who answers for it.")
    # No autocompletion: whoever keeps service accounts may see no other accounts.
    fieldsets = [(None, {"fields": ["name", "answerable", "purpose", "roles", "enabled"]})]
    add_fieldsets = [(None, {"fields": ["name", "answerable", "purpose", "roles"]})]

    def get_queryset(self, request: HttpRequest) -> "QuerySet[ServiceAccount]":
        live = Q(user__tokens__revoked_at=None) & (
            Q(user__tokens__not_after=None) | Q(user__tokens__not_after__gt=timezone.now())
        )
        rows = super().get_queryset(request).prefetch_related("user__groups")
        return rows.annotate(live=Count("user__tokens", filter=live))

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        """Return the row; a POST locks its user, too, whose roles and state the form changes."""
        if request.method == "POST" and connection.in_atomic_block and is_key(object_id):
            users = User.objects.select_for_update(of=("self",), no_key=True).order_by()
            list(users.filter(service_account=int(object_id)).values_list("pk"))
        return super().get_object(request, object_id, from_field)

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        """Choose who answers for it, and make or change no account from here."""
        field: Any = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "answerable":
            for verb in ("add", "change", "delete", "view"):
                setattr(field.widget, f"can_{verb}_related", False)
        return field

    def get_form(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, *args, **kwargs)
        return type(form.__name__, (form,), {"maker": request.user})

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kw: Any) -> Any:
        return super().render_change_form(request, {**context, "show_delete": False}, *args, **kw)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            made = ServiceAccount.objects.create_account(
                form.cleaned_data["name"],
                answerable=form.cleaned_data["answerable"],
                purpose=form.cleaned_data["purpose"],
                roles=form.cleaned_data["roles"],
                maker=form.maker,
            )
            obj.pk, obj.user = made.pk, made.user
            return
        super().save_model(request, obj, form, change)
        if "roles" in form.changed_data:
            obj.user.groups.set(form.cleaned_data["roles"])
        if "enabled" in form.changed_data:
            obj.user.is_active = form.cleaned_data["enabled"]
            obj.user.save(update_fields=["is_active"])
            if not obj.user.is_active:
                messages.info(request, _("Its tokens have ended."))

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> Model:
        """Return the row; a new one gets its user when it is saved."""
        return form.save(commit=False)

    # What the form has fields for that are not the row's: shown to those who may only look.
    @admin.display(description=gettext_lazy("Name"))
    def name(self, account: ServiceAccount) -> str:
        return account.user.get_username()

    @admin.display(description=gettext_lazy("Enabled"), boolean=True)
    def enabled(self, account: ServiceAccount) -> bool:
        return account.user.is_active

    @admin.display(description=gettext_lazy("State"))
    def is_enabled(self, account: ServiceAccount) -> SafeString:
        if account.user.is_active and not account.answerable.is_active:
            return badge(Tone.BAD, _("nobody answers for it"))
        return enabled_badge(account.user.is_active)

    @admin.display(description=gettext_lazy("Roles"))
    def roles(self, account: ServiceAccount) -> str:
        return joined(group.name for group in account.user.groups.all()) or NOTHING

    @admin.display(description=gettext_lazy("Live tokens"), ordering="live")
    def live_tokens(self, account: Any) -> int:
        return account.live
