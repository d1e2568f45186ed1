"""Staff's view of devices, groups and pre-shared keys; certificates are registered beside it."""

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from devices.admin import try_credential
from devices.admin.actions import (
    BulkActionsMixin,
    Delete,
    Disable,
    Enable,
    Join,
    Leave,
    RevokeAll,
    dependants,
    not_deletable,
)
from devices.admin.certificate import CertificateAdmin, CertificateAuthorityAdmin
from devices.admin.changelist import (
    ANYWHERE,
    BoundedPaginator,
    CredentialsFilter,
    DeviceChangeList,
    GroupFilter,
    KindFilter,
    SeenFilter,
    StateFilter,
)
from devices.admin.forms import MOMENTS, CurrentForm
from devices.admin.history import HistoryMixin
from devices.admin.import_export import ImportExportMixin
from devices.admin.issue_key import IssueKeyMixin
from devices.admin.mixins import (
    ChangeGuardMixin,
    CredentialStateFilter,
    InitialValuesMixin,
    KeepRevokedMixin,
    RevokeForm,
    SaveChangedFieldsMixin,
    confirmation,
    credential_panels,
    expiry,
    form_page,
    panels_of,
    state_badge,
)
from devices.models import CredentialState, Device, DeviceGroup, PreSharedKey
from devices.models.credential_state import credential_state, next_expiry
from devices.models.device import first_group
from devices.models.revocation import revoke_all
from devices.rendering import (
    CREATED,
    LAST_SEEN,
    LAST_USED,
    NOTHING,
    REVOKED,
    UPDATED,
    Tone,
    badge,
    enabled_badge,
)

__all__ = ["CertificateAdmin", "CertificateAuthorityAdmin"]  # registered where they are written

CREDENTIAL_TONES = {
    CredentialState.NONE: Tone.BAD,
    CredentialState.EXPIRED: Tone.BAD,
    CredentialState.UNUSABLE: Tone.SOON,
    CredentialState.USABLE: Tone.GOOD,
}
MAX_GROUP_NAMES = 3  # of a device, in a list


@admin.register(DeviceGroup)
class DeviceGroupAdmin(
    ChangeGuardMixin,
    HistoryMixin,
    InitialValuesMixin,
    SaveChangedFieldsMixin,
    admin.ModelAdmin,
):
    """Groups: which there are, where they lie, how many devices each holds."""

    form = CurrentForm
    list_display = ["name", "parent", "device_count", "description"]
    list_select_related = ["parent"]
    list_filter = [("parent", admin.RelatedOnlyFieldListFilter)]
    search_fields = ["name", "description"]
    search_help_text = gettext_lazy("Search by name or description.")
    autocomplete_fields = ["parent"]
    fieldsets = [(None, {"fields": ["name", "parent", "description"]})]
    restores = ("name", "parent", "description")

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeviceGroup]:
        """Count the devices of each group that is shown, in the same statement."""
        members = Device.groups.through.objects.filter(devicegroup=OuterRef("pk")).order_by()
        counted = members.values("devicegroup").annotate(n=Count("pk")).values_list("n")  # type: ignore[misc]
        return (
            super()
            .get_queryset(request)
            .annotate(device_total=Coalesce(Subquery(counted), Value(0)))
        )

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Add the sections that other apps fill."""
        if (group := context.get("original")) is not None:
            context["panels"] = panels_of(request, group)
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=gettext_lazy("Devices"), ordering="device_total")
    def device_count(self, group: DeviceGroup) -> SafeString:
        """Return how many devices are direct members, with the way to them."""
        return format_html(
            '<a href="{}?group={}">{}</a>',
            reverse("admin:devices_device_changelist"),
            group.pk,
            group.device_total,  # type: ignore[attr-defined]
        )


@admin.register(Device)
class DeviceAdmin(
    ChangeGuardMixin,
    ImportExportMixin,
    HistoryMixin,
    BulkActionsMixin,
    IssueKeyMixin,
    InitialValuesMixin,
    SaveChangedFieldsMixin,
    admin.ModelAdmin,
):
    """Devices, with their keys and certificates beside them."""

    form = CurrentForm

    list_display = [
        "identifier",
        "name",
        "kind",
        "state",
        "group_names",
        LAST_SEEN,
        "credentials",
        "next_expiry",
    ]
    list_filter = [StateFilter, CredentialsFilter, SeenFilter, KindFilter, GroupFilter]
    paginator = BoundedPaginator
    search_fields = ["identifier", "name", "description"]
    search_help_text = gettext_lazy(
        "The beginning of an identifier; where none begins so, any part of an identifier, name or "
        "description. * at the beginning always searches for any part."
    )
    autocomplete_fields = ["groups"]
    readonly_fields = [CREATED, UPDATED, LAST_SEEN]
    list_per_page = 50
    show_full_result_count = False
    actions = [
        change.action() for change in (Enable(), Disable(), Join(), Leave(), RevokeAll(), Delete())
    ]
    restores = ("kind", "name", "description", "enabled", "attributes")
    fieldsets = [
        (None, {"fields": ["identifier", "name", "kind"]}),
        (gettext_lazy("Where it belongs"), {"fields": ["groups", "description", "attributes"]}),
        (gettext_lazy("Evidence"), {"fields": [LAST_SEEN, CREATED, UPDATED]}),
    ]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[DeviceChangeList]:
        """Compute the columns for the rows of one page."""
        return DeviceChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Device]:
        """Name what the computed columns sort by; it is computed where it is sorted by."""
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
        self, request: HttpRequest, queryset: QuerySet[Device], search_term: str
    ) -> tuple[QuerySet[Device], bool]:
        """Look identifiers up by how they begin, by the index; then anything by any part."""
        term = search_term.strip()
        if term and not term.startswith(ANYWHERE):
            begins = Q(identifier__startswith=term) | Q(identifier__startswith=term.lower())
            if Device.objects.filter(begins).exists():
                return queryset.filter(begins), False
        return super().get_search_results(request, queryset, term.removeprefix(ANYWHERE))

    def get_readonly_fields(self, request: HttpRequest, obj: Device | None = None) -> list[Any]:
        """Keep the identifier of a registered device: another ID is another device."""
        kept = [*self.readonly_fields]
        return [*kept, "identifier"] if obj else kept

    def get_fieldsets(self, request: HttpRequest, obj: Device | None = None) -> Any:
        """Ask whether a new device is enabled; a registered one is switched by its button."""
        first, *others = super().get_fieldsets(request, obj)
        fields = [*first[1]["fields"], *([] if obj else ["enabled"])]
        return [(None, {"fields": fields}), *others]

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Device | None = None,
    ) -> HttpResponse:
        """Add the device's state, its credentials and the sections that other apps fill."""
        if obj is not None:
            now = timezone.now()
            described = Device.objects.annotate(
                credential_state=credential_state(now), next_expiry=next_expiry(now)
            )
            context |= {
                "described": described.get(pk=obj.pk),
                "state": self.state(obj),
                "panels": [*credential_panels(request, obj), *panels_of(request, obj)],
            }
            shown = context["described"]
            context["credentials"] = self.credentials(shown)
            context["next_expiry"] = self.next_expiry(shown)
        return super().render_change_form(request, context, add, change, form_url, obj)

    @admin.display(description=gettext_lazy("State"), ordering="enabled")
    def state(self, device: Device) -> SafeString:
        """Return whether the device may connect at all."""
        return enabled_badge(device.enabled)

    @admin.display(description=gettext_lazy("Groups"), ordering="first_group", empty_value=NOTHING)
    def group_names(self, device: Device) -> SafeString:
        """Return the first groups of the device, and how many more there are."""
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

    @admin.display(description=gettext_lazy("Credentials"), ordering="credential_state")
    def credentials(self, device: Device) -> SafeString:
        """Return what the device could show now."""
        state = CredentialState(device.credential_state)  # type: ignore[attr-defined]
        return badge(CREDENTIAL_TONES[state], state.label)

    @admin.display(
        description=gettext_lazy("Next expiry"),
        ordering=F("next_expiry").asc(nulls_last=True),
    )
    def next_expiry(self, device: Device) -> SafeString | str:
        """Return when the first of its live credentials ends."""
        return expiry(device.next_expiry, timezone.now())  # type: ignore[attr-defined]

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Count what is deleted with a device, instead of listing thousands of rows."""
        pks = [device.pk for device in objs]
        found = dependants(Device.objects.filter(pk__in=pks))
        counts = {one.name: one.rows for one in found}
        return list(counts), counts, set(not_deletable(found, request.user)), []

    def get_urls(self) -> list[URLPattern]:
        """Add the pages that switch a device on and off."""
        pages = [
            path(
                f"<int:object_id>/{change.name}/",
                self.admin_site.admin_view(partial(self.set_enabled, change=change())),
                name=f"devices_device_{change.name}",
            )
            for change in (Enable, Disable)
        ]
        tools = [
            path(
                f"{view.__name__.replace('_', '-')}/",
                self.admin_site.admin_view(partial(view, model_admin=self)),
                name=f"devices_device_{view.__name__}",
            )
            for view in (try_credential.try_credential, try_credential.suggestions)
        ]
        return [*tools, *pages, *super().get_urls()]

    def set_enabled(
        self, request: HttpRequest, object_id: int, *, change: Enable | Disable
    ) -> HttpResponse:
        """Enable or disable one device, after a confirmation."""
        device = get_object_or_404(Device, pk=object_id)
        if not self.has_change_permission(request, device):
            raise PermissionDenied
        if request.method == "POST":
            return self.guarded(request, partial(self._set_enabled, request, device, change))
        return form_page(
            self,
            request,
            device,
            forms.Form(),
            title=change.title_of_one,
            text=change.text_of_one % {"identifier": device.identifier},
            button=change.button,
            destructive=change.is_destructive,
        )

    def _set_enabled(
        self, request: HttpRequest, device: Device, change: Enable | Disable
    ) -> HttpResponse:
        done = change.apply(Device.objects.filter(pk=device.pk), {}, by="")
        self.message_user(request, done, messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:devices_device_change", args=[device.pk]))


@admin.register(PreSharedKey)
class PreSharedKeyAdmin(
    HistoryMixin,
    KeepRevokedMixin,
    SaveChangedFieldsMixin,
    admin.ModelAdmin,
):
    """Keys across all devices: which are old, unused, about to end."""

    form = CurrentForm
    formfield_overrides = MOMENTS
    list_display = [
        "device",
        "label",
        "state",
        "shown_hint",
        "scheme",
        "ends",
        LAST_USED,
        CREATED,
    ]
    list_display_links = ["device", "label"]
    list_select_related = ["device"]
    list_filter = [CredentialStateFilter, "scheme", "pepper"]
    search_fields = ["device__identifier", "device__name", "label", "hint"]
    search_help_text = gettext_lazy(
        "Search by device, label or the first characters of a generated secret."
    )
    autocomplete_fields = ["device"]
    show_full_result_count = False
    actions = ["revoke"]
    readonly_fields = [
        "device",
        "state",
        "scheme",
        "shown_hint",
        "pepper",
        CREATED,
        LAST_USED,
        REVOKED,
        "revoked_by",
        "revoked_reason",
    ]
    fieldsets = [
        (None, {"fields": ["device", "label", "state"]}),
        (gettext_lazy("Validity"), {"fields": ["not_before", "not_after"]}),
        (
            gettext_lazy("Revocation"),
            {"fields": [REVOKED, "revoked_by", "revoked_reason"]},
        ),
        (
            gettext_lazy("Evidence"),
            {"fields": [LAST_USED, CREATED, "scheme", "shown_hint", "pepper"]},
        ),
    ]

    @admin.display(description=gettext_lazy("State"))
    def state(self, key: PreSharedKey) -> SafeString:
        """Return whether the key admits its device now, and why not."""
        return state_badge(key.state_at(timezone.now()))

    @admin.display(description=gettext_lazy("Secret begins"))
    def shown_hint(self, key: PreSharedKey) -> str:
        """Return the hint of a generated secret; a chosen one gives nothing away."""
        return key.hint or NOTHING

    @admin.display(description=gettext_lazy("Valid until"), ordering="not_after")
    def ends(self, key: PreSharedKey) -> SafeString | str:
        """Return when the key ends, and whether that is soon."""
        return expiry(key.not_after, timezone.now())

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Let nobody search for a digest by its beginnings."""
        return not lookup.startswith("digest") and super().lookup_allowed(lookup, value, request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Keys are issued from their device's page, where the secret is shown once."""
        return False

    @admin.action(description=gettext_lazy("Revoke selected keys"), permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[PreSharedKey]) -> HttpResponse | None:
        """Revoke the selected keys from their next use on, after a confirmation."""
        form = RevokeForm(request.POST if "confirmed" in request.POST else None)
        if not form.is_valid():
            return confirmation(
                self,
                request,
                queryset,
                title=_("Revoke keys"),
                text=_("These keys will admit nobody any more. This cannot be undone."),
                button=_("Revoke"),
                form=form,
            )
        revoked = revoke_all(queryset, by=request.user.get_username(), **form.cleaned_data)
        text = ngettext("%(n)d key revoked.", "%(n)d keys revoked.", revoked)
        self.message_user(request, text % {"n": revoked}, messages.SUCCESS)
        return None

    def get_urls(self) -> list[URLPattern]:
        """Add the page that revokes one key."""
        revoke = path(
            "<int:object_id>/revoke/",
            self.admin_site.admin_view(self.revoke_key),
            name="devices_presharedkey_revoke",
        )
        return [revoke, *super().get_urls()]

    def revoke_key(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Revoke one key, with a reason."""
        key = get_object_or_404(PreSharedKey.objects.select_related("device"), pk=object_id)
        if not self.has_change_permission(request, key):
            raise PermissionDenied
        form = RevokeForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            key.revoke(by=request.user.get_username(), **form.cleaned_data)
            self.message_user(request, _("The key is revoked."), messages.SUCCESS)
            return HttpResponseRedirect(
                reverse("admin:devices_device_change", args=[key.device_id])
            )
        return form_page(
            self,
            request,
            key,
            form,
            title=_("Revoke key"),
            text=format_html(
                _(
                    "Key “{key}” of <b>{device}</b> will admit nobody any more. "
                    "This cannot be undone."
                ),
                key=key,
                device=key.device,
            ),
            button=_("Revoke"),
            destructive=True,
        )
