"""The admin of pre-shared keys: listed, labelled, bounded in time, revoked; issued elsewhere."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext as _, gettext_lazy, ngettext_lazy

from devices.admin.base.actions import Revoke
from devices.admin.base.filters import CredentialStateFilter, LabelledFilter
from devices.admin.base.forms import FIELDS
from devices.admin.base.history import RecordedAdmin
from devices.admin.base.lists import ChosenColumnsMixin
from devices.admin.base.mixins import NoAddPageMixin
from devices.admin.base.rendering import CREATED, LAST_USED, NOTHING, REVOKED
from devices.admin.credentials.credential import CredentialMixin
from devices.admin.credentials.expiry import EndsFilter
from devices.credentials import hashing
from devices.models import Device, PreSharedKey
from devices.values.text import isolated


class PepperFilter(LabelledFilter):
    """Keys by the pepper of their digest, as far as it is configured: nothing reads all keys."""

    title = gettext_lazy("pepper")
    parameter_name = "pepper"
    MISSING = "-"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the peppers of this server, and that of keys that no server can check."""
        return [*((name, name) for name in hashing.peppers()), (self.MISSING, _("Missing"))]

    def keep(self, queryset: Any, value: str) -> QuerySet[PreSharedKey]:
        """Return the keys of a pepper, of one as well that is no choice."""
        if value == self.MISSING:
            return queryset.exclude(pepper__in=list(hashing.peppers()))
        return queryset.filter(pepper=value)


class RevokeKeys(Revoke):
    description = gettext_lazy("Revoke selected keys")
    title = gettext_lazy("Revoke keys")
    text = gettext_lazy("These keys will admit nobody any more. This cannot be undone.")
    done = ngettext_lazy("%(n)d key revoked.", "%(n)d keys revoked.", "n")
    title_of_one = gettext_lazy("Revoke key")

    def text_of_one(self, row: PreSharedKey) -> str:
        text = _(
            "Key “{key}” of <b>{device}</b> will admit nobody any more. This cannot be undone."
        )
        return format_html(text, key=isolated(row), device=row.device)

    def page_after(self, row: PreSharedKey) -> Device:
        """Return the device, which may need another key."""
        return row.device


@admin.register(PreSharedKey)
class PreSharedKeyAdmin(NoAddPageMixin, ChosenColumnsMixin, CredentialMixin, RecordedAdmin):
    formfield_overrides = FIELDS
    list_display = ["device", "label", "unusual_state", "shown_hint", "ends", LAST_USED, CREATED]
    more_columns = ("scheme", "pepper", "revoked_by")
    list_display_links = ["device", "label"]
    purpose = gettext_lazy(
        "A key is a secret that a device shows. It is issued on the device's page, where the "
        "secret is shown once."
    )
    list_select_related = ["device"]
    list_filter = [CredentialStateFilter, EndsFilter, "scheme", PepperFilter]
    search_fields = ["device__identifier", "device__name", "label", "hint"]
    begins = ("label", "hint")
    search_help_text = gettext_lazy(
        "Search by device, label or the first characters of a generated secret; of more than "
        "50,000 keys, by how these begin."
    )
    autocomplete_fields = ["device"]
    changes = (RevokeKeys(),)
    actions = [change.action() for change in changes]
    editable = ("label", "not_before", "not_after")
    fieldsets = [
        (None, {"fields": ["device", "label", "state"]}),
        (gettext_lazy("Validity"), {"fields": ["not_before", "not_after"]}),
        (gettext_lazy("Revocation"), {"fields": [REVOKED, "revoked_by", "revoked_reason"]}),
        (
            gettext_lazy("Evidence"),
            {"fields": [LAST_USED, CREATED, "scheme", "shown_hint", "pepper"]},
        ),
    ]

    @admin.display(description=gettext_lazy("Secret begins"))
    def shown_hint(self, key: PreSharedKey) -> str:
        return key.hint or NOTHING

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Let nobody search for a digest by its beginnings."""
        return not lookup.startswith("digest") and super().lookup_allowed(lookup, value, request)
