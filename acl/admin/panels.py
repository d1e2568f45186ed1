"""The rules about a device or a group, as a section of its page."""

from typing import Any

from django.db.models import Q
from django.http import HttpRequest
from django.utils.translation import gettext as _

from acl.admin.filters import GROUP, entity_of, received_by, sent_by
from acl.models import CommandPermission
from devices.admin.changelist import count_text, counts
from devices.extension_points import Panel
from devices.models import Device, DeviceGroup

MAX_IN_PANEL = 20


def rules_panel(request: HttpRequest, device: Device) -> Panel | None:
    """Return the section of a device's page that lists the rules about it."""
    if not request.user.has_perm("acl.view_commandpermission"):
        return None
    entity = entity_of(device)
    return Panel(
        _("Rules about this device"),
        "admin/acl/rules_panel.html",
        {"directions": _directions(device.pk, sent_by(entity), received_by(entity))},
    )


def group_rules_panel(request: HttpRequest, group: DeviceGroup) -> Panel | None:
    """Return the section of a group's page that lists the rules that name it."""
    if not request.user.has_perm("acl.view_commandpermission"):
        return None
    sent, received = Q(source_key=-group.pk), Q(destination_group=group)
    return Panel(
        _("Rules that name this group"),
        "admin/acl/rules_panel.html",
        {"directions": _directions(f"{GROUP}{group.pk}", [sent], [received])},
    )


def _directions(subject: object, sent: list[Q], received: list[Q]) -> list[dict[str, Any]]:
    return [
        _direction(_("As sender"), f"sender={subject}", sent),
        _direction(_("As receiver"), f"receiver={subject}", received),
    ]


def _direction(heading: str, query: str, conditions: list[Q]) -> dict[str, Any]:
    """Return the first rules that fulfil the conditions, in their order: a statement for each."""
    rules: list[CommandPermission] = []
    for condition in conditions:
        missing = MAX_IN_PANEL - len(rules)
        if missing:
            found = CommandPermission.objects.named().filter(condition).order_by("pk")
            rules += found[:missing]
    # No rule fulfils two of them; one condition of them all would be no index's.
    total = sum(counts(CommandPermission.objects.filter(condition) for condition in conditions))
    return {
        "heading": heading,
        "query": query,
        "rules": rules,
        "total": count_text(total),
        "is_cut": total > len(rules),
    }
