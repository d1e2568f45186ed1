"""What staff do to many devices at once."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _, gettext_lazy, ngettext, ngettext_lazy

from devices.admin.base.actions import BulkChange, Revoke, Switch
from devices.admin.base.pages import is_key, may_view
from devices.admin.base.widgets import SuggestedRow
from devices.admin.device_list import GroupFilter
from devices.models import Device, DeviceGroup
from devices.models.credentials.state import has_credential, revoke_credentials
from devices.models.dependants import Dependants, dependants, not_deletable
from devices.values.text import isolated


def group_field(label: Any) -> forms.Field:
    return forms.ModelChoiceField(
        label=label,
        queryset=DeviceGroup.objects.all(),
        widget=SuggestedRow(Device._meta.get_field("groups"), admin.site),
    )


class GroupForm(forms.Form):
    group = group_field(gettext_lazy("Group"))


class MoveForm(forms.Form):
    group = group_field(gettext_lazy("From the group"))
    to = group_field(gettext_lazy("To the group"))

    def clean(self) -> dict[str, Any]:
        """Refuse one group twice: its devices would leave it."""
        said = super().clean() or {}
        if "to" in said and said["to"] == said.get("group"):
            self.add_error("to", _("Choose another group than that which they leave."))
        return said


class Enable(Switch):
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

    def change(self, devices: Any, given: dict[str, Any], request: HttpRequest) -> int:
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
    form_class: type[forms.Form] = GroupForm
    asks_first = True
    others = gettext_lazy(
        "Devices that are not in the group that they would leave stay as they are."
    )

    def initial(self, request: HttpRequest) -> dict[str, Any]:
        """Begin with the group that the list shows."""
        group = request.GET.get(GroupFilter.parameter_name, "")
        return {"group": group} if is_key(group) and may_view(request, DeviceGroup) else {}

    def affected(self, devices: Any, given: dict[str, Any]) -> QuerySet[Device]:
        return devices.filter(groups=given["group"])

    def change(self, devices: Any, given: dict[str, Any], request: HttpRequest) -> int:
        return devices.remove_from_group(given["group"])


class Move(Leave):
    name = "move"
    description = gettext_lazy("Move selected devices to another group")
    title = gettext_lazy("Move devices to another group")
    text = gettext_lazy(
        "The rules of the one group will no longer concern these, and those of the other will:"
    )
    button = gettext_lazy("Move")
    done = ngettext_lazy(
        "%(n)d device moved from “%(group)s” to “%(to)s”.",
        "%(n)d devices moved from “%(group)s” to “%(to)s”.",
        "n",
    )
    form_class = MoveForm
    asks = gettext_lazy("Choose both groups; what will change is shown next.")

    def change(self, devices: Any, given: dict[str, Any], request: HttpRequest) -> int:
        return devices.move_to_group(given["to"], leaving=given["group"])


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

    def change(self, devices: Any, given: dict[str, Any], request: HttpRequest) -> int:
        return devices.delete_with_history()

    def goes_with(self, devices: Any) -> list[Dependants]:
        return dependants(devices)

    def lacking(self, devices: Any, user: Any) -> list[str]:
        return not_deletable(dependants(devices), user)


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
        return devices.filter(has_credential("filter", revoked_at=None))

    def apply(self, devices: Any, given: dict[str, Any], request: HttpRequest) -> tuple[str, int]:
        by = request.user.get_username()
        keys, certificates = revoke_credentials(devices, by=by, reason=given["reason"])
        many = ngettext("%(n)d certificate", "%(n)d certificates", certificates)
        text = _("Revoked: %(keys)s, %(certificates)s.") % {
            "keys": ngettext("%(n)d key", "%(n)d keys", keys) % {"n": keys},
            "certificates": many % {"n": certificates},
        }
        return text, keys + certificates

    def text_of_one(self, row: Device) -> str:
        text = _(
            "No key and no registered certificate of “%(device)s” will admit it any more. This "
            "cannot be undone; it needs new ones. Where a trust anchor vouches for it, a "
            "certificate that nobody registered still admits it: disable a stolen device, too."
        )
        return text % {"device": isolated(row)}
