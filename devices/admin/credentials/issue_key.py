"""Issuing and rotating keys: the pages that show a secret, once."""

from collections.abc import Callable
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Max
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _, gettext_lazy, ngettext

from devices.admin.base.forms import LineInput, MomentField, OneTimeForm
from devices.admin.base.pages import OwnPagesMixin, own_page
from devices.admin.base.reauthentication import is_recent, recently_authenticated
from devices.credentials import hashing
from devices.extension_points import SNIPPETS
from devices.models import Device, PreSharedKey
from devices.models.credentials.pre_shared_key import ISSUED_BEFORE, check_end

ISSUE = "_issue"  # among what is sent: issue a key with the device
OVERLAPS = {
    0: gettext_lazy("at once"),
    1: gettext_lazy("in an hour"),
    24: gettext_lazy("in a day"),
    7 * 24: gettext_lazy("in a week"),
    30 * 24: gettext_lazy("in 30 days"),
}


class IssueKeyForm(OneTimeForm):
    """What staff may say of a new key; an empty secret means a generated one."""

    folded = ("label", "not_before", "not_after", "secret", "random")

    label = forms.CharField(
        label=gettext_lazy("Label"),
        required=False,
        max_length=100,
        widget=LineInput,
        help_text=gettext_lazy("What staff call this key, such as “factory” or “2026”."),
    )
    not_before = MomentField(label=gettext_lazy("Valid from"), required=False)
    not_after = MomentField(label=gettext_lazy("Valid until"), required=False)
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

    class Media:
        js = ["devices/secrets.js"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("secret"):
            try:
                hashing.check_usable(cleaned["secret"], random=cleaned["random"])
            except ValidationError as error:
                self.add_error("secret", error)
        try:
            check_end(cleaned.get("not_after"))
        except ValidationError as error:
            self.add_error(None, error)
        return cleaned


class RotateKeysForm(OneTimeForm):
    folded = ("label",)

    overlap = forms.TypedChoiceField(
        label=gettext_lazy("The old keys end"),
        choices=OVERLAPS,
        coerce=int,
        initial=24,
        help_text=gettext_lazy(
            "Until then old and new secrets admit the device. A key that would only begin later is "
            "revoked."
        ),
    )
    label = forms.CharField(
        label=gettext_lazy("New label"), required=False, max_length=100, widget=LineInput
    )


def strength_rules(device: Device) -> dict[str, Any]:
    """Return the rules by which a script, which sends nothing, rates a secret while it is typed."""
    return {
        "shortest": hashing.MIN_LENGTH,
        "longest": hashing.MAX_LENGTH,
        "advisable": hashing.CHOSEN_ADVISABLE,
        "distinct": hashing.CHOSEN_DISTINCT,
        "identifier": device.identifier,
        "texts": {
            "unusable": _("A secret has %(shortest)d to %(longest)d characters.")
            % {"shortest": hashing.MIN_LENGTH, "longest": hashing.MAX_LENGTH},
            "short": _("Weak: shorter than %(advisable)d characters.")
            % {"advisable": hashing.CHOSEN_ADVISABLE},
            "identifier": _("Weak: it repeats the identifier, which is no secret."),
            "repeats": _("Weak: digits only, or the same few characters."),
            "fair": _("Fair, unless it is made of words; a generated secret is safer."),
            "good": _("Good, unless it is made of words or used elsewhere."),
        },
    }


class IssueKeyMixin(OwnPagesMixin):
    """Adds the pages that issue and rotate keys to the admin of devices."""

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {"may_issue": request.user.has_perm("devices.add_presharedkey")}
        return super().add_view(request, form_url, context | (extra_context or {}))

    def response_add(
        self, request: HttpRequest, obj: Device, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Show the secret of the new device's key where one was asked for."""
        if ISSUE in request.POST and request.user.has_perm("devices.add_presharedkey"):
            if is_recent(request):
                _key, secret = PreSharedKey.objects.issue(device=obj)
                return self._secret_page(request, obj, secret)
            return redirect("admin:devices_device_issue_key", obj.pk)
        return super().response_add(request, obj, post_url_continue)

    @own_page("<int:object_id>/issue-key/")
    @recently_authenticated
    def issue_key(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Issue a key, or register a known secret; a generated one is shown on this answer only."""
        device = self._device(request, object_id, "devices.add_presharedkey")
        form = IssueKeyForm(request.POST or None)
        if answer := self._answered(request, device, form, self._issued):
            return answer
        return self.form_page(
            request,
            form,
            device,
            title=_("Issue a key"),
            text=format_html(_("A new key for <b>{device}</b>."), device=device.identifier),
            button=_("Issue the key"),
            script_values={"secret-rules": strength_rules(device)},
        )

    def _device(self, request: HttpRequest, object_id: int, *needed: str) -> Device:
        """Return the device for whoever has these permissions and may see what the page names."""
        if not (self.has_view_permission(request) and request.user.has_perms(needed)):
            raise PermissionDenied
        return get_object_or_404(Device, pk=object_id)

    def _answered(
        self,
        request: HttpRequest,
        device: Device,
        form: OneTimeForm,
        answer: Callable[[HttpRequest, Device, dict[str, Any]], HttpResponse],
    ) -> HttpResponse | None:
        """Return the answer to what the form says; None where it is shown, with its errors if any.

        One that was sent again issues nothing and shows nothing.
        """
        if not form.is_valid():
            return None
        try:
            return answer(request, device, form.cleaned_data)
        except ValidationError as error:
            found = getattr(error, "error_dict", {"": [error]})
            if not any(one.code == ISSUED_BEFORE for errors in found.values() for one in errors):
                form.add_error(None, error)
                return None
        messages.warning(
            request,
            _(
                "That form was sent before, and its key is issued. A secret is shown only once: "
                "rotate the keys if you have lost it."
            ),
        )
        return redirect("admin:devices_device_change", device.pk)

    def _issued(self, request: HttpRequest, device: Device, wanted: dict[str, Any]) -> HttpResponse:
        secret, random = wanted.pop("secret"), wanted.pop("random")
        if not secret:
            _key, generated = PreSharedKey.objects.issue(device=device, **wanted)
            return self._secret_page(request, device, generated)
        PreSharedKey.objects.register(device=device, secret=secret, random=random, **wanted)
        messages.success(request, _("The secret was registered."))
        if not random and (warning := hashing.weakness(secret, identifier=device.identifier)):
            messages.warning(request, _("It is weak. %(why)s") % {"why": warning})
        return redirect("admin:devices_device_change", device.pk)

    @own_page("<int:object_id>/rotate-keys/")
    @recently_authenticated
    def rotate_keys(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Issue a new key and let the old ones end; the new secret is shown on this answer only."""
        needed = ("devices.add_presharedkey", "devices.change_presharedkey")
        device = self._device(request, object_id, *needed)
        form = RotateKeysForm(request.POST or None)
        if answer := self._answered(request, device, form, self._rotated):
            return answer
        ending = PreSharedKey.objects.filter(device=device).live_at(timezone.now()).count()
        return self.form_page(
            request,
            form,
            device,
            title=_("Rotate keys"),
            text=format_html(
                ngettext(
                    "<b>{device}</b> gets a new secret; its live key ends when you say.",
                    "<b>{device}</b> gets a new secret; the {n} live keys that it has end "
                    "when you say.",
                    ending,
                ),
                device=device.identifier,
                n=ending,
            ),
            button=_("Issue the new key"),
        )

    def _rotated(
        self, request: HttpRequest, device: Device, wanted: dict[str, Any]
    ) -> HttpResponse:
        overlap = timedelta(hours=wanted.pop("overlap"))
        key, secret = PreSharedKey.objects.rotate(device=device, overlap=overlap, **wanted)
        others = PreSharedKey.objects.filter(device=device).exclude(pk=key.pk)
        ends = others.live_at(timezone.now()).aggregate(last=Max("not_after")) if overlap else {}
        return self._secret_page(request, device, secret, ends.get("last"))

    def _secret_page(
        self, request: HttpRequest, device: Device, secret: str, old_until: datetime | None = None
    ) -> HttpResponse:
        """Return the only page that ever shows a secret; like all of the admin, never cached.

        `old_until` is when the last key that it replaces ends, where one serves for a while.
        """
        return self.page(
            request,
            "admin/devices/secret_page.html",
            status=HTTPStatus.CREATED,  # guards take it for a change that was made, as a redirect
            original=device,
            title=_("The new secret"),
            secret=secret,
            old_until=old_until,
            snippets=[one for make in SNIPPETS for one in make(request, device, secret)],
        )
