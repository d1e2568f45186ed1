"""The admin of trust anchors, and the page that loads a revocation list."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy, ngettext

from devices.admin.base.filters import LabelledFilter
from devices.admin.base.forms import LinesInput
from devices.admin.base.history import RecordedAdmin
from devices.admin.base.mixins import CountsDeletedMixin
from devices.admin.base.pages import own_page
from devices.admin.base.rendering import (
    CREATED,
    VALID_FROM,
    VALID_UNTIL,
    Tone,
    badge,
    enabled_badge,
    expiry,
    field_column,
    moment,
    moment_column,
    state_badge,
)
from devices.admin.credentials.expiry import EndsFilter
from devices.admin.credentials.presented import (
    CertificatePreviewMixin,
    PresentedForm,
    RegisterForm,
    preview_of_anchor,
    preview_of_list,
)
from devices.credentials import crl, x509
from devices.credentials.certificates import note_revoked
from devices.models import CertificateAuthority
from devices.models.credentials.authority import CRLPolicy
from devices.verdicts import Outcome

MAX_CARRIED_LENGTH = 1024 * 1024  # characters of a list that a preview brings along


class CertificateAuthorityForm(RegisterForm):
    preview_of = staticmethod(preview_of_anchor)

    class Meta:
        model = CertificateAuthority
        fields = CertificateAuthority.written_fields
        widgets = {"name_source": forms.RadioSelect, "crl_policy": forms.RadioSelect}


class LoadListForm(PresentedForm):
    presented = forms.CharField(
        label=gettext_lazy("Revocation list"),
        required=False,
        max_length=MAX_CARRIED_LENGTH,
        widget=LinesInput(attrs={"rows": 8, "spellcheck": "false"}),
        help_text=gettext_lazy("The PEM text, as the authority published it."),
        error_messages={"max_length": gettext_lazy("It is too long to be pasted: choose a file.")},
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
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        content = cleaned["content"] = self.content(crl.MAX_LIST_BYTES)
        now = timezone.now()
        try:
            read = self.anchor.read_list(content, now=now)
        except ValidationError as error:
            # An earlier text is not what is wrong with a file; no page sends back a private key.
            if self.files or b"PRIVATE KEY" in x509.as_ascii(content):
                self.send_back(presented="")
            raise ValidationError({"presented": error}) from None
        carried = read.pem if len(read.pem) <= MAX_CARRIED_LENGTH else ""
        preview = preview_of_list(read, self.anchor, now)
        if not carried:
            preview.warnings.append(_("It is too long to be kept here: choose the file again."))
        self.show(preview, read.fingerprint, carried)
        return cleaned


class ListFilter(LabelledFilter):
    title = gettext_lazy("list in force")
    parameter_name = "list"
    labels = {
        "none": gettext_lazy("None"),
        "current": gettext_lazy("Current"),
        "lapsing": gettext_lazy("Out of date within 7 days"),
        "outdated": gettext_lazy("Out of date"),
    }

    def condition(self, value: str) -> Q:
        now = timezone.now()
        conditions = {
            "none": Q(revocation_list=None),
            "current": Q(revocation_list__next_update__gte=now),
            "lapsing": Q(revocation_list__next_update__lt=now + timedelta(days=7)),
            "outdated": Q(revocation_list__next_update__lt=now),
        }
        return conditions[value]


def refused_as(anchor: CertificateAuthority) -> Outcome | None:
    """Return why an anchor's own certificate is refused; asked once for a row."""
    if "refused_as" not in vars(anchor):
        note_revoked([anchor])
    found: Outcome | None = vars(anchor)["refused_as"]
    return found


@admin.register(CertificateAuthority)
class CertificateAuthorityAdmin(CertificatePreviewMixin, CountsDeletedMixin, RecordedAdmin):
    form = CertificateAuthorityForm
    registered_text = gettext_lazy("The trust anchor is registered.")
    note_in_rows = staticmethod(note_revoked)  # of which `state` tells
    list_display = ["name", "state", "name_source", "crl_policy", "list_state", "ends"]
    list_select_related = ["revocation_list"]
    list_filter = ["enabled", EndsFilter, ListFilter, "crl_policy", "name_source"]
    search_fields = ["name", "subject", "fingerprint"]
    purpose = gettext_lazy(
        "A trust anchor is an authority whose certificates admit devices without any of them "
        "being registered. Its revocation list takes single ones back."
    )
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
    # The others are shown where there is a list.
    LISTED: tuple[Any, ...] = (
        "list_state",
        field_column("revocation_list__number", gettext_lazy("Number")),
        moment_column("revocation_list__this_update", gettext_lazy("Made")),
        field_column("revocation_list__entries", gettext_lazy("Certificates on it")),
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
        (gettext_lazy("Revocation list"), {"fields": ["crl_policy", "distribution_point"]}),
    ]

    def get_fieldsets(self, request: HttpRequest, obj: CertificateAuthority | None = None) -> Any:
        """Ask for the certificate first; then show what was read, and the list if there is one."""
        if obj is None:
            return self.add_fieldsets
        listed = self.LISTED if hasattr(obj, "revocation_list") else self.LISTED[:1]
        state = ["state"] if refused_as(obj) else []
        return [
            (None, {"fields": ["name", "enabled", *state]}),
            self.naming,
            (
                gettext_lazy("Revocation list"),
                {"fields": ["crl_policy", "distribution_point", *listed]},
            ),
            (gettext_lazy("What was read"), {"fields": self.READ}),
        ]

    def get_readonly_fields(
        self, request: HttpRequest, obj: CertificateAuthority | None = None
    ) -> tuple[Any, ...]:
        """Keep the certificate: another certificate is another anchor."""
        return ("state", *self.LISTED, *self.READ) if obj else ()

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save an anchor; say that another distribution point is about the next list only."""
        super().save_model(request, obj, form, change)
        if "distribution_point" in form.changed_data and hasattr(obj, "revocation_list"):
            text = _("The revocation list that is loaded stays in force until another replaces it.")
            messages.info(request, text)

    def response_add(
        self, request: HttpRequest, obj: CertificateAuthority, post_url_continue: str | None = None
    ) -> HttpResponse:
        response = super().response_add(request, obj, post_url_continue)
        if obj.crl_policy == CRLPolicy.REQUIRE:
            messages.warning(request, _("It admits nobody until its revocation list is loaded."))
        return response

    @admin.display(description=gettext_lazy("State"), ordering="enabled")
    def state(self, anchor: CertificateAuthority) -> SafeString:
        outcome = refused_as(anchor)
        return state_badge(outcome) if outcome else enabled_badge(anchor.enabled)

    @admin.display(description=gettext_lazy("Valid until"), ordering="not_after")
    def ends(self, anchor: CertificateAuthority) -> SafeString | str:
        return expiry(anchor.not_after, timezone.now())

    @admin.display(
        description=gettext_lazy("List in force"), ordering="revocation_list__next_update"
    )
    def list_state(self, anchor: CertificateAuthority) -> SafeString:
        loaded = getattr(anchor, "revocation_list", None)
        if loaded is None:
            return badge(Tone.OFF, _("none"))
        if loaded.next_update < timezone.now():
            state = badge(Tone.BAD, _("out of date since"))
        else:
            state = badge(Tone.GOOD, _("current until"))
        return format_html("{} {}", state, moment(loaded.next_update))

    @admin.display(description=gettext_lazy("Loaded"))
    def list_loaded(self, anchor: CertificateAuthority) -> SafeString:
        loaded = anchor.revocation_list
        return format_html("{}, {}", moment(loaded.loaded_at), loaded.loaded_by)

    @own_page("<int:object_id>/load-list/", needs="change")
    def load_list(self, request: HttpRequest, object_id: int) -> HttpResponse:
        anchor = get_object_or_404(CertificateAuthority, pk=object_id)
        sent = (request.POST, request.FILES) if request.method == "POST" else ()
        form = LoadListForm(anchor, *sent)
        if form.is_valid():
            by = request.user.get_username()
            loaded = anchor.load_list(form.cleaned_data["content"], by=by)
            text = ngettext(
                "The list is in force; it names %(n)d certificate.",
                "The list is in force; it names %(n)d certificates.",
                loaded.entries,
            )
            messages.success(request, text % {"n": loaded.entries})
            return redirect("admin:devices_certificateauthority_change", anchor.pk)
        return self.form_page(
            request,
            form,
            anchor,
            title=_("Load a revocation list"),
            text=format_html(
                _("It replaces the list of <b>{}</b> that is in force, as a whole."), anchor
            ),
            button=_("Put the list in force") if form.preview else _("Preview"),
            preview=form.preview,
        )
