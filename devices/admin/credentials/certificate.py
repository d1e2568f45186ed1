"""The admin of registered certificates: pinned from a file or a text, revoked, never changed."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy, ngettext_lazy

from devices.admin.base.actions import Revoke, RevokeForm
from devices.admin.base.filters import CredentialStateFilter
from devices.admin.base.history import RecordedAdmin
from devices.admin.base.lists import ChosenColumnsMixin
from devices.admin.base.rendering import CREATED, LAST_USED, REVOKED, VALID_FROM, VALID_UNTIL
from devices.admin.credentials.credential import CredentialMixin
from devices.admin.credentials.expiry import EndsFilter
from devices.admin.credentials.presented import (
    CertificatePreviewMixin,
    RegisterForm,
    names_text,
    preview_of_certificate,
)
from devices.credentials import x509
from devices.models import Certificate
from devices.values.text import isolated


class CertificateForm(RegisterForm):
    preview_of = staticmethod(preview_of_certificate)

    class Meta:
        model = Certificate
        fields = ["device", "pin", "label"]
        widgets = {"pin": forms.RadioSelect}


class RevokeCertificateForm(RevokeForm):
    """Why a certificate is revoked, and whether its key is revoked, too."""

    key_too = forms.BooleanField(
        label=gettext_lazy("Its key too"),
        required=False,
        help_text=gettext_lazy(
            "Refuses every other certificate with this key as well: when the key was stolen or "
            "copied."
        ),
    )


class RevokeCertificates(Revoke):
    description = gettext_lazy("Revoke selected certificates")
    title = gettext_lazy("Revoke certificates")
    text = gettext_lazy("These certificates will admit nobody any more. This cannot be undone.")
    done = ngettext_lazy("%(n)d certificate revoked.", "%(n)d certificates revoked.", "n")
    title_of_one = gettext_lazy("Revoke certificate")
    form_class = RevokeCertificateForm

    def affected(self, rows: Any, given: dict[str, Any]) -> QuerySet[Certificate]:
        return rows if given.get("key_too") else rows.unrevoked()

    def change(self, rows: Any, given: dict[str, Any], request: HttpRequest) -> int:
        by = request.user.get_username()
        return sum(certificate.revoke(by=by, **given) for certificate in rows)

    def text_of_one(self, row: Certificate) -> str:
        text = _(
            "“{}” will admit nobody any more, by a trust anchor neither. This cannot be undone."
        )
        return format_html(text, isolated(x509.shown(str(row), 80)))


@admin.register(Certificate)
class CertificateAdmin(ChosenColumnsMixin, CertificatePreviewMixin, CredentialMixin, RecordedAdmin):
    form = CertificateForm
    registered_text = gettext_lazy("The certificate is registered.")
    list_display = [
        "device",
        "label",
        "unusual_state",
        "pin",
        "short_subject",
        "ends",
        LAST_USED,
        CREATED,
    ]
    more_columns = ("serial", "fingerprint", "issuer", "revoked_by")
    list_display_links = ["device", "label", "short_subject"]
    purpose = gettext_lazy(
        "A certificate that is pinned to a device admits it, as long as it is valid and nobody "
        "revoked it."
    )
    list_select_related = ["device"]
    list_filter = [CredentialStateFilter, EndsFilter, "pin"]
    search_fields = [
        "device__identifier",
        "device__name",
        "label",
        "subject",
        "serial",
        "fingerprint",
    ]
    begins = ("label", "subject", "serial", "fingerprint")
    search_help_text = gettext_lazy(
        "Search by device, label, subject, serial number (hexadecimal) or fingerprint; of more "
        "than 50,000 certificates, by how these begin."
    )
    autocomplete_fields = ["device"]
    changes = (RevokeCertificates(),)
    actions = [change.action() for change in changes]
    editable = ("label",)
    fieldsets = [
        (None, {"fields": ["device", "label", "state", "pin"]}),
        (
            gettext_lazy("What was read"),
            {
                "fields": [
                    *("subject", "names", "issuer", "serial", VALID_FROM, VALID_UNTIL, "key"),
                    *("fingerprint", "public_key_fingerprint", "pem"),
                ]
            },
        ),
        (gettext_lazy("Revocation"), {"fields": [REVOKED, "revoked_by", "revoked_reason"]}),
        (gettext_lazy("Evidence"), {"fields": [LAST_USED, CREATED]}),
    ]
    add_fieldsets = [
        (None, {"fields": ["device", "label"]}),
        (gettext_lazy("The certificate"), {"fields": ["presented", "file", "pin", "confirmed"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Certificate]:
        """Ask with the rows which of them revocation lists name."""
        return super().get_queryset(request).with_list_state()  # type: ignore[attr-defined]

    @admin.display(description=gettext_lazy("Subject"), ordering="subject")
    def short_subject(self, certificate: Certificate) -> str:
        return x509.shown(certificate.subject, 80)

    @admin.display(description=gettext_lazy("Names"))
    def names(self, certificate: Certificate) -> SafeString:
        return names_text(certificate)
