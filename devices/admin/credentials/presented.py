"""Certificates and lists that staff present: read once, shown, and saved as they were shown."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy

from devices.admin.base.forms import CurrentForm, LinesInput
from devices.admin.base.pages import url_name
from devices.admin.base.rendering import NOTHING, SOON, expiry, moment
from devices.credentials import x509
from devices.credentials.x509 import NameSource, Refused
from devices.models import Certificate, CertificateAuthority, RevokedSerial
from devices.models.credentials.authority import ReadList
from devices.models.credentials.certificate import Pin
from devices.values.text import joined


@dataclass(frozen=True, slots=True)
class Preview:
    """Facts by their name, and what staff should think about before they save."""

    facts: list[tuple[str, Any]]
    warnings: list[str] = field(default_factory=list)


def names_text(row: Certificate) -> SafeString:
    """Return the names in a certificate, one a line."""
    try:
        names = [
            (source.label, x509.shown(name, 300))
            for source in NameSource
            for name in x509.names_in(row.parsed, source)
        ]
    except Refused as refusal:
        return format_html("{}", str(refusal))
    return format_html_join(SafeString("<br>"), "{}: {}", names)


def preview_of_certificate(row: Certificate, now: datetime) -> Preview:
    """Return what a certificate says, who vouches for it, and what to think about."""
    named = CertificateAuthority.objects.filter(subject=row.issuer)
    issuers = [anchor for anchor in named if x509.is_issued_by(row.parsed, anchor.parsed)]
    anchors = joined(anchor.name for anchor in issuers if anchor.enabled)
    subject, *others = _facts(row, now)
    return Preview(
        [
            subject,
            (_("Issuer"), x509.shown(row.issuer)),
            (_("Names"), names_text(row) or NOTHING),
            (_("Serial number"), row.serial),
            *others,
            (_("Trust anchor"), anchors or _("none vouches for it: only this pin admits it")),
        ],
        _warnings(row, issuers, now),
    )


def _facts(row: Certificate | CertificateAuthority, now: datetime) -> list[tuple[str, Any]]:
    return [
        (_("Subject"), x509.shown(row.subject)),
        (_("Key"), x509.key_text(row.parsed)),
        (_("Valid from"), moment(row.not_before)),
        (_("Valid until"), expiry(row.not_after, now)),
        (_("SHA-256 fingerprint"), format_html("<code>{}</code>", row.fingerprint)),
    ]


def _warnings(row: Certificate, issuers: list[CertificateAuthority], now: datetime) -> list[str]:
    warnings = _validity_warnings(row, now)
    same_key = Certificate.objects.filter(public_key_fingerprint=row.public_key_fingerprint)
    if same_key.exclude(device=row.device).exists():
        warnings.append(_("Another device has a certificate with the same key."))
    if RevokedSerial.objects.filter(authority__in=issuers, serial=row.serial).exists():
        warnings.append(_("Its issuer's revocation list names it: it will be refused."))
    if row.pin == Pin.PUBLIC_KEY:
        warnings.append(
            _("Its key is pinned: any certificate with this key is accepted, whatever its dates.")
        )
    return warnings


def _validity_warnings(row: Certificate | CertificateAuthority, now: datetime) -> list[str]:
    if now < row.not_before:
        return [_("It is not valid yet.")]
    if row.not_after < now:
        return [_("It has expired.")]
    return [_("It ends within 30 days.")] if row.not_after < now + SOON else []


def preview_of_anchor(row: CertificateAuthority, now: datetime) -> Preview:
    """Return what the certificate of an authority says, and what to think about."""
    warning = _("Whoever holds its key can make certificates for every device that it names.")
    return Preview(_facts(row, now), [warning, *_validity_warnings(row, now)])


def preview_of_list(read: ReadList, anchor: CertificateAuthority, now: datetime) -> Preview:
    """Return what was read of a revocation list, and what it changes."""
    known = set(RevokedSerial.objects.filter(authority=anchor).values_list("serial", flat=True))
    gone = len(known - read.entries.keys())
    warnings = []
    if read.next_update < now:
        warnings.append(_("It is out of date already."))
    if gone:
        warnings.append(_("Certificates that the list in force names are not on it any more."))
    return Preview(
        [
            (_("Trust anchor"), anchor.name),
            (_("Number"), NOTHING if read.number is None else read.number),
            (_("Made"), moment(read.made)),
            (_("Renewed by"), expiry(read.next_update, now)),
            (_("Certificates on it"), f"{len(read.entries):,}"),
            (_("Newly on it"), f"{len(read.entries.keys() - known):,}"),
            (_("No longer on it"), f"{gone:,}"),
        ],
        warnings,
    )


class PresentedForm(forms.Form):
    """PEM or DER, as text or as a file; saved once its preview was looked at.

    The first sending makes `preview`, and the form then brings the fingerprint of what was shown
    along: only that is saved.
    """

    presented = forms.CharField(
        label=gettext_lazy("Certificate"),
        required=False,
        max_length=x509.MAX_TEXT_LENGTH,
        widget=LinesInput(attrs={"rows": 12, "spellcheck": "false"}),
        help_text=gettext_lazy(
            "The PEM text, -----BEGIN CERTIFICATE----- and the end line included. Never a "
            "private key."
        ),
    )
    file = forms.FileField(
        label=gettext_lazy("or a file"),
        required=False,
        help_text=gettext_lazy("PEM or DER, up to 64 KiB."),
    )
    confirmed = forms.CharField(required=False, widget=forms.HiddenInput)

    preview: Preview | None = None

    def content(self, longest: int) -> bytes:
        """Return what was presented, up to one more byte than `longest`; a file goes first."""
        uploaded: UploadedFile | None = self.cleaned_data.get("file")
        text: str = self.cleaned_data.get("presented") or ""
        if uploaded is not None:
            uploaded.seek(0)  # a view is run again after a conflict: SaveChangedFieldsMixin
        content = uploaded.read(longest + 1) if uploaded is not None else text.encode()
        if not content:
            raise ValidationError(
                {"presented": _("Paste the PEM text or choose a file.")}, code="required"
            )
        return content

    def show(self, preview: Preview, fingerprint: str, text: str) -> None:
        """Raise ValidationError, and show a preview, unless this was confirmed."""
        if self.cleaned_data.get("confirmed") == fingerprint:
            return
        self.preview = preview
        self.send_back(presented=text, confirmed=fingerprint)
        raise ValidationError(_("Nothing is saved yet."), code="preview")

    def send_back(self, **values: str) -> None:
        """Have the page show these values in place of what was sent."""
        sent = QueryDict(mutable=True)
        sent.update(self.data)
        for name, value in values.items():
            sent[self.add_prefix(name)] = value
        self.data = sent


class RegisterForm(PresentedForm, forms.ModelForm):
    """A certificate that makes a row; the model's manager has `prepare`."""

    preview_of: Callable[[Any, datetime], Preview]  # of a row that is not saved

    def clean(self) -> dict[str, Any]:
        """Read the certificate and check the row that it makes as a whole."""
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        text = x509.text_of(self.content(x509.MAX_TEXT_LENGTH))
        others = {
            name: value for name, value in cleaned.items() if name not in PresentedForm.base_fields
        }
        try:
            prepared = type(self.instance).objects.prepare(**others, presented=text)
        except ValidationError as error:
            if "PRIVATE KEY" in text:  # nothing may send it back, not even this page
                self.send_back(presented="")
            raise ValidationError({"presented": error}) from None
        try:
            prepared.full_clean()
        except ValidationError as error:
            known: dict[str, list[ValidationError]] = {}
            for name, found in error.error_dict.items():
                known.setdefault(name if name in self.fields else "presented", []).extend(found)
            raise ValidationError(known) from None
        preview = self.preview_of(prepared, timezone.now())
        self.show(preview, prepared.fingerprint, prepared.pem)
        self.instance = prepared
        return cleaned

    # Django's own step, without a public name: where it goes, every test that registers one in
    # tests/devices/admin/credentials/test_certificate.py fails.
    def _post_clean(self) -> None:
        """Leave the row alone: `clean` made it, and checked it as a whole."""


class CertificatePreviewMixin:
    """Makes an admin read a certificate once, show what was read, and keep it from then on."""

    registered_text: Any

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        """Read a certificate only where one is registered."""
        if obj is not None:
            kwargs["form"] = CurrentForm
        return super().get_form(request, obj, change, **kwargs)  # type: ignore[misc]

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        preview = getattr(context["adminform"].form, "preview", None)
        if preview is not None:
            context |= {"preview": preview, "errors": []}
        return super().render_change_form(request, context, *args, **kwargs)  # type: ignore[misc]

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        if "_popup" in request.POST:
            return super().response_add(request, obj, post_url_continue)  # type: ignore[misc]
        messages.success(request, self.registered_text)
        return redirect(url_name(obj._meta, "change"), obj.pk)

    @admin.display(description=gettext_lazy("Key"))
    def key(self, row: Certificate | CertificateAuthority) -> str:
        return x509.key_text(row.parsed)
