"""What staff do to many rows at once: each change is shown before it is made."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy

from devices import history
from devices.admin.base.forms import LineInput
from devices.admin.base.mixins import OwnPagesMixin, confirmation, form_page, set_digest, url_name
from devices.admin.base.widgets import SuggestedRow
from devices.credentials import x509
from devices.models import Certificate, Device, DeviceGroup, PreSharedKey
from devices.models.credential_state import has_unrevoked_credential, revoke_credentials
from devices.models.dependants import dependants, not_deletable
from devices.models.revocation import revoke_all
from devices.text import isolated

MAX_SHOWN = 20  # devices that a confirmation lists by name


class GroupForm(forms.Form):
    group = forms.ModelChoiceField(
        label=gettext_lazy("Group"),
        queryset=DeviceGroup.objects.all(),
        widget=SuggestedRow(Device._meta.get_field("groups"), admin.site),
    )


class RevokeForm(forms.Form):
    reason = forms.CharField(
        label=gettext_lazy("Reason"), required=False, max_length=255, widget=LineInput
    )


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


class BulkChange:
    """A change of many rows: which of those selected it changes, and how.

    With `title_of_one` there is a page that makes it of one row, too.
    """

    name: str
    description: Any
    permissions: Sequence[str] = ("change",)
    title: Any
    text: Any
    button: Any
    done: Any  # a text with the number of rows that were changed, `n`, and what the form said
    title_of_one: Any = None
    is_destructive = False
    instead: "type[BulkChange] | None" = None  # what can be undone, offered before
    form_class: type[forms.Form] = forms.Form
    can_be_undone = True  # as a whole, from the history
    asks_first = False  # whether `affected` needs the form

    def affected(self, rows: Any, given: dict[str, Any]) -> QuerySet[Any]:
        """Return the rows that the change does change."""
        return rows

    def change(self, rows: Any, given: dict[str, Any], *, by: str) -> int:
        """Make the change; return how many rows it changed."""
        raise NotImplementedError

    def apply(self, rows: Any, given: dict[str, Any], *, by: str) -> str:
        """Make the change; return what was done, with its counts."""
        return str(self.done % {**given, "n": self.change(rows, given, by=by)})

    def goes_with(self, rows: Any) -> list[str]:
        """Return what else the change takes along, in words."""
        return []

    def lacking(self, rows: Any, user: Any) -> list[str]:
        """Return what stands in the user's way, in words."""
        return []

    def text_of_one(self, row: Any) -> str:
        """Return what the change means for one row."""
        raise NotImplementedError

    def page_after(self, row: Any) -> Model:
        """Return the row whose page is shown once one row is changed."""
        return row

    def action(self) -> Callable[..., HttpResponse | None]:
        """Return the change as an action of an admin that is a BulkActionsMixin."""

        @admin.action(description=self.description, permissions=self.permissions)
        def act(
            model_admin: "BulkActionsMixin", request: HttpRequest, queryset: QuerySet[Any]
        ) -> HttpResponse | None:
            return model_admin.change_many(request, queryset, self)

        act.__name__ = self.name
        return act


class Enable(BulkChange):
    name = "enable"
    description = gettext_lazy("Enable selected devices")
    title = gettext_lazy("Enable devices")
    text = gettext_lazy("These devices may connect again, with the credentials that they have.")
    button = gettext_lazy("Enable")
    done = ngettext_lazy("%(n)d device enabled.", "%(n)d devices enabled.", "n")
    title_of_one = gettext_lazy("Enable device")
    about_one = gettext_lazy(
        "“%(identifier)s” may connect again, with the credentials that it has."
    )
    enables = True

    def affected(self, devices: Any, given: dict[str, Any]) -> QuerySet[Device]:
        return devices.filter(enabled=not self.enables)

    def change(self, devices: Any, given: dict[str, Any], *, by: str) -> int:
        return devices.set_enabled(enabled=self.enables)

    def text_of_one(self, row: Device) -> str:
        return self.about_one % {"identifier": row.identifier}


class Disable(Enable):
    name = "disable"
    description = gettext_lazy("Disable selected devices")
    title = gettext_lazy("Disable devices")
    text = gettext_lazy(
        "These devices will be refused from their next request on. Nothing is lost: they can be "
        "enabled again."
    )
    button = gettext_lazy("Disable")
    done = ngettext_lazy("%(n)d device disabled.", "%(n)d devices disabled.", "n")
    title_of_one = gettext_lazy("Disable device")
    about_one = gettext_lazy(
        "“%(identifier)s” will be refused from its next request on. Nothing is lost: it can "
        "be enabled again."
    )
    is_destructive = True
    enables = False


class Join(BulkChange):
    name = "join"
    description = gettext_lazy("Add selected devices to a group")
    title = gettext_lazy("Add devices to a group")
    text = gettext_lazy("The rules of the group, and of the groups above it, will concern these:")
    button = gettext_lazy("Add to the group")
    done = ngettext_lazy(
        "%(n)d device added to “%(group)s”.", "%(n)d devices added to “%(group)s”.", "n"
    )
    form_class = GroupForm
    asks_first = True

    def affected(self, devices: Any, given: dict[str, Any]) -> QuerySet[Device]:
        return devices.exclude(groups=given["group"])

    def change(self, devices: Any, given: dict[str, Any], *, by: str) -> int:
        return devices.add_to_group(given["group"])


class Leave(BulkChange):
    name = "leave"
    description = gettext_lazy("Remove selected devices from a group")
    title = gettext_lazy("Remove devices from a group")
    text = gettext_lazy("The rules of the group will no longer concern these:")
    button = gettext_lazy("Remove from the group")
    done = ngettext_lazy(
        "%(n)d device removed from “%(group)s”.", "%(n)d devices removed from “%(group)s”.", "n"
    )
    is_destructive = True
    form_class = GroupForm
    asks_first = True

    def affected(self, devices: Any, given: dict[str, Any]) -> QuerySet[Device]:
        return devices.filter(groups=given["group"])

    def change(self, devices: Any, given: dict[str, Any], *, by: str) -> int:
        return devices.remove_from_group(given["group"])


class Delete(BulkChange):
    name = "delete_selected"
    description = gettext_lazy("Delete selected devices")
    permissions = ("delete",)
    title = gettext_lazy("Delete devices")
    text = gettext_lazy(
        "These devices will be gone, and nothing will remember which of their secrets were "
        "revoked. To refuse them it is enough to disable them, which can be undone."
    )
    button = gettext_lazy("Delete")
    done = ngettext_lazy("%(n)d device deleted.", "%(n)d devices deleted.", "n")
    is_destructive = True
    can_be_undone = False
    instead = Disable

    def change(self, devices: Any, given: dict[str, Any], *, by: str) -> int:
        return devices.delete_with_history()

    def goes_with(self, devices: Any) -> list[str]:
        return [f"{one.name}: {one.rows:,}" for one in dependants(devices)]

    def lacking(self, devices: Any, user: Any) -> list[str]:
        return not_deletable(dependants(devices), user)


class Revoke(BulkChange):
    """Revokes credentials, from their next use on and for good."""

    name = "revoke"
    button = gettext_lazy("Revoke")
    is_destructive = True
    can_be_undone = False
    form_class = RevokeForm


class RevokeAll(Revoke):
    name = "revoke_credentials"
    description = gettext_lazy("Revoke all credentials of selected devices")
    permissions = ("revoke_credentials",)
    title = title_of_one = button = gettext_lazy("Revoke all credentials")
    text = gettext_lazy(
        "No key and no registered certificate of these devices will admit them any more. This "
        "cannot be undone; they need new ones."
    )

    def affected(self, devices: Any, given: dict[str, Any]) -> QuerySet[Device]:
        return devices.filter(has_unrevoked_credential())

    def apply(self, devices: Any, given: dict[str, Any], *, by: str) -> str:
        keys, certificates = revoke_credentials(devices, by=by, reason=given["reason"])
        many = ngettext("%(n)d certificate", "%(n)d certificates", certificates)
        return _("Revoked: %(keys)s, %(certificates)s.") % {
            "keys": ngettext("%(n)d key", "%(n)d keys", keys) % {"n": keys},
            "certificates": many % {"n": certificates},
        }

    def text_of_one(self, row: Device) -> str:
        text = _(
            "No key and no registered certificate of “%(device)s” will admit it any more. This "
            "cannot be undone; it needs new ones. Where a trust anchor vouches for it, a "
            "certificate that nobody registered still admits it: disable a stolen device, too."
        )
        return text % {"device": isolated(row)}


class RevokeKeys(Revoke):
    description = gettext_lazy("Revoke selected keys")
    title = gettext_lazy("Revoke keys")
    text = gettext_lazy("These keys will admit nobody any more. This cannot be undone.")
    done = ngettext_lazy("%(n)d key revoked.", "%(n)d keys revoked.", "n")
    title_of_one = gettext_lazy("Revoke key")

    def affected(self, rows: Any, given: dict[str, Any]) -> QuerySet[PreSharedKey]:
        return rows.unrevoked()

    def change(self, rows: Any, given: dict[str, Any], *, by: str) -> int:
        return revoke_all(rows, by=by, **given)

    def text_of_one(self, row: PreSharedKey) -> str:
        text = _(
            "Key “{key}” of <b>{device}</b> will admit nobody any more. This cannot be undone."
        )
        return format_html(text, key=isolated(row), device=row.device)

    def page_after(self, row: PreSharedKey) -> Device:
        """Return the device, which may need another key."""
        return row.device


class RevokeCertificates(Revoke):
    description = gettext_lazy("Revoke selected certificates")
    title = gettext_lazy("Revoke certificates")
    text = gettext_lazy("These certificates will admit nobody any more. This cannot be undone.")
    done = ngettext_lazy("%(n)d certificate revoked.", "%(n)d certificates revoked.", "n")
    title_of_one = gettext_lazy("Revoke certificate")
    form_class = RevokeCertificateForm

    def affected(self, rows: Any, given: dict[str, Any]) -> QuerySet[Certificate]:
        return rows if given.get("key_too") else rows.unrevoked()

    def change(self, rows: Any, given: dict[str, Any], *, by: str) -> int:
        return sum(certificate.revoke(by=by, **given) for certificate in rows)

    def text_of_one(self, row: Certificate) -> str:
        text = _(
            "“{}” will admit nobody any more, by a trust anchor neither. This cannot be undone."
        )
        return format_html(text, isolated(x509.shown(str(row), 80)))


class BulkActionsMixin(OwnPagesMixin):
    """Makes an admin confirm a change of many rows, or of one, and then make it."""

    changes: Sequence[BulkChange] = ()

    def own_pages(self) -> Iterator[tuple[str, Callable[..., Any], str]]:
        """Add a page for each change that is made of one row, too."""
        yield from super().own_pages()
        for change in self.changes:
            if change.title_of_one:
                view = partial(self.change_one, change=change)
                yield f"<int:object_id>/{change.name}/", view, change.name

    def change_many(
        self, request: HttpRequest, queryset: QuerySet[Any], change: BulkChange
    ) -> HttpResponse | None:
        """Ask, show what will change, and change it once that is confirmed as shown."""
        form = change.form_class(request.POST if "confirmed" in request.POST else None)
        given: dict[str, Any] | None = {} if not form.fields else None
        if form.is_valid():
            given = form.cleaned_data
        if given is None and change.asks_first:
            return confirmation(
                self,
                request,
                queryset.none(),
                form,
                title=change.title,
                text=_("Choose the group; what will change is shown next."),
                button=_("Continue"),
                is_destructive=False,
                asks_why=False,
                shown="",
            )
        rows = self.model._default_manager.filter(pk__in=queryset.order_by().values("pk"))
        affected = change.affected(rows, given or {})
        digest = set_digest(affected)
        confirmed = request.POST.get("shown") or None
        lacks = change.lacking(affected, request.user)
        if given is not None and not lacks and confirmed == digest:
            done = self._made(request, change, affected, given)
            messages.success(request, self._with_undo(done, change))
            return None
        count = affected.count()
        return confirmation(
            self,
            request,
            affected[:MAX_SHOWN],
            form,
            title=change.title,
            text=change.text,
            button=change.button if count and not lacks else "",
            is_destructive=change.is_destructive,
            count=count,
            noun=self.opts.verbose_name if count == 1 else self.opts.verbose_name_plural,
            selected=rows.count(),
            more=max(count - MAX_SHOWN, 0),
            goes_with=change.goes_with(affected),
            lacking=lacks,
            has_moved=confirmed is not None and confirmed != digest,
            shown=digest,
            instead=change.instead.name if change.instead and count else "",
        )

    def change_one(
        self, request: HttpRequest, object_id: int, *, change: BulkChange
    ) -> HttpResponse:
        row = get_object_or_404(self.model._default_manager.all(), pk=object_id)
        for one in change.permissions:
            about = (row,) if one == "change" else ()
            if not getattr(self, f"has_{one}_permission")(request, *about):
                raise PermissionDenied
        form = change.form_class(request.POST if request.method == "POST" else None)
        if form.is_valid():
            return self.guarded(request, self.apply_to_one, row, change, form)
        return form_page(
            self,
            request,
            form,
            row,
            title=change.title_of_one,
            text=change.text_of_one(row),
            button=change.button,
            is_destructive=change.is_destructive,
        )

    def apply_to_one(
        self, request: HttpRequest, row: Any, change: BulkChange, form: forms.Form
    ) -> HttpResponse:
        """Make a change that was confirmed; show what it was made of."""
        rows = self.model._default_manager.filter(pk=row.pk)
        messages.success(request, self._made(request, change, rows, form.cleaned_data))
        page = change.page_after(row)
        return redirect(url_name(page._meta, "change"), page.pk)

    @staticmethod
    def _with_undo(done: str, change: BulkChange) -> str:
        number = history.current_batch()
        if not change.can_be_undone or number is None:
            return done
        address = reverse("admin:batch", args=[number])
        return format_html('{} <a href="{}">{}</a>', done, address, _("Undo…"))

    @staticmethod
    def _made(
        request: HttpRequest, change: BulkChange, rows: QuerySet[Any], given: dict[str, Any]
    ) -> str:
        """Make a change; the history says the reason that its form asks for, too."""
        with history.origin(history.Origin.ADMIN, reason=given.get("reason", "")):
            return change.apply(rows, given, by=request.user.get_username())

    def has_revoke_credentials_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perms(["devices.change_presharedkey", "devices.change_certificate"])
