"""The admin of devices: their list, their page, their form, and what leads on from there."""

import uuid
from functools import reduce
from operator import or_
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import flatten_fieldsets
from django.contrib.admin.views.main import SEARCH_VAR
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy

from devices.admin.actions import Delete, Disable, Enable, Join, Leave, Move, RevokeAll
from devices.admin.attribute import (
    attribute_column,
    attribute_filter,
    attributes_form,
    field_name,
    value_text,
)
from devices.admin.base.actions import BulkActionsMixin
from devices.admin.base.changelist import ANYWHERE, is_large
from devices.admin.base.forms import ATTRIBUTE_PREFIX, FIELDS
from devices.admin.base.history import RecordedAdmin
from devices.admin.base.lists import ChosenColumnsMixin, SavedFiltersMixin
from devices.admin.base.mixins import ChangeGuardMixin, CountsDeletedMixin
from devices.admin.base.pages import DetailPageMixin
from devices.admin.base.rendering import (
    CREATED,
    LAST_SEEN,
    NOTHING,
    UPDATED,
    Tone,
    badge,
    enabled_badge,
    expiry,
    expiry_in_list,
)
from devices.admin.credentials.issue_key import ISSUE, IssueKeyMixin
from devices.admin.credentials.try_credential import TryCredentialMixin
from devices.admin.device_list import (
    CredentialsFilter,
    DeviceChangeList,
    GroupFilter,
    KindFilter,
    SeenFilter,
    StateFilter,
)
from devices.admin.import_export import ImportExportMixin
from devices.admin.panels import credential_panels, facts_of, panels_of
from devices.models import AttributeDefinition, CredentialState, Device
from devices.models.credentials.state import credential_state, next_expiry
from devices.models.device import first_group
from devices.values.addresses import is_storable
from devices.values.text import visible

CREDENTIAL_TONES = {
    CredentialState.NONE: Tone.BAD,
    CredentialState.EXPIRED: Tone.BAD,
    CredentialState.UNUSABLE: Tone.SOON,
    CredentialState.USABLE: Tone.GOOD,
}
MAX_GROUP_NAMES = 3  # of a device, in a list


def _attributes(request: HttpRequest) -> list[AttributeDefinition]:
    """Return the attributes that have a type, read once a request."""
    known = vars(request)
    if "attribute_definitions" not in known:
        known["attribute_definitions"] = AttributeDefinition.objects.in_force()
    return known["attribute_definitions"]


@admin.register(Device)
class DeviceAdmin(
    ChosenColumnsMixin,
    ChangeGuardMixin,
    CountsDeletedMixin,
    DetailPageMixin,
    SavedFiltersMixin,
    ImportExportMixin,
    BulkActionsMixin,
    IssueKeyMixin,
    TryCredentialMixin,
    RecordedAdmin,
):
    formfield_overrides = FIELDS
    detail_template = "admin/devices/device/page.html"

    list_display = [
        "identifier",
        "name",
        "state",
        "group_names",
        LAST_SEEN,
        "credentials",
        "next_expiry",
    ]
    more_columns = ("kind", "description", CREATED)
    list_filter = [StateFilter, CredentialsFilter, SeenFilter, KindFilter, GroupFilter]
    search_fields = ["identifier", "name", "description"]
    purpose = gettext_lazy(
        "A device is what connects: RTIO and the Cesanta backend ask this registry whether to let "
        "it in. Add one with a key, or import a file of many."
    )
    search_help_text = gettext_lazy(
        "The beginning of an identifier; where none begins so, any part of an identifier, name or "
        "description; of more than 50,000 devices, the beginning of a name. * at the beginning "
        "always searches for any part, and reads all devices for it."
    )
    autocomplete_fields = ["groups"]
    readonly_fields = [CREATED, UPDATED, LAST_SEEN]
    list_per_page = 50
    changes = (Enable(), Disable(), Join(), Leave(), Move(), RevokeAll(), Delete())
    actions = [change.action() for change in changes]
    fieldsets = [
        (None, {"fields": ["identifier", "name", "kind"]}),
        (gettext_lazy("Where it belongs"), {"fields": ["groups", "description", "attributes"]}),
        (gettext_lazy("Evidence"), {"fields": [LAST_SEEN, CREATED, UPDATED]}),
    ]

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """List devices; open the one whose whole identifier is searched for, and nothing else.

        An address that filters by an attribute without a filter is followed without it.
        """
        filters = {field_name(one) for one in _attributes(request) if one.is_filter}
        asked = [name for name in request.GET if name.startswith(ATTRIBUTE_PREFIX)]
        gone = [name for name in asked if name not in filters]
        if request.method == "GET" and gone:
            kept = request.GET.copy()
            for name in gone:
                del kept[name]
            text = _("This list does not filter by such an attribute any more: it was left out.")
            messages.warning(request, text)
            return HttpResponseRedirect(f"?{kept.urlencode()}")
        if request.method == "GET" and [*request.GET] == [SEARCH_VAR]:
            text = request.GET[SEARCH_VAR].strip()
            device = Device.objects.called(text) if is_storable(text) else None
            if device is not None and self.has_view_permission(request, device):
                return redirect("admin:devices_device_change", device.pk)
        return super().changelist_view(request, *args, **kwargs)

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        filtered = [one for one in _attributes(request) if one.is_filter]
        return [*super().get_list_filter(request), *map(attribute_filter, filtered)]

    def offered_columns(self, request: HttpRequest) -> list[Any]:
        return [*super().offered_columns(request), *map(attribute_column, _attributes(request))]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[DeviceChangeList]:
        return DeviceChangeList

    def has_revoke_credentials_permission(self, request: HttpRequest) -> bool:
        """Whether the user may revoke keys and certificates: a permission that actions name."""
        needed = ("devices.change_presharedkey", "devices.change_certificate")
        return self.has_view_permission(request) and request.user.has_perms(needed)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Device]:
        """Name what computed columns sort by; it is computed only where a list is sorted by it."""
        now = timezone.now()
        return (
            super()
            .get_queryset(request)
            .alias(
                credential_state=credential_state(now),
                next_expiry=next_expiry(now),
                first_group=first_group(),
            )
        )

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[QuerySet[Device], bool]:
        """Look identifiers up by how they begin, by the index; then anything by any part.

        Of many devices, what begins with the text has an index; its parts take seconds, and are
        looked for when asked for.
        """
        term = search_term.strip()
        if term and not term.startswith(ANYWHERE):
            begins = Q(identifier__startswith=term) | Q(identifier__startswith=term.lower())
            if Device.objects.filter(begins).exists():
                return queryset.filter(begins), False
            if is_large(Device):
                return queryset.with_name_prefix(term), False
        words = term.removeprefix(ANYWHERE).split()
        if not {'"', "'"}.isdisjoint(term):
            return super().get_search_results(request, queryset, " ".join(words))
        # A million devices are read for it: what has no letters is looked for as it is, and first.
        for word in [one for one in words if one.lower() == one.upper()]:
            parts = (Q(**{f"{name}__contains": word}) for name in self.search_fields)
            queryset = queryset.filter(reduce(or_, parts))
        lettered = " ".join(one for one in words if one.lower() != one.upper())
        return super().get_search_results(request, queryset, lettered)

    def get_readonly_fields(self, request: HttpRequest, obj: Device | None = None) -> list[Any]:
        """Keep the identifier of a registered device: another ID is another device."""
        return [*self.readonly_fields, *(["identifier"] if obj else [])]

    def get_form(
        self, request: HttpRequest, obj: Device | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        """Give each attribute that has a type a field of its own, for those who may write in it."""
        if self._may_write(request, obj):
            kwargs["form"] = form = attributes_form(_attributes(request))
            shown = flatten_fieldsets(self.get_fieldsets(request, obj))
            # The form has its own fields, and checks and saves them by itself.
            kwargs["fields"] = [name for name in shown if name not in form.base_fields]
        return super().get_form(request, obj, change, **kwargs)

    def _may_write(self, request: HttpRequest, device: Device | None) -> bool:
        if device is None:
            return self.has_add_permission(request)
        return self.has_change_permission(request, device)

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        field: Any = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "identifier" and field is not None:
            made_up = request.GET.copy()
            made_up["identifier"] = str(uuid.uuid4())
            text = _("No ID yet?")
            link = format_html('<a href="?{}">{}</a>', made_up.urlencode(), _("Make one up"))
            field.help_text = format_html("{} {} {}", field.help_text, text, link)
        return field

    def get_fieldsets(self, request: HttpRequest, obj: Device | None = None) -> Any:
        """Ask whether a new device is enabled; list the fields of attributes that have a type.

        A new device has no evidence.
        """
        first, place, *others = super().get_fieldsets(request, obj)
        if obj is None:
            others = []
        fields = [*first[1]["fields"], *([] if obj else ["enabled"])]
        typed = [field_name(one) for one in _attributes(request)]
        if typed and self._may_write(request, obj):
            kept = [name for name in place[1]["fields"] if name != "attributes"]
            others = [(_("Attributes"), {"fields": [*typed, "attributes"]}), *others]
            place = (place[0], {"fields": kept})
        return [(None, {"fields": fields}), place, *others]

    def save_model(self, request: HttpRequest, obj: Device, form: forms.Form, change: bool) -> None:  # type: ignore[override]
        """Save a device; warn of a new one that is easily taken for another, or is not for RTIO.

        And of a device that becomes a backend, and cannot be named by HTTP Basic. The page of a
        device itself says what RTIO cannot use.
        """
        super().save_model(request, obj, form, change)
        warnings = [] if change else obj.identifier_warnings()
        elsewhere = not {"_addanother", "_continue", ISSUE}.isdisjoint(request.POST)
        if not change and (elsewhere or not self.has_view_permission(request, obj)):
            warnings.append(obj.rtio_warning())
        if not change or "kind" in form.changed_data:
            warnings.append(obj.basic_warning())
        for warning in filter(None, warnings):
            messages.warning(request, warning)

    def detail_context(self, request: HttpRequest, row: Device) -> dict[str, Any]:
        now = timezone.now()
        shown = Device.objects.annotate(
            credential_state=credential_state(now), next_expiry=next_expiry(now)
        ).get(pk=row.pk)
        held = CredentialState(shown.credential_state)  # type: ignore[attr-defined]
        vars(row)["next_expiry"] = shown.next_expiry  # type: ignore[attr-defined]
        return {
            "state": enabled_badge(row.enabled),
            "credentials": badge(CREDENTIAL_TONES[held], held.label),
            "is_usable": held == CredentialState.USABLE,
            "next_expiry": expiry(shown.next_expiry, now),  # type: ignore[attr-defined]
            "facts": facts_of(request, row),
            "history_is_hidden": not self.may_see_history(request),
            "groups": row.groups.all(),
            "attributes": [
                (visible(name), value_text(value)) for name, value in row.attributes.items()
            ],
            "has_keys": row.keys.live_at(now).exists(),
            "panels": panels_of(request, row, *credential_panels(request, row)),
        }

    @admin.display(description=gettext_lazy("State"), ordering="enabled", empty_value="")
    def state(self, device: Device) -> SafeString | str:
        """Return what is not ordinary: a device that may not connect, or one that is a backend."""
        marks = [] if device.enabled else [enabled_badge(device.enabled)]
        if device.kind != Device.Kind.DEVICE:
            marks.append(badge(Tone.PLAIN, device.get_kind_display()))
        return format_html_join(" ", "{}", ((mark,) for mark in marks))

    @admin.display(description=gettext_lazy("Groups"), ordering="first_group", empty_value=NOTHING)
    def group_names(self, device: Device) -> SafeString:
        groups = list(device.groups.all())
        names = format_html_join(
            ", ",
            '<a href="{}">{}</a>',
            (
                (reverse("admin:devices_devicegroup_change", args=[group.pk]), group)
                for group in groups[:MAX_GROUP_NAMES]
            ),
        )
        more = len(groups) - MAX_GROUP_NAMES
        return format_html(_("{names} and {n} more"), names=names, n=more) if more > 0 else names

    @admin.display(
        description=gettext_lazy("Credentials"), ordering="credential_state", empty_value=""
    )
    def credentials(self, device: Device) -> SafeString | str:
        """Return what keeps a device from connecting now; nothing where it has what it needs."""
        state = CredentialState(device.credential_state)  # type: ignore[attr-defined]
        usable = state is CredentialState.USABLE
        return "" if usable else badge(CREDENTIAL_TONES[state], state.label)

    @admin.display(
        description=gettext_lazy("Next expiry"), ordering=F("next_expiry").asc(nulls_last=True)
    )
    def next_expiry(self, device: Device) -> SafeString | str:
        """Return when the last of its live credentials ends, and the device is locked out."""
        return expiry_in_list(device.next_expiry, timezone.now())  # type: ignore[attr-defined]
