"""Pages, forms and habits that the admins of keys and of certificates share."""

from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.widgets import AdminTextInputWidget
from django.db.models import BigIntegerField, F, Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from devices.extension_points import GROUP_PANELS, GUARDS, PANELS, Panel, View
from devices.models import Device, DeviceGroup
from devices.rendering import NOTHING, REVOKED, Tone, badge, moment
from devices.verdicts import Outcome

SOON = timedelta(days=30)
CREDENTIAL_STATES = {
    Outcome.NOT_YET_VALID: gettext_lazy("not valid yet"),
    Outcome.EXPIRED: gettext_lazy("expired"),
    Outcome.REVOKED: gettext_lazy("revoked"),
    Outcome.PEPPER_MISSING: gettext_lazy("pepper missing"),
}
MAX_CREDENTIALS = 20  # of each kind, on a device's page


def credential_panels(request: HttpRequest, device: Device) -> list[Panel]:
    """Return the sections with a device's newest keys and certificates, revoked ones last."""
    return [
        _credential_panel(device, rows)
        for rows in (device.keys.all(), device.certificates.with_list_state().defer("pem"))
        if request.user.has_perm(f"devices.view_{rows.model._meta.model_name}")
    ]


def _credential_panel(device: Device, rows: QuerySet[Any]) -> Panel:
    now, meta = timezone.now(), rows.model._meta
    newest = list(
        rows.order_by(F("revoked_at").desc(nulls_first=True), "-pk")[: MAX_CREDENTIALS + 1]
    )
    shown = [
        {
            "row": row,
            "address": reverse(f"admin:devices_{meta.model_name}_change", args=[row.pk]),
            "state": state_badge(row.state_at(now)),
            "ends": moment(row.not_after) if row.revoked_at else expiry(row.not_after, now),
        }
        for row in newest[:MAX_CREDENTIALS]
    ]
    listed = reverse(f"admin:devices_{meta.model_name}_changelist")
    has_more = len(newest) > MAX_CREDENTIALS
    return Panel(
        title=capfirst(str(meta.verbose_name_plural)),
        template="admin/devices/device/credentials.html",
        context={
            "rows": shown,
            "all": f"{listed}?device__id__exact={device.pk}" if has_more else "",
        },
    )


def state_badge(outcome: Outcome) -> SafeString:
    """Return whether a credential admits its device, as a badge."""
    if outcome is Outcome.VERIFIED:
        return badge(Tone.GOOD, _("usable"))
    tone = Tone.SOON if outcome is Outcome.NOT_YET_VALID else Tone.BAD
    return badge(tone, CREDENTIAL_STATES.get(outcome, outcome.label))


def panels_of(request: HttpRequest, row: Device | DeviceGroup) -> list[Panel]:
    """Return the sections of a device's or a group's page."""
    if isinstance(row, Device):
        made = [make(request, row) for make in PANELS]
    else:
        made = [make(request, row) for make in GROUP_PANELS]
    return [panel for panel in made if panel is not None]


EDIT = "_edit"  # among what is sent: show the form as it was filled in, and save nothing


class NothingSaved:
    """Makes a form come back as it was filled in."""

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        self.add_error(None, _("Nothing is saved yet."))  # type: ignore[attr-defined]


class ChangeGuardMixin:
    """Makes an admin's every change pass the guards."""

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Add or change a row."""
        view = partial(super().changeform_view, request, *args, **kwargs)  # type: ignore[misc]
        return self.guarded(request, view)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Delete a row."""
        view = partial(super().delete_view, request, *args, **kwargs)  # type: ignore[misc]
        return self.guarded(request, view)

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """List rows, or act on some."""
        view = partial(super().changelist_view, request, *args, **kwargs)  # type: ignore[misc]
        return self.guarded(request, view)

    def restore_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Set a row back to what it said before."""
        view = partial(super().restore_view, request, *args, **kwargs)  # type: ignore[misc]
        return self.guarded(request, view)

    def guarded(self, request: HttpRequest, view: View) -> HttpResponse:
        """Answer as the view does, or as a guard does in its place."""
        if request.method == "POST":
            for guard in GUARDS:
                view = partial(guard, self, request, view)  # type: ignore[arg-type]
        return view()

    def get_form(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Return the form, or one that only comes back."""
        form = super().get_form(request, *args, **kwargs)  # type: ignore[misc]
        return type(form.__name__, (NothingSaved, form), {}) if EDIT in request.POST else form


class SaveChangedFieldsMixin:
    """Makes an admin save what was changed in the form, and no other field.

    Servers write beside staff: a revocation, evidence or a digest made anew that came between
    the reading and the saving of a row must stand.
    """

    def save_model(self, request: HttpRequest, obj: Model, form: forms.Form, change: bool) -> None:
        """Save a new row whole, a changed one in its changed columns; say what others changed."""
        if kept := getattr(form, "kept", []):
            text = _(
                "While the form lay open, others changed this; their change stands: %(fields)s."
            )
            messages.info(request, text % {"fields": ", ".join(kept)})
        columns = {field.name for field in obj._meta.concrete_fields}
        changed = (columns & set(form.changed_data)) | (columns & {"updated"})
        obj.save(update_fields=changed if change else None)


class InitialValuesMixin:
    """Makes an admin fill a new row's form with what its address says, but for keys of no row."""

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Return what the address says of the new row; Django would fail at such a key."""
        initial: dict[str, Any] = super().get_changeform_initial_data(request)  # type: ignore[misc]
        fields = {field.name for field in self.opts.get_fields() if field.is_relation}  # type: ignore[attr-defined]
        return {
            name: value
            for name, value in initial.items()
            if name not in fields or all(map(_is_key, [value] if isinstance(value, str) else value))
        }


def _is_key(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) <= BigIntegerField.MAX_BIGINT


class KeepRevokedMixin:
    """Makes an admin keep what was revoked: who, when, why, and that it stays so."""

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Leave out who revoked it, when and why, while nobody has."""
        fieldsets = super().get_fieldsets(request, obj)  # type: ignore[misc]
        if obj is not None and obj.revoked_at is None:
            return [one for one in fieldsets if REVOKED not in one[1]["fields"]]
        return fieldsets

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse to delete a revoked credential, alone or among others."""
        if obj is not None and obj.revoked_at is not None:
            return False
        allowed: bool = super().has_delete_permission(request, obj)  # type: ignore[misc]
        return allowed


class CredentialStateFilter(admin.SimpleListFilter):
    """Credentials by whether they admit their device; their QuerySet has `live_at`."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return [
            ("live", _("Live")),
            ("expiring", _("Expires within 30 days")),
            ("expired", _("Expired")),
            ("revoked", _("Revoked")),
        ]

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Any]:
        """Keep the credentials of the choice."""
        now = timezone.now()
        live = queryset.live_at(now)
        choices: dict[str | None, QuerySet[Any]] = {
            "live": live,
            "expiring": live.filter(not_after__lte=now + SOON),
            "expired": queryset.expired_at(now),
            "revoked": queryset.revoked(),
        }
        return choices.get(self.value(), queryset)


def expiry(ends: datetime | None, now: datetime) -> SafeString | str:
    """Return when something ends, with a badge where that is soon or past."""
    if ends is None:
        return NOTHING
    if ends <= now:
        return format_html("{} {}", moment(ends), badge(Tone.BAD, _("expired")))
    if ends > now + SOON:
        return moment(ends)
    days = (ends - now).days
    left = ngettext("in %(n)d day", "in %(n)d days", days) % {"n": days}
    return format_html("{} {}", moment(ends), badge(Tone.SOON, left))


class RevokeForm(forms.Form):
    """Why a credential is revoked."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        required=False,
        max_length=255,
        widget=AdminTextInputWidget,
    )


def form_page(
    model_admin: Any,
    request: HttpRequest,
    subject: Model,
    form: forms.Form,
    **context: Any,
) -> HttpResponse:
    """Return a page in the admin's dress with one form on it."""
    return TemplateResponse(
        request,
        "admin/devices/form_page.html",
        {
            **model_admin.admin_site.each_context(request),
            "opts": model_admin.opts,
            "original": subject,
            "form": form,
            "media": model_admin.media + form.media,
            **context,
        },
    )


def confirmation(
    model_admin: "admin.ModelAdmin[Any]",
    request: HttpRequest,
    queryset: QuerySet[Any],
    **context: Any,
) -> HttpResponse:
    """Return the page on which staff confirm an action on the selected rows."""
    return TemplateResponse(
        request,
        "admin/devices/confirmation.html",
        {
            **model_admin.admin_site.each_context(request),
            "opts": model_admin.opts,
            "rows": queryset,
            "action": request.POST["action"],
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
            **context,
        },
    )
