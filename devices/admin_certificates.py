"""Staff's view of certificates, trust anchors and their revocation lists."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminTextareaWidget
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from devices import x509
from devices.admin_history import HistoryPages
from devices.admin_pages import (
    CredentialStateFilter,
    KeepsRevoked,
    RevokeForm,
    SavesChanges,
    confirmation,
    form_page,
)
from devices.models import Certificate, CertificateAuthority
from devices.models.authorities import CRLPolicy
from devices.verdicts import Outcome
from devices.x509 import NameSource, Refused


class PresentedMixin(forms.ModelForm):
    """A certificate as text or as a file, one of the two."""

    presented = forms.CharField(
        label=gettext_lazy("Certificate"),
        required=False,
        max_length=x509.LONGEST_TEXT,
        widget=AdminTextareaWidget(attrs={"rows": 12, "spellcheck": "false"}),
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

    def prepared(self, fields: dict[str, Any]) -> Any:
        """Return the row that `fields` and the certificate make, not saved."""
        raise NotImplementedError

    def clean(self) -> dict[str, Any]:
        """Read the certificate and check the row that it makes as a whole."""
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        fields = cleaned.copy()
        uploaded: UploadedFile | None = fields.pop("file")
        text = fields.pop("presented")
        if uploaded is not None:
            text = x509.text_of(uploaded.read(x509.LONGEST_TEXT + 1))
        if not text:
            raise ValidationError(
                {"presented": _("Paste a certificate or choose a file.")}, code="required"
            )
        try:
            prepared = self.prepared(fields | {"presented": text})
        except ValidationError as error:
            if "PRIVATE KEY" in text:  # nothing may send it back, not even this page
                sent = QueryDict(mutable=True)
                sent.update(self.data)
                sent[self.add_prefix("presented")] = ""
                self.data = sent
            raise ValidationError({"presented": error}) from None
        try:
            prepared.full_clean()
        except ValidationError as error:
            known = {name: found for name, found in error.error_dict.items() if name in self.fields}
            others = [found for name, found in error.error_dict.items() if name not in self.fields]
            for found in others:
                known.setdefault("presented", []).extend(found)
            raise ValidationError(known) from None
        self.instance = prepared
        return cleaned

    def _post_clean(self) -> None:
        """Leave the row alone: `clean` made it, and checked it as a whole."""


class CertificateForm(PresentedMixin):
    """A certificate to pin to a device."""

    class Meta:
        model = Certificate
        fields = ["device", "pin", "label"]
        widgets = {"pin": forms.RadioSelect}

    def prepared(self, fields: dict[str, Any]) -> Certificate:
        """Return the certificate as a row."""
        return Certificate.objects.prepare(**fields)


class CertificateAuthorityForm(PresentedMixin):
    """An authority to trust."""

    class Meta:
        model = CertificateAuthority
        fields = [
            "name",
            "enabled",
            "name_source",
            "name_pattern",
            "identifier_pattern",
            "crl_policy",
        ]
        widgets = {"name_source": forms.RadioSelect, "crl_policy": forms.RadioSelect}

    def prepared(self, fields: dict[str, Any]) -> CertificateAuthority:
        """Return the anchor as a row."""
        return CertificateAuthority.objects.prepare(**fields)


class RevokeCertificateForm(RevokeForm):
    """Why a certificate is revoked, and whether its key goes along."""

    key_too = forms.BooleanField(
        label=gettext_lazy("Its key too"),
        required=False,
        help_text=gettext_lazy(
            "Refuses every other certificate with this key as well: when the key was stolen or "
            "copied."
        ),
    )


class LoadListForm(forms.Form):
    """A revocation list to put in force."""

    file = forms.FileField(
        label=gettext_lazy("Revocation list"),
        help_text=gettext_lazy("PEM or DER, up to 16 MiB, as the authority published it."),
    )

    def clean_file(self) -> bytes:
        """Return the content, bounded."""
        content: bytes = self.cleaned_data["file"].read(x509.LONGEST_LIST + 1)
        return content


class CertificateColumns:
    """What the list of certificates, a certificate's page and a device's page share."""

    @admin.display(description=gettext_lazy("State"))
    def state(self, certificate: Certificate) -> str:
        """Return whether the certificate admits its device now, and why not."""
        outcome = certificate.state_at(timezone.now())
        return _("live") if outcome is Outcome.VERIFIED else str(outcome.label)

    @admin.display(description=gettext_lazy("Subject"), ordering="subject")
    def short_subject(self, certificate: Certificate) -> str:
        """Return the subject, cut to fit a column."""
        return x509.shown(certificate.subject, 80)


class CertificateInline(CertificateColumns, admin.TabularInline):
    """A device's certificates, to look at; they are registered and revoked on their own pages."""

    model = Certificate
    extra = 0
    can_delete = False
    show_change_link = True
    fields = ("label", "state", "pin", "short_subject", "not_after", "last_used")
    readonly_fields = ("label", "state", "pin", "short_subject", "not_after", "last_used")
    verbose_name_plural = gettext_lazy("Certificates")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Leave adding to the page that reads the certificate."""
        return False


@admin.register(Certificate)
class CertificateAdmin(
    HistoryPages, CertificateColumns, KeepsRevoked, SavesChanges, admin.ModelAdmin
):
    """Certificates across all devices: what is pinned, what ends soon, what was revoked."""

    form = CertificateForm
    list_display = [
        "device",
        "label",
        "state",
        "pin",
        "short_subject",
        "not_after",
        "last_used",
        "created",
    ]
    list_display_links = ["device", "label", "short_subject"]
    list_select_related = ["device"]
    list_filter = [CredentialStateFilter, "pin"]
    search_fields = [
        "device__identifier",
        "device__name",
        "label",
        "subject",
        "serial",
        "fingerprint",
    ]
    search_help_text = gettext_lazy(
        "Search by device, label, subject, serial number (hexadecimal) or fingerprint."
    )
    autocomplete_fields = ["device"]
    show_full_result_count = False
    actions = ["revoke"]
    READ = (
        "subject",
        "names",
        "issuer",
        "serial",
        "not_before",
        "not_after",
        "key",
        "fingerprint",
        "public_key_fingerprint",
        "pem",
    )
    SETTLED = ("revoked_at", "revoked_by", "revoked_reason", "last_used", "created")
    fieldsets = [
        (None, {"fields": ["device", "label", "state", "pin"]}),
        (gettext_lazy("What was read"), {"fields": READ}),
        (gettext_lazy("Revocation"), {"fields": SETTLED[:3]}),
        (gettext_lazy("Evidence"), {"fields": SETTLED[3:]}),
    ]
    add_fieldsets = [
        (None, {"fields": ["device", "label"]}),
        (gettext_lazy("The certificate"), {"fields": ["presented", "file", "pin"]}),
    ]

    def get_fieldsets(self, request: HttpRequest, obj: Certificate | None = None) -> Any:
        """Ask for the certificate first; then show what was read."""
        return self.fieldsets if obj else self.add_fieldsets

    def get_readonly_fields(
        self, request: HttpRequest, obj: Certificate | None = None
    ) -> list[str]:
        """Keep everything but the label of a registered certificate."""
        return ["device", "pin", "state", *self.READ, *self.SETTLED] if obj else []

    def get_form(
        self,
        request: HttpRequest,
        obj: Certificate | None = None,
        change: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Read a certificate only where one is registered."""
        if obj is not None:
            kwargs["form"] = forms.ModelForm
        return super().get_form(request, obj, change, **kwargs)

    def response_add(
        self, request: HttpRequest, obj: Certificate, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Show what was read."""
        if "_addanother" in request.POST or "_popup" in request.POST:
            return super().response_add(request, obj, post_url_continue)
        self.message_user(
            request, _("The certificate is registered. Check what was read."), messages.SUCCESS
        )
        return HttpResponseRedirect(reverse("admin:devices_certificate_change", args=[obj.pk]))

    @admin.display(description=gettext_lazy("Names"))
    def names(self, certificate: Certificate) -> SafeString:
        """Return every name that a trust anchor could know the device by."""
        return names_text(certificate)

    @admin.display(description=gettext_lazy("Key"))
    def key(self, certificate: Certificate) -> str:
        """Return the kind and size of the key."""
        return x509.key_text(certificate.parsed)

    @admin.action(description=gettext_lazy("Revoke selected certificates"), permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Certificate]) -> HttpResponse | None:
        """Revoke the selected certificates from their next use on, after a confirmation."""
        form = RevokeCertificateForm(request.POST if "confirmed" in request.POST else None)
        if not form.is_valid():
            return confirmation(
                self,
                request,
                queryset,
                title=_("Revoke certificates"),
                text=_("These certificates will admit nobody any more. This cannot be undone."),
                button=_("Revoke"),
                form=form,
            )
        revoked = sum(
            self._revoked(request, certificate, form.cleaned_data) for certificate in queryset
        )
        text = ngettext("%(n)d certificate revoked.", "%(n)d certificates revoked.", revoked)
        self.message_user(request, text % {"n": revoked}, messages.SUCCESS)
        return None

    def _revoked(self, request: HttpRequest, certificate: Certificate, how: dict[str, Any]) -> bool:
        revoked = certificate.revoke(by=request.user.get_username(), **how)
        if revoked:
            self.log_change(request, certificate, "Revoked.")
        return revoked

    def get_urls(self) -> list[URLPattern]:
        """Add the page that revokes one certificate."""
        revoke = path(
            "<int:object_id>/revoke/",
            self.admin_site.admin_view(self.revoke_certificate),
            name="devices_certificate_revoke",
        )
        return [revoke, *super().get_urls()]

    def revoke_certificate(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Revoke one certificate, with a reason."""
        certificate = get_object_or_404(Certificate, pk=object_id)
        if not self.has_change_permission(request, certificate):
            raise PermissionDenied
        form = RevokeCertificateForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            self._revoked(request, certificate, form.cleaned_data)
            self.message_user(request, _("The certificate is revoked."), messages.SUCCESS)
            return HttpResponseRedirect(
                reverse("admin:devices_certificate_change", args=[certificate.pk])
            )
        return form_page(
            self,
            request,
            certificate,
            form,
            title=_("Revoke certificate"),
            text=format_html(
                _(
                    "“{}” will admit nobody any more, by a trust anchor neither. This cannot be "
                    "undone."
                ),
                x509.shown(str(certificate), 80),
            ),
            button=_("Revoke"),
            destructive=True,
        )


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


class ListFilter(admin.SimpleListFilter):
    """Trust anchors by the state of their revocation list."""

    title = gettext_lazy("revocation list")
    parameter_name = "list"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return [("none", _("None")), ("current", _("Current")), ("outdated", _("Out of date"))]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[CertificateAuthority]
    ) -> QuerySet[CertificateAuthority]:
        """Keep the anchors of the choice."""
        choices = {
            "none": Q(revocation_list=None),
            "current": Q(revocation_list__next_update__gte=timezone.now()),
            "outdated": Q(revocation_list__next_update__lt=timezone.now()),
        }
        return queryset.filter(choices.get(self.value() or "", Q()))


@admin.register(CertificateAuthority)
class CertificateAuthorityAdmin(HistoryPages, SavesChanges, admin.ModelAdmin):
    """Trust anchors: whom, how they name devices, how old their lists are."""

    form = CertificateAuthorityForm
    list_display = ["name", "enabled", "name_source", "crl_policy", "list_state", "not_after"]
    list_select_related = ["revocation_list"]
    list_filter = ["enabled", ListFilter, "crl_policy", "name_source"]
    search_fields = ["name", "subject", "fingerprint"]
    search_help_text = gettext_lazy("Search by name, subject or fingerprint.")
    READ: tuple[str, ...] = (
        "subject",
        "not_before",
        "not_after",
        "key",
        "fingerprint",
        "pem",
        "created",
    )
    LISTED: tuple[str, ...] = (
        "list_state",
        "list_number",
        "list_made",
        "list_entries",
        "list_loaded",
    )
    naming: Any = (
        gettext_lazy("How it names devices"),
        {"fields": ["name_source", "name_pattern", "identifier_pattern"]},
    )
    add_fieldsets = [
        (None, {"fields": ["name", "enabled"]}),
        (gettext_lazy("The certificate"), {"fields": ["presented", "file"]}),
        naming,
        (gettext_lazy("Revocation list"), {"fields": ["crl_policy"]}),
    ]

    def get_fieldsets(self, request: HttpRequest, obj: CertificateAuthority | None = None) -> Any:
        """Ask for the certificate first; then show what was read, and the list if there is one."""
        if obj is None:
            return self.add_fieldsets
        listed = self.LISTED if hasattr(obj, "revocation_list") else self.LISTED[:1]
        return [
            (None, {"fields": ["name", "enabled"]}),
            self.naming,
            (gettext_lazy("Revocation list"), {"fields": ["crl_policy", *listed]}),
            (gettext_lazy("What was read"), {"fields": self.READ}),
        ]

    def get_readonly_fields(
        self, request: HttpRequest, obj: CertificateAuthority | None = None
    ) -> tuple[str, ...]:
        """Keep the certificate: another certificate is another anchor."""
        return (*self.LISTED, *self.READ) if obj else ()

    def get_form(
        self,
        request: HttpRequest,
        obj: CertificateAuthority | None = None,
        change: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Read a certificate only where one is registered."""
        if obj is not None:
            kwargs["form"] = forms.ModelForm
        return super().get_form(request, obj, change, **kwargs)

    def response_add(
        self, request: HttpRequest, obj: CertificateAuthority, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Show what was read."""
        if "_addanother" in request.POST or "_popup" in request.POST:
            return super().response_add(request, obj, post_url_continue)
        self.message_user(
            request, _("The trust anchor is registered. Check what was read."), messages.SUCCESS
        )
        if obj.crl_policy == CRLPolicy.REQUIRE:
            self.message_user(
                request,
                _("It admits nobody until its revocation list is loaded."),
                messages.WARNING,
            )
        return HttpResponseRedirect(
            reverse("admin:devices_certificateauthority_change", args=[obj.pk])
        )

    @admin.display(description=gettext_lazy("Key"))
    def key(self, anchor: CertificateAuthority) -> str:
        """Return the kind and size of the key."""
        return x509.key_text(anchor.parsed)

    @admin.display(
        description=gettext_lazy("Revocation list"), ordering="revocation_list__next_update"
    )
    def list_state(self, anchor: CertificateAuthority) -> str:
        """Return until when the list in force holds."""
        loaded = getattr(anchor, "revocation_list", None)
        if loaded is None:
            return _("none")
        moment = f"{loaded.next_update:%Y-%m-%d %H:%M}"
        if loaded.next_update < timezone.now():
            return _("out of date since %(moment)s") % {"moment": moment}
        return _("current until %(moment)s") % {"moment": moment}

    @admin.display(description=gettext_lazy("Number"), empty_value="—")
    def list_number(self, anchor: CertificateAuthority) -> str | None:
        """Return the number of the list in force."""
        return getattr(getattr(anchor, "revocation_list", None), "number", None)

    @admin.display(description=gettext_lazy("Made"), empty_value="—")
    def list_made(self, anchor: CertificateAuthority) -> Any:
        """Return when the authority made the list."""
        return getattr(getattr(anchor, "revocation_list", None), "this_update", None)

    @admin.display(description=gettext_lazy("Certificates on it"), empty_value="—")
    def list_entries(self, anchor: CertificateAuthority) -> int | None:
        """Return how many certificates the list names."""
        return getattr(getattr(anchor, "revocation_list", None), "entries", None)

    @admin.display(description=gettext_lazy("Loaded"), empty_value="—")
    def list_loaded(self, anchor: CertificateAuthority) -> str | None:
        """Return when the list was loaded, and by whom."""
        loaded = getattr(anchor, "revocation_list", None)
        return f"{loaded.loaded_at:%Y-%m-%d %H:%M}, {loaded.loaded_by}" if loaded else None

    def get_urls(self) -> list[URLPattern]:
        """Add the page that loads a revocation list."""
        load = path(
            "<int:object_id>/load-list/",
            self.admin_site.admin_view(self.load_list),
            name="devices_certificateauthority_load_list",
        )
        return [load, *super().get_urls()]

    def load_list(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Put a revocation list in force."""
        anchor = get_object_or_404(CertificateAuthority, pk=object_id)
        if not self.has_change_permission(request, anchor):
            raise PermissionDenied
        posted = request.method == "POST"
        form = LoadListForm(request.POST, request.FILES) if posted else LoadListForm()
        if form.is_valid():
            try:
                loaded = anchor.load_list(form.cleaned_data["file"], by=request.user.get_username())
            except ValidationError as error:
                form.add_error("file", error)
            else:
                text = ngettext(
                    "The list is in force; it names %(n)d certificate.",
                    "The list is in force; it names %(n)d certificates.",
                    loaded.entries,
                )
                self.log_change(
                    request, anchor, f"Loaded revocation list {loaded.number or loaded}."
                )
                self.message_user(request, text % {"n": loaded.entries}, messages.SUCCESS)
                return HttpResponseRedirect(
                    reverse("admin:devices_certificateauthority_change", args=[anchor.pk])
                )
        return form_page(
            self,
            request,
            anchor,
            form,
            title=_("Load a revocation list"),
            text=format_html(
                _("It replaces the list of <b>{}</b> that is in force, as a whole."), anchor
            ),
            button=_("Load the list"),
        )
