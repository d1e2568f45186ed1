"""What staff do to many devices at once: each change is shown before it is made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.widgets import AutocompleteSelect
from django.db.models import CASCADE, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from devices.admin.mixins import RevokeForm
from devices.models import Device, DeviceGroup
from devices.models.certificate import keep_revoked
from devices.models.credential_state import has_unrevoked_credential, revoke_credentials

MAX_SHOWN = 20  # devices that a confirmation lists by name


class GroupForm(forms.Form):
    """Which group."""

    group = forms.ModelChoiceField(
        label=gettext_lazy("Group"),
        queryset=DeviceGroup.objects.all(),
        widget=AutocompleteSelect(Device._meta.get_field("groups"), admin.site),
    )


class BulkChange:
    """A change of many devices: which of those selected it changes, and how."""

    name: str
    description: Any
    permissions: Sequence[str] = ("change",)
    title: Any
    text: Any
    button: Any
    is_destructive = False
    instead: "type[BulkChange] | None" = None  # what can be undone, offered before
    form_class: type[forms.Form] | None = None
    asks_first = False  # whether `affected` needs the form

    def affected(self, devices: Any, given: dict[str, Any]) -> QuerySet[Device]:
        """Return the devices that the change does change."""
        return devices

    def apply(self, devices: Any, given: dict[str, Any], *, by: str) -> str:
        """Make the change; return what was done, with its counts."""
        raise NotImplementedError

    def goes_with(self, devices: Any) -> list[str]:
        """Return what else the change takes along, in words."""
        return []

    def lacking(self, devices: Any, user: Any) -> list[str]:
        """Return what stands in the user's way, in words."""
        return []

    def action(self) -> Callable[..., HttpResponse | None]:
        """Return the change as an action of an admin that is a BulkActionsMixin."""

        @admin.action(description=self.description, permissions=self.permissions)
        def act(
            model_admin: "BulkActionsMixin", request: HttpRequest, queryset: QuerySet[Device]
        ) -> HttpResponse | None:
            return model_admin.change_many(request, queryset, self)

        act.__name__ = self.name
        return act


class Enable(BulkChange):
    """Lets devices connect again."""

    name = "enable"
    description = gettext_lazy("Enable selected devices")
    title = gettext_lazy("Enable devices")
    text = gettext_lazy("These devices may connect again, with the credentials that they have.")
    button = gettext_lazy("Enable")
    title_of_one = gettext_lazy("Enable device")
    text_of_one = gettext_lazy(
        "“%(identifier)s” may connect again, with the credentials that it has."
    )

    def affected(self, devices: Any, given: dict[str, Any]) -> QuerySet[Device]:
        """Return those that are disabled."""
        return devices.disabled()

    def apply(self, devices: Any, given: dict[str, Any], *, by: str) -> str:
        """Enable them."""
        changed = devices.set_enabled(enabled=True)
        return ngettext("%(n)d device enabled.", "%(n)d devices enabled.", changed) % {"n": changed}


class Disable(BulkChange):
    """Refuses devices from their next request on."""

    name = "disable"
    description = gettext_lazy("Disable selected devices")
    title = gettext_lazy("Disable devices")
    text = gettext_lazy(
        "These devices will be refused from their next request on. Nothing is lost: they can be "
        "enabled again."
    )
    button = gettext_lazy("Disable")
    title_of_one = gettext_lazy("Disable device")
    text_of_one = gettext_lazy(
        "“%(identifier)s” will be refused from its next request on. Nothing is lost: it can be "
        "enabled again."
    )
    is_destructive = True

    def affected(self, devices: Any, given: dict[str, Any]) -> QuerySet[Device]:
        """Return those that are enabled."""
        return devices.enabled()

    def apply(self, devices: Any, given: dict[str, Any], *, by: str) -> str:
        """Disable them."""
        changed = devices.set_enabled(enabled=False)
        return ngettext("%(n)d device disabled.", "%(n)d devices disabled.", changed) % {
            "n": changed
        }


class Join(BulkChange):
    """Puts devices into a group."""

    name = "join"
    description = gettext_lazy("Add selected devices to a group")
    title = gettext_lazy("Add devices to a group")
    text = gettext_lazy("The rules of the group, and of the groups above it, will concern these:")
    button = gettext_lazy("Add to the group")
    form_class = GroupForm
    asks_first = True

    def affected(self, devices: Any, given: dict[str, Any]) -> QuerySet[Device]:
        """Return those outside the group."""
        return devices.exclude(groups=given["group"])

    def apply(self, devices: Any, given: dict[str, Any], *, by: str) -> str:
        """Add them."""
        n = devices.add_to_group(given["group"])
        return ngettext(
            "%(n)d device added to “%(group)s”.", "%(n)d devices added to “%(group)s”.", n
        ) % {"n": n, "group": given["group"]}


class Leave(BulkChange):
    """Takes devices out of a group."""

    name = "leave"
    description = gettext_lazy("Remove selected devices from a group")
    title = gettext_lazy("Remove devices from a group")
    text = gettext_lazy("The rules of the group will no longer concern these:")
    button = gettext_lazy("Remove from the group")
    is_destructive = True
    form_class = GroupForm
    asks_first = True

    def affected(self, devices: Any, given: dict[str, Any]) -> QuerySet[Device]:
        """Return those in the group."""
        return devices.filter(groups=given["group"])

    def apply(self, devices: Any, given: dict[str, Any], *, by: str) -> str:
        """Remove them."""
        n = devices.remove_from_group(given["group"])
        return ngettext(
            "%(n)d device removed from “%(group)s”.", "%(n)d devices removed from “%(group)s”.", n
        ) % {"n": n, "group": given["group"]}


class RevokeAll(BulkChange):
    """Revokes every key and certificate of devices."""

    name = "revoke_credentials"
    description = gettext_lazy("Revoke all credentials of selected devices")
    permissions = ("revoke_credentials",)
    title = gettext_lazy("Revoke all credentials")
    text = gettext_lazy(
        "No key and no registered certificate of these devices will admit them any more. This "
        "cannot be undone; they need new ones."
    )
    button = gettext_lazy("Revoke all credentials")
    is_destructive = True
    form_class = RevokeForm

    def affected(self, devices: Any, given: dict[str, Any]) -> QuerySet[Device]:
        """Return those with anything to revoke."""
        return devices.filter(has_unrevoked_credential())

    def apply(self, devices: Any, given: dict[str, Any], *, by: str) -> str:
        """Revoke them."""
        keys, certificates = revoke_credentials(devices, by=by, reason=given["reason"])
        return _("Revoked: %(keys)d keys, %(certificates)d certificates.") % {
            "keys": keys,
            "certificates": certificates,
        }


class Delete(BulkChange):
    """Deletes devices and what hangs on them."""

    name = "delete_selected"
    description = gettext_lazy("Delete selected devices")
    permissions = ("delete",)
    title = gettext_lazy("Delete devices")
    text = gettext_lazy(
        "These devices will be gone, and nothing will remember which of their secrets were "
        "revoked. To refuse them it is enough to disable them, which can be undone."
    )
    button = gettext_lazy("Delete")
    is_destructive = True
    instead = Disable

    def apply(self, devices: Any, given: dict[str, Any], *, by: str) -> str:
        """Delete them."""
        n = devices.delete_with_history()
        return ngettext("%(n)d device deleted.", "%(n)d devices deleted.", n) % {"n": n}

    def goes_with(self, devices: Any) -> list[str]:
        """Count the keys, certificates and rules that are deleted with them."""
        return [f"{one.name}: {one.rows:,}" for one in dependants(devices)]

    def lacking(self, devices: Any, user: Any) -> list[str]:
        """Name what goes along that this user may not delete."""
        return not_deletable(dependants(devices), user)


@dataclass(frozen=True, slots=True)
class Dependants:
    """How many rows of a model go with something that is deleted."""

    model: Any
    rows: int

    @property
    def name(self) -> str:
        """What the rows are called."""
        return str(self.model._meta.verbose_name_plural)


def dependants(devices: QuerySet[Device]) -> list[Dependants]:
    """Count what is deleted with devices; what stays is not among it."""
    hanging: dict[Any, Q] = {}
    keys = devices.order_by().values("pk")
    for relation in Device._meta.related_objects:
        of_these = Q(**{f"{relation.field.name}__in": keys})
        if relation.on_delete is keep_revoked:
            of_these &= Q(revoked_at=None)
        elif relation.on_delete is not CASCADE:
            continue
        hanging[relation.related_model] = hanging.get(relation.related_model, Q()) | of_these
    counted = (
        Dependants(model, model._default_manager.filter(condition).count())
        for model, condition in hanging.items()
    )
    return [found for found in counted if found.rows]


def not_deletable(found: list[Dependants], user: Any) -> list[str]:
    """Name the dependants that the user may not delete."""
    return [
        one.name
        for one in found
        if not user.has_perm(f"{one.model._meta.app_label}.delete_{one.model._meta.model_name}")
    ]


class BulkActionsMixin:
    """Makes an admin confirm a change of many devices, and then make it."""

    def change_many(
        self, request: HttpRequest, queryset: QuerySet[Device], change: BulkChange
    ) -> HttpResponse | None:
        """Ask, show what will change, and change it once that is confirmed as shown."""
        sent = request.POST if "step" in request.POST else None
        form = change.form_class(sent) if change.form_class else None
        given: dict[str, Any] | None = {}
        if form is not None:
            given = form.cleaned_data if form.is_valid() else None
        if given is None and change.asks_first:
            return self._confirmation(request, change, queryset, form=form)
        devices = Device.objects.filter(pk__in=queryset.order_by().values("pk"))
        affected = change.affected(devices, given or {})
        count = affected.count()
        shown = request.POST.get("count")
        lacks = change.lacking(affected, request.user)
        if given is None or lacks or shown is None or str(count) != shown:
            return self._confirmation(
                request,
                change,
                queryset,
                form=form,
                count=count,
                selected=devices.count(),
                rows=affected[:MAX_SHOWN],
                more=max(count - MAX_SHOWN, 0),
                goes_with=change.goes_with(affected),
                lacking=lacks,
                has_moved=shown is not None and str(count) != shown,
            )
        done = change.apply(affected, given, by=request.user.get_username())
        messages.success(request, done)
        return None

    def _confirmation(
        self, request: HttpRequest, change: BulkChange, queryset: QuerySet[Device], **context: Any
    ) -> HttpResponse:
        across = request.POST.get("select_across") == "1"
        selected = request.POST.getlist(ACTION_CHECKBOX_NAME)
        model_admin: Any = self
        form = context["form"]
        return TemplateResponse(
            request,
            "admin/devices/bulk.html",
            {
                **model_admin.admin_site.each_context(request),
                "opts": model_admin.opts,
                "title": change.title,
                "change": change,
                "action": request.POST["action"],
                "across": across,
                "keys": selected[:1] if across else selected,
                "checkbox": ACTION_CHECKBOX_NAME,
                "media": model_admin.media + form.media if form else model_admin.media,
                "back": request.get_full_path(),
                **context,
            },
        )

    def has_revoke_credentials_permission(self, request: HttpRequest) -> bool:
        """Whether this user may revoke keys and certificates."""
        return request.user.has_perms(["devices.change_presharedkey", "devices.change_certificate"])
