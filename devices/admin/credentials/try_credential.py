"""Trying a device's credentials in the admin: the form, and what it suggests."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse_lazy
from django.utils.decorators import method_decorator
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from devices.admin.base.forms import LineInput, LinesInput, focus_first_empty
from devices.admin.base.pages import OwnPagesMixin, own_page
from devices.credentials import hashing, x509
from devices.models import Certificate, Device, PreSharedKey
from devices.trying import PERMISSION, try_credentials

MAX_SUGGESTED = 20


class SuggestingInput(LineInput):
    """A text field with a list of suggestions, which a script renews as one types.

    `options` come with the page, for browsers without scripts: at most MAX_SUGGESTED.
    """

    class Media:
        js = [forms.Script("devices/suggestions.js", defer=True)]
        css = {"all": ["devices/pages.css"]}

    def __init__(self, url: Any) -> None:
        super().__init__(
            attrs={
                "autocomplete": "off",
                "autocapitalize": "none",
                "spellcheck": "false",
                "data-suggestions": url,
            }
        )
        self.options: Sequence[str] = ()

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        listed = f"{name}-suggestions"
        field = super().render(name, value, {**(attrs or {}), "list": listed}, renderer)
        options = format_html_join("", '<option value="{}">', ((one,) for one in self.options))
        return format_html('{}<datalist id="{}">{}</datalist>', field, listed, options)


class CredentialForm(forms.Form):
    use_required_attribute = False

    device = forms.CharField(
        label=gettext_lazy("Device"),
        max_length=1000,
        widget=SuggestingInput(reverse_lazy("admin:devices_device_suggestions")),
        help_text=gettext_lazy("Its ID, or an address with it."),
    )
    secret = forms.CharField(
        label=gettext_lazy("Secret"),
        required=False,
        strip=False,
        max_length=hashing.MAX_LENGTH,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "class": "vTextField"}),
    )
    certificate = forms.CharField(
        label=gettext_lazy("Certificate"),
        required=False,
        max_length=x509.MAX_TEXT_LENGTH,
        widget=LinesInput(attrs={"rows": 6, "spellcheck": "false"}),
        help_text=gettext_lazy("PEM, the device's own first; its issuers may follow."),
    )

    def clean_device(self) -> Device:
        return Device.objects.at(self.cleaned_data["device"])

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors and not cleaned.get("secret") and not cleaned.get("certificate"):
            raise ValidationError(_("Fill in a secret, a certificate, or both."))
        return cleaned


class TryCredentialMixin(OwnPagesMixin):
    """Adds the page that tries credentials, and what it suggests, to the admin of devices."""

    def has_try_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(PERMISSION)

    @own_page("try-credential/", needs="try")
    @method_decorator([sensitive_post_parameters(), sensitive_variables()])
    def try_credential(self, request: HttpRequest) -> HttpResponse:
        """Show the form, and after a POST the verdict; what was presented is never shown again."""
        form = CredentialForm(request.POST or None, initial={"device": request.GET.get("device")})
        focus_first_empty(form)
        verdict = None
        if form.is_valid():
            verdict = try_credentials(request.user.pk, **form.cleaned_data)
            if verdict is None:
                form.add_error(None, _("Too many of your tries have failed; try again later."))
            else:
                form = CredentialForm(initial={"device": form.cleaned_data["device"]})
        form.fields["device"].widget.options = self.suggested(request)
        if form.is_bound:
            form.data = {"device": form.data.get("device", "")}  # and nothing that is a secret
        tried: dict[str, Any] = {}
        if verdict is not None:
            tried = {
                "device": form.initial["device"],
                "key": verdict.key and PreSharedKey.objects.filter(pk=verdict.key).first(),
                "certificate": verdict.certificate
                and Certificate.objects.filter(pk=verdict.certificate).first(),
            }
        return self.page(
            request,
            "admin/devices/try_credential.html",
            title=_("Try a credential"),
            form=form,
            media=self.media + form.media,
            verdict=verdict,
            **tried,
        )

    @own_page("suggestions/", needs="view")
    def suggestions(self, request: HttpRequest) -> HttpResponse:
        """Return the identifiers that the list's search finds, for a list of suggestions."""
        sought = request.GET.get("q", "").strip()
        return JsonResponse({"found": self.suggested(request, sought) if sought else []})

    def suggested(self, request: HttpRequest, sought: str = "") -> list[str]:
        """Return the first identifiers that the list's search finds, if they may be seen."""
        if not self.has_view_permission(request):
            return []
        rows, _duplicates = self.get_search_results(request, Device.objects.all(), sought)
        names = rows.order_by("identifier").values_list("identifier", flat=True)
        return list(names[:MAX_SUGGESTED])
