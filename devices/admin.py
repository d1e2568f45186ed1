"""Staff's view of devices, groups and pre-shared keys; certificates are registered beside it."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminSplitDateTime, AdminTextInputWidget
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Count, F, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from devices import secrets
from devices.admin_certificates import CertificateInline
from devices.admin_history import HistoryPages
from devices.admin_lists import (
    ANYWHERE,
    BoundedPaginator,
    CredentialsFilter,
    DeviceChangeList,
    GroupFilter,
    KindFilter,
    SeenFilter,
    StateFilter,
)
from devices.admin_pages import (
    CredentialStateFilter,
    KeepsRevoked,
    RevokeForm,
    SavesChanges,
    confirmation,
    expiry,
    form_page,
    panels_of,
)
from devices.models import CredentialState, Device, DeviceGroup, PreSharedKey
from devices.models.devices import credential_state, first_group, next_expiry
from devices.rendering import NOTHING, Tone, badge, enabled_badge, moment_column
from devices.verdicts import Outcome

OVERLAPS = {
    0: gettext_lazy("at once"),
    1: gettext_lazy("in an hour"),
    24: gettext_lazy("in a day"),
    7 * 24: gettext_lazy("in a week"),
    30 * 24: gettext_lazy("in 30 days"),
}

CREDENTIAL_TONES = {
    CredentialState.NONE: Tone.BAD,
    CredentialState.EXPIRED: Tone.BAD,
    CredentialState.UNUSABLE: Tone.SOON,
    CredentialState.USABLE: Tone.GOOD,
}
MOST_GROUP_NAMES = 3  # of a device, in a list


class IssueKeyForm(forms.Form):
    """What staff say of a new key; an empty secret means a generated one."""

    label = forms.CharField(
        label=gettext_lazy("Label"),
        required=False,
        max_length=100,
        widget=AdminTextInputWidget,
        help_text=gettext_lazy("What staff call this key, such as “factory” or “2026”."),
    )
    not_before = forms.SplitDateTimeField(
        label=gettext_lazy("Valid from"), required=False, widget=AdminSplitDateTime
    )
    not_after = forms.SplitDateTimeField(
        label=gettext_lazy("Valid until"), required=False, widget=AdminSplitDateTime
    )
    secret = forms.CharField(
        label=gettext_lazy("Known secret"),
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "class": "vTextField"}),
        help_text=gettext_lazy(
            "Leave empty to have one generated, which is safer. Fill in only a secret that the "
            "device has already: 3 to 128 characters."
        ),
    )
    random = forms.BooleanField(
        label=gettext_lazy("The known secret is random"),
        required=False,
        help_text=gettext_lazy(
            "A machine made it, with at least 128 bits: it is then checked as fast as a "
            "generated one."
        ),
    )

    def clean(self) -> dict[str, Any]:
        """Check a known secret before anything is made of it."""
        cleaned = super().clean() or {}
        if cleaned.get("secret"):
            try:
                secrets.check_usable(cleaned["secret"], random=cleaned["random"])
            except ValidationError as error:
                self.add_error("secret", error)
        return cleaned


class RotateKeysForm(forms.Form):
    """When the old keys end."""

    overlap = forms.TypedChoiceField(
        label=gettext_lazy("The old keys end"),
        choices=OVERLAPS,
        coerce=int,
        initial=24,
        help_text=gettext_lazy("Until then old and new secrets admit the device."),
    )
    label = forms.CharField(
        label=gettext_lazy("New label"),
        required=False,
        max_length=100,
        widget=AdminTextInputWidget,
    )


@admin.register(DeviceGroup)
class DeviceGroupAdmin(HistoryPages, admin.ModelAdmin):
    """Groups: which there are, where they lie, how many devices each holds."""

    list_display = ["name", "parent", "device_count", "description"]
    list_select_related = ["parent"]
    list_filter = [("parent", admin.RelatedOnlyFieldListFilter)]
    search_fields = ["name", "description"]
    search_help_text = gettext_lazy("Search by name or description.")
    autocomplete_fields = ["parent"]
    fieldsets = [(None, {"fields": ["name", "parent", "description"]})]
    restores = ("name", "parent", "description")

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeviceGroup]:
        """Count the devices of each group in the same statement."""
        return super().get_queryset(request).annotate(device_total=Count("devices"))

    @admin.display(description=gettext_lazy("Devices"), ordering="device_total")
    def device_count(self, group: DeviceGroup) -> int:
        """Return how many devices are direct members."""
        total: int = getattr(group, "device_total", 0)
        return total


class KeyColumns:
    """Columns that the list of keys and a device's page share."""

    @admin.display(description=gettext_lazy("State"))
    def state(self, key: PreSharedKey) -> str:
        """Return whether the key admits its device now, and why not."""
        outcome = key.state_at(timezone.now())
        if outcome is Outcome.VERIFIED:
            return _("live")
        return str(outcome.label)

    @admin.display(description=gettext_lazy("Secret begins"), empty_value="—")
    def shown_hint(self, key: PreSharedKey) -> str:
        """Return the hint of a generated secret; a chosen one gives nothing away."""
        return key.hint


class KeyInline(KeyColumns, admin.TabularInline):
    """A device's keys, to look at; they are issued, rotated and revoked on pages of their own."""

    model = PreSharedKey
    extra = 0
    can_delete = False
    show_change_link = True
    fields = ("label", "state", "shown_hint", "not_before", "not_after", "last_used")
    readonly_fields = ("label", "state", "shown_hint", "not_before", "not_after", "last_used")
    verbose_name_plural = gettext_lazy("Pre-shared keys")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Leave adding to the page that shows the secret once."""
        return False


@admin.register(Device)
class DeviceAdmin(HistoryPages, SavesChanges, admin.ModelAdmin):
    """Devices, with their keys beside them."""

    list_display = [
        "identifier",
        "name",
        "kind",
        "state",
        "group_names",
        moment_column("last_seen", gettext_lazy("Last seen")),
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
    readonly_fields = ["created", "updated", "last_seen"]
    list_per_page = 50
    show_full_result_count = False
    actions = ["enable", "disable"]
    restores = ("kind", "name", "description", "enabled", "attributes")
    inlines = [KeyInline, CertificateInline]
    fieldsets = [
        (None, {"fields": ["identifier", "name", "kind", "enabled"]}),
        (gettext_lazy("Where it belongs"), {"fields": ["groups", "description", "attributes"]}),
        (gettext_lazy("Evidence"), {"fields": ["last_seen", "created", "updated"]}),
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
            if queryset.filter(begins).exists():
                return queryset.filter(begins), False
        return super().get_search_results(request, queryset, term.removeprefix(ANYWHERE))

    def get_readonly_fields(self, request: HttpRequest, obj: Device | None = None) -> list[str]:
        """Keep the identifier of a registered device: another ID is another device."""
        kept = [*self.readonly_fields]
        return [*kept, "identifier"] if obj else kept

    def get_inlines(self, request: HttpRequest, obj: Device | None) -> list[Any]:
        """Show credentials once there is a device to have them."""
        return list(self.inlines) if obj else []

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Device | None = None,
    ) -> HttpResponse:
        """Add the sections that other apps fill."""
        if obj is not None:
            context["panels"] = panels_of(request, obj)
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
                for group in groups[:MOST_GROUP_NAMES]
            ),
        )
        more = len(groups) - MOST_GROUP_NAMES
        return format_html(_("{} and {} more"), names, more) if more > 0 else names

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

    @admin.action(description=gettext_lazy("Enable selected devices"), permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Device]) -> None:
        """Let the selected devices connect again."""
        self._set_enabled(request, queryset, enabled=True)

    @admin.action(description=gettext_lazy("Disable selected devices"), permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Device]) -> HttpResponse | None:
        """Refuse the selected devices from their next request on, after a confirmation."""
        if "confirmed" not in request.POST:
            return confirmation(
                self,
                request,
                queryset,
                title=_("Disable devices"),
                text=_("These devices will be refused from their next request on:"),
                button=_("Disable"),
            )
        self._set_enabled(request, queryset, enabled=False)
        return None

    def _set_enabled(
        self, request: HttpRequest, queryset: QuerySet[Device], *, enabled: bool
    ) -> None:
        changed = 0
        for device in queryset.filter(enabled=not enabled):
            device.enabled = enabled
            device.save(update_fields=["enabled", "updated"])
            self.log_change(request, device, [{"changed": {"fields": ["enabled"]}}])
            changed += 1
        text = (
            ngettext("%(n)d device enabled.", "%(n)d devices enabled.", changed)
            if enabled
            else ngettext("%(n)d device disabled.", "%(n)d devices disabled.", changed)
        )
        self.message_user(request, text % {"n": changed}, messages.SUCCESS)

    def get_urls(self) -> list[URLPattern]:
        """Add the pages that issue and rotate keys."""
        pages = [
            path(
                f"<int:object_id>/{view.__name__.replace('_', '-')}/",
                self.admin_site.admin_view(view),
                name=f"devices_device_{view.__name__}",
            )
            for view in (self.issue_key, self.rotate_keys)
        ]
        return [*pages, *super().get_urls()]

    def issue_key(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Issue a key, or register a known secret; a generated one is shown on this answer only."""
        device = get_object_or_404(Device, pk=object_id)
        if not request.user.has_perm("devices.add_presharedkey"):
            raise PermissionDenied
        form = IssueKeyForm(request.POST or None)
        if form.is_valid():
            try:
                return self._issued(request, device, form.cleaned_data)
            except ValidationError as error:
                form.add_error(None, error)
        return form_page(
            self,
            request,
            device,
            form,
            title=_("Issue a key"),
            text=format_html(_("A new pre-shared key for <b>{}</b>."), device.identifier),
            button=_("Issue the key"),
        )

    def _issued(self, request: HttpRequest, device: Device, wanted: dict[str, Any]) -> HttpResponse:
        secret, random = wanted.pop("secret"), wanted.pop("random")
        if not secret:
            key, generated = PreSharedKey.objects.issue(device=device, **wanted)
            self.log_change(request, device, f"Issued key {key.pk}.")
            return secret_page(self, request, device, generated)
        key = PreSharedKey.objects.register(device=device, secret=secret, random=random, **wanted)
        self.log_change(request, device, f"Registered a known secret as key {key.pk}.")
        self.message_user(request, _("The secret was registered."), messages.SUCCESS)
        if not random and (warning := secrets.weakness(secret, identifier=device.identifier)):
            self.message_user(request, _("It is weak. ") + warning, messages.WARNING)
        return HttpResponseRedirect(reverse("admin:devices_device_change", args=[device.pk]))

    def rotate_keys(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Issue a new key and let the old ones end; the new secret is shown on this answer only."""
        device = get_object_or_404(Device, pk=object_id)
        if not request.user.has_perms(["devices.add_presharedkey", "devices.change_presharedkey"]):
            raise PermissionDenied
        form = RotateKeysForm(request.POST or None)
        if form.is_valid():
            key, secret = PreSharedKey.objects.rotate(
                device=device,
                overlap=timedelta(hours=form.cleaned_data["overlap"]),
                label=form.cleaned_data["label"],
            )
            self.log_change(request, device, f"Rotated the keys: key {key.pk} succeeds them.")
            return secret_page(self, request, device, secret)
        return form_page(
            self,
            request,
            device,
            form,
            title=_("Rotate keys"),
            text=format_html(
                _("<b>{}</b> gets a new secret; the keys that it has now end when you say."),
                device.identifier,
            ),
            button=_("Issue the new key"),
        )


@admin.register(PreSharedKey)
class PreSharedKeyAdmin(HistoryPages, KeyColumns, KeepsRevoked, SavesChanges, admin.ModelAdmin):
    """Keys across all devices: which are old, unused, about to end."""

    list_display = [
        "device",
        "label",
        "state",
        "shown_hint",
        "scheme",
        "not_after",
        "last_used",
        "created",
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
        "created",
        "last_used",
        "revoked_at",
        "revoked_by",
        "revoked_reason",
    ]
    fieldsets = [
        (None, {"fields": ["device", "label", "state"]}),
        (gettext_lazy("Validity"), {"fields": ["not_before", "not_after"]}),
        (
            gettext_lazy("Revocation"),
            {"fields": ["revoked_at", "revoked_by", "revoked_reason"]},
        ),
        (
            gettext_lazy("Evidence"),
            {"fields": ["last_used", "created", "scheme", "shown_hint", "pepper"]},
        ),
    ]

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
        revoked = 0
        for key in queryset.select_related("device"):
            if key.revoke(by=request.user.get_username(), reason=form.cleaned_data["reason"]):
                self.log_change(request, key, "Revoked.")
                revoked += 1
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
            if key.revoke(by=request.user.get_username(), reason=form.cleaned_data["reason"]):
                self.log_change(request, key, "Revoked.")
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
                _("Key “{}” of <b>{}</b> will admit nobody any more. This cannot be undone."),
                key,
                key.device,
            ),
            button=_("Revoke"),
            destructive=True,
        )


def secret_page(
    model_admin: admin.ModelAdmin, request: HttpRequest, device: Device, secret: str
) -> HttpResponse:
    """Return the only page that ever shows a generated secret; like all of them, never cached."""
    return TemplateResponse(
        request,
        "admin/devices/secret_page.html",
        {
            **model_admin.admin_site.each_context(request),
            "opts": Device._meta,
            "original": device,
            "title": _("The new secret"),
            "secret": secret,
        },
    )
