"""Pages, forms and habits that the admins of keys and of certificates share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.widgets import AdminTextInputWidget
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from devices.models import Device
from devices.rendering import NOTHING, Tone, badge, moment

SOON = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Panel:
    """A section of a device's page that another app fills: its rules, its calls.

    `template` is rendered with `context` as `panel.context`.
    """

    title: str
    template: str
    context: Mapping[str, Any] = field(default_factory=dict)


# Called for each device's page, in order; None where there is nothing that this user may see. Apps
# that build on this one add theirs when they are ready.
PANELS: list[Callable[[HttpRequest, Device], Panel | None]] = []


def panels_of(request: HttpRequest, device: Device) -> list[Panel]:
    """Return the sections of a device's page."""
    made = (make(request, device) for make in PANELS)
    return [panel for panel in made if panel is not None]


class SavesChanges:
    """Makes an admin save what was changed in the form, and no other field.

    Servers write beside staff: a revocation, evidence or a digest made anew that came between
    the reading and the saving of a row must stand.
    """

    def save_model(self, request: HttpRequest, obj: Model, form: forms.Form, change: bool) -> None:
        """Save a new row whole, a changed one in its changed columns."""
        columns = {field.name for field in obj._meta.concrete_fields}
        changed = (columns & set(form.changed_data)) | (columns & {"updated"})
        obj.save(update_fields=changed if change else None)


class KeepsRevoked:
    """Makes an admin keep what was revoked: who, when, why, and that it stays so."""

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
            "expired": queryset.filter(revoked_at=None).exclude(pk__in=live.values("pk")),
            "revoked": queryset.exclude(revoked_at=None),
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
    model_admin: "admin.ModelAdmin[Any]",
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
