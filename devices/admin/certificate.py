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
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from devices.admin import previews
from devices.admin.forms import CurrentForm
from devices.admin.history import HistoryMixin
from devices.admin.mixins import (
    CredentialStateFilter,
    InitialValuesMixin,
    KeepRevokedMixin,
    RevokeForm,
    SaveChangedFieldsMixin,
    confirmation,
    expiry,
    form_page,
    state_badge,
)
from devices.admin.previews import Preview
from devices.credentials import crl, x509
from devices.models import Certificate, CertificateAuthority, RevokedSerial
from devices.models.authority import CRLPolicy
from devices.rendering import (
    CREATED,
    LAST_USED,
    REVOKED,
    VALID_FROM,
    VALID_UNTIL,
    Tone,
    badge,
    enabled_badge,
    moment,
)

MAX_CARRIED_LENGTH = 1024 * 1024  # characters of a list that a preview brings along


class PresentedForm(forms.Form):
    """PEM or DER, as text or as a file; saved once its preview was looked at.

    The first sending makes `preview`, and the form then brings the fingerprint of what was shown
    along: only that is saved.
    """

    presented = forms.CharField(
        label=gettext_lazy("Certificate"),
        required=False,
        max_length=x509.MAX_TEXT_LENGTH,
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
    confirmed = forms.CharField(required=False, widget=forms.HiddenInput)

    preview: Preview | None = None

    def content(self, longest: int) -> bytes:
        """Return what was presented, up to one more byte than `longest`; a file goes first."""
        uploaded: UploadedFile | None = self.cleaned_data.get("file")
        text: str = self.cleaned_data.get("presented") or ""
        content = uploaded.read(longest + 1) if uploaded is not None else text.encode()
        if not content:
            raise ValidationError(
                {"presented": _("Paste the PEM text or choose a file.")}, code="required"
            )
        return content

    def show(self, preview: Preview, fingerprint: str, text: str) -> None:
        """Raise ValidationError unless this very thing was shown before."""
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
    """A certificate that makes a row."""

    def prepared(self, fields: dict[str, Any]) -> Any:
        """Return the row that `fields` and the certificate make, not saved."""
        raise NotImplementedError

    def previewed(self, row: Any) -> Preview:
        """Return what was read."""
        raise NotImplementedError

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
            prepared = self.prepared(others | {"presented": text})
        except ValidationError as error:
            if "PRIVATE KEY" in text:  # nothing may send it back, not even this page
                self.send_back(presented="")
            raise ValidationError({"presented": error}) from None
        try:
            prepared.full_clean()
        except ValidationError as error:
            known = {name: found for name, found in error.error_dict.items() if name in self.fields}
            unknown = [found for name, found in error.error_dict.items() if name not in self.fields]
            for found in unknown:
                known.setdefault("presented", []).extend(found)
            raise ValidationError(known) from None
        self.show(self.previewed(prepared), prepared.fingerprint, prepared.pem)
        self.instance = prepared
        return cleaned

    def _post_clean(self) -> None:
        """Leave the row alone: `clean` made it, and checked it as a whole."""


class CertificateForm(RegisterForm):
    """A certificate to pin to a device."""

    class Meta:
        model = Certificate
        fields = ["device", "pin", "label"]
        widgets = {"pin": forms.RadioSelect}

    def prepared(self, fields: dict[str, Any]) -> Certificate:
        """Return the certificate as a row."""
        return Certificate.objects.prepare(**fields)

    def previewed(self, row: Certificate) -> Preview:
        """Return what was read."""
        return previews.of_certificate(row, timezone.now())


class CertificateAuthorityForm(RegisterForm):
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

    def previewed(self, row: CertificateAuthority) -> Preview:
        """Return what was read."""
        return previews.of_anchor(row, timezone.now())


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


class LoadListForm(PresentedForm):
    """A revocation list to put in force."""

    presented = forms.CharField(
        label=gettext_lazy("Revocation list"),
        required=False,
        max_length=MAX_CARRIED_LENGTH,
        widget=AdminTextareaWidget(attrs={"rows": 8, "spellcheck": "false"}),
        help_text=gettext_lazy("The PEM text, as the authority published it."),
    )
    file = forms.FileField(
        label=gettext_lazy("or a file"),
        required=False,
        help_text=gettext_lazy("PEM or DER, up to 16 MiB."),
    )

    def __init__(self, anchor: CertificateAuthority, *args: Any) -> None:
        self.anchor = anchor
        super().__init__(*args)

    def clean(self) -> dict[str, Any]:
        """Read the list; show it first."""
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        content = cleaned["content"] = self.content(crl.MAX_LIST_BYTES)
        now = timezone.now()
        try:
            read = self.anchor.read_list(content, now=now)
        except ValidationError as error:
            self.send_back(presented="")
            raise ValidationError({"presented": error}) from None
        carried = read.pem if len(read.pem) <= MAX_CARRIED_LENGTH else ""
        preview = previews.of_list(read, self.anchor, now)
        if not carried:
            preview.warnings.append(_("It is too long to be kept here: choose the file again."))
        self.show(preview, read.fingerprint, carried)
        return cleaned


class CertificatePreviewMixin:
    """Makes an admin read a certificate once, show what was read, and keep it from then on."""

    add_fieldsets: Any
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
        """Show the preview of a certificate that is not saved yet."""
        preview = getattr(context["adminform"].form, "preview", None)
        if preview is not None:
            context |= {"preview": preview, "errors": []}
        return super().render_change_form(request, context, *args, **kwargs)  # type: ignore[misc]

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Show what was saved."""
        if "_popup" in request.POST:
            return super().response_add(request, obj, post_url_continue)  # type: ignore[misc]
        messages.success(request, self.registered_text)
        change = f"admin:devices_{obj._meta.model_name}_change"
        return HttpResponseRedirect(reverse(change, args=[obj.pk]))


@admin.register(Certificate)
class CertificateAdmin(
    HistoryMixin,
    CertificatePreviewMixin,
    KeepRevokedMixin,
    InitialValuesMixin,
    SaveChangedFieldsMixin,
    admin.ModelAdmin,
):
    """Certificates across all devices: what is pinned, what ends soon, what was revoked."""

    form = CertificateForm
    registered_text = gettext_lazy("The certificate is registered.")
    list_display = [
        "device",
        "label",
        "state",
        "pin",
        "short_subject",
        "ends",
        LAST_USED,
        CREATED,
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
        VALID_FROM,
        VALID_UNTIL,
        "key",
        "fingerprint",
        "public_key_fingerprint",
        "pem",
    )
    SETTLED = (REVOKED, "revoked_by", "revoked_reason", LAST_USED, CREATED)
    fieldsets = [
        (None, {"fields": ["device", "label", "state", "pin"]}),
        (gettext_lazy("What was read"), {"fields": READ}),
        (gettext_lazy("Revocation"), {"fields": SETTLED[:3]}),
        (gettext_lazy("Evidence"), {"fields": SETTLED[3:]}),
    ]
    add_fieldsets = [
        (None, {"fields": ["device", "label"]}),
        (gettext_lazy("The certificate"), {"fields": ["presented", "file", "pin", "confirmed"]}),
    ]

    def get_fieldsets(self, request: HttpRequest, obj: Certificate | None = None) -> Any:
        """Ask for the certificate first; then show what was read."""
        return super().get_fieldsets(request, obj) if obj else self.add_fieldsets

    def get_readonly_fields(
        self, request: HttpRequest, obj: Certificate | None = None
    ) -> list[Any]:
        """Keep everything but the label of a registered certificate."""
        return ["device", "pin", "state", *self.READ, *self.SETTLED] if obj else []

    def get_queryset(self, request: HttpRequest) -> QuerySet[Certificate]:
        """Ask with the rows which of them revocation lists name."""
        return super().get_queryset(request).with_list_state()  # type: ignore[attr-defined]

    @admin.display(description=gettext_lazy("State"))
    def state(self, certificate: Certificate) -> SafeString:
        """Return whether the certificate admits its device now, and why not."""
        return state_badge(certificate.state_at(timezone.now()))

    @admin.display(description=gettext_lazy("Subject"), ordering="subject")
    def short_subject(self, certificate: Certificate) -> str:
        """Return the subject, cut to fit a column."""
        return x509.shown(certificate.subject, 80)

    @admin.display(description=gettext_lazy("Valid until"), ordering="not_after")
    def ends(self, certificate: Certificate) -> SafeString | str:
        """Return when the certificate ends, and whether that is soon."""
        return expiry(certificate.not_after, timezone.now())

    @admin.display(description=gettext_lazy("Names"))
    def names(self, certificate: Certificate) -> SafeString:
        """Return every name that a trust anchor could know the device by."""
        return previews.names_text(certificate)

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
            certificate.revoke(by=request.user.get_username(), **form.cleaned_data)
            for certificate in queryset
        )
        text = ngettext("%(n)d certificate revoked.", "%(n)d certificates revoked.", revoked)
        self.message_user(request, text % {"n": revoked}, messages.SUCCESS)
        return None

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
            certificate.revoke(by=request.user.get_username(), **form.cleaned_data)
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


class ListFilter(admin.SimpleListFilter):
    """Trust anchors by the state of their revocation list."""

    title = gettext_lazy("list in force")
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
class CertificateAuthorityAdmin(
    HistoryMixin,
    CertificatePreviewMixin,
    SaveChangedFieldsMixin,
    admin.ModelAdmin,
):
    """Trust anchors: whom, how they name devices, how old their lists are."""

    form = CertificateAuthorityForm
    registered_text = gettext_lazy("The trust anchor is registered.")
    list_display = ["name", "state", "name_source", "crl_policy", "list_state", "ends"]
    list_select_related = ["revocation_list"]
    list_filter = ["enabled", ListFilter, "crl_policy", "name_source"]
    search_fields = ["name", "subject", "fingerprint"]
    search_help_text = gettext_lazy("Search by name, subject or fingerprint.")
    READ: tuple[Any, ...] = (
        "subject",
        VALID_FROM,
        VALID_UNTIL,
        "key",
        "fingerprint",
        "pem",
        CREATED,
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
        (gettext_lazy("The certificate"), {"fields": ["presented", "file", "confirmed"]}),
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
    ) -> tuple[Any, ...]:
        """Keep the certificate: another certificate is another anchor."""
        return (*self.LISTED, *self.READ) if obj else ()

    def response_add(
        self,
        request: HttpRequest,
        obj: CertificateAuthority,
        post_url_continue: str | None = None,
    ) -> HttpResponse:
        """Say what is still missing, too."""
        response = super().response_add(request, obj, post_url_continue)
        if obj.crl_policy == CRLPolicy.REQUIRE:
            self.message_user(
                request,
                _("It admits nobody until its revocation list is loaded."),
                messages.WARNING,
            )
        return response

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Count the revoked serial numbers that go with an anchor."""
        rows = RevokedSerial.objects.filter(authority__in=[anchor.pk for anchor in objs])
        counts = {str(RevokedSerial._meta.verbose_name_plural): rows.count()}
        return [str(anchor) for anchor in objs], counts, set(), []

    @admin.display(description=gettext_lazy("State"), ordering="enabled")
    def state(self, anchor: CertificateAuthority) -> SafeString:
        """Return whether the anchor vouches for anybody."""
        return enabled_badge(anchor.enabled)

    @admin.display(description=gettext_lazy("Valid until"), ordering="not_after")
    def ends(self, anchor: CertificateAuthority) -> SafeString | str:
        """Return when the anchor ends, and whether that is soon."""
        return expiry(anchor.not_after, timezone.now())

    @admin.display(description=gettext_lazy("Key"))
    def key(self, anchor: CertificateAuthority) -> str:
        """Return the kind and size of the key."""
        return x509.key_text(anchor.parsed)

    @admin.display(
        description=gettext_lazy("List in force"), ordering="revocation_list__next_update"
    )
    def list_state(self, anchor: CertificateAuthority) -> SafeString:
        """Return until when the list in force holds."""
        loaded = getattr(anchor, "revocation_list", None)
        if loaded is None:
            return badge(Tone.OFF, _("none"))
        if loaded.next_update < timezone.now():
            return format_html(
                "{} {}", badge(Tone.BAD, _("out of date since")), moment(loaded.next_update)
            )
        return format_html(
            "{} {}", badge(Tone.GOOD, _("current until")), moment(loaded.next_update)
        )

    @admin.display(description=gettext_lazy("Number"))
    def list_number(self, anchor: CertificateAuthority) -> str | None:
        """Return the number of the list in force."""
        return getattr(getattr(anchor, "revocation_list", None), "number", None)

    @admin.display(description=gettext_lazy("Made"))
    def list_made(self, anchor: CertificateAuthority) -> SafeString | str:
        """Return when the authority made the list."""
        return moment(getattr(getattr(anchor, "revocation_list", None), "this_update", None))

    @admin.display(description=gettext_lazy("Certificates on it"))
    def list_entries(self, anchor: CertificateAuthority) -> int | None:
        """Return how many certificates the list names."""
        return getattr(getattr(anchor, "revocation_list", None), "entries", None)

    @admin.display(description=gettext_lazy("Loaded"))
    def list_loaded(self, anchor: CertificateAuthority) -> SafeString | None:
        """Return when the list was loaded, and by whom."""
        loaded = getattr(anchor, "revocation_list", None)
        if loaded is None:
            return None
        return format_html("{}, {}", moment(loaded.loaded_at), loaded.loaded_by)

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
        sent = (request.POST, request.FILES) if request.method == "POST" else ()
        form = LoadListForm(anchor, *sent)
        if form.is_valid():
            return self._loaded(request, anchor, form.cleaned_data["content"])
        return form_page(
            self,
            request,
            anchor,
            form,
            title=_("Load a revocation list"),
            text=format_html(
                _("It replaces the list of <b>{}</b> that is in force, as a whole."), anchor
            ),
            button=_("Put the list in force") if form.preview else _("Preview"),
            preview=form.preview,
        )

    def _loaded(
        self, request: HttpRequest, anchor: CertificateAuthority, content: bytes
    ) -> HttpResponse:
        loaded = anchor.load_list(content, by=request.user.get_username())
        text = ngettext(
            "The list is in force; it names %(n)d certificate.",
            "The list is in force; it names %(n)d certificates.",
            loaded.entries,
        )
        self.message_user(request, text % {"n": loaded.entries}, messages.SUCCESS)
        return HttpResponseRedirect(
            reverse("admin:devices_certificateauthority_change", args=[anchor.pk])
        )
