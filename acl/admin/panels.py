"""The rules about a device or a group, as a section of its page."""

from typing import Any

from django.db.models import Q
from django.http import HttpRequest
from django.utils.translation import gettext as _

from acl.admin.filters import GROUP, received_by, sent_by, subject_of
from acl.models import CommandPermission
from devices.admin.base.filters import bounded_count_text, counts
from devices.extension_points import Panel, Place
from devices.models import Device, DeviceGroup

MAX_IN_PANEL = 20


def rules_panel(request: HttpRequest, row: Device | DeviceGroup) -> Panel | None:
    """Return the section of a device's or a group's page that lists the rules about it."""
    if not request.user.has_perm("acl.view_commandpermission"):
        return None
    is_group, subject = isinstance(row, DeviceGroup), subject_of(row)
    chosen = f"{GROUP}{row.pk}" if is_group else row.pk
    sent = _direction(_("As sender"), f"sender={chosen}", sent_by(subject))
    received = _direction(_("As receiver"), f"receiver={chosen}", received_by(subject))
    return Panel(
        _("Rules that name this group") if is_group else _("Rules about this device"),
        "admin/acl/rules_panel.html",
        {"both": _both(sent, received), "directions": [sent, received]},
        place=Place.RULES,
    )


def _both(sent: dict[str, Any], received: dict[str, Any]) -> list[CommandPermission]:
    """Remove the rules that are in both lists from them, and return these."""
    common = {rule.pk for rule in sent["rules"]} & {rule.pk for rule in received["rules"]}
    both = [rule for rule in sent["rules"] if rule.pk in common]
    for direction in (sent, received):
        direction["rules"] = [rule for rule in direction["rules"] if rule.pk not in common]
    return both


def _direction(heading: str, query: str, conditions: list[Q]) -> dict[str, Any]:
    """Return the first rules that fulfil the conditions, in their order: a statement for each."""
    rules: list[CommandPermission] = []
    for condition in conditions:
        missing = MAX_IN_PANEL - len(rules)
        if missing:
            found = CommandPermission.objects.named().filter(condition).order_by("pk")
            rules += found[:missing]
    # No rule fulfils two of them, and no index serves one condition made of them all.
    total = sum(counts(CommandPermission.objects.filter(condition) for condition in conditions))
    return {
        "heading": heading,
        "query": query,
        "rules": rules,
        "shown": len(rules),
        "total": bounded_count_text(total),
        "is_cut": total > len(rules),
    }
