"""Rules as HTML: sentences with links, and badges."""

from datetime import datetime

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from acl.models import CommandPermission
from acl.sentences import commands_of, template
from devices.admin.base.rendering import Tone, badge
from devices.models import Device, DeviceGroup
from devices.values.text import visible

EFFECT_TONES = {"allow": Tone.GOOD, "deny": Tone.BAD}
STATE_TONES = {"force": Tone.GOOD, "off": Tone.OFF, "later": Tone.SOON, "expired": Tone.BAD}


def linked(rule: CommandPermission) -> SafeString:
    """Return what a rule says as HTML, with links to what it names."""
    commands = _name(commands_of(rule.pattern))
    if rule.command_set is not None:
        commands = format_html(
            _("commands of set {name}"),
            name=_link("acl_commandset", rule.command_set.pk, _name(rule.command_set)),
        )
    said = format_html(
        template(rule.effect, rule.source_kind, rule.destination_kind),
        source=_end(rule.source_device, rule.source_group),
        destination=_end(rule.destination_device, rule.destination_group),
        commands=commands,
    )
    return format_html('<span class="sentence">{}</span>', said)


def numbered(rule: CommandPermission) -> SafeString:
    """Return a rule's number, linked, as explanations name it."""
    return _link("acl_commandpermission", rule.pk, f"#{rule.pk}")


def state_badge(rule: CommandPermission, now: datetime) -> SafeString:
    state = rule.state_at(now)
    return badge(STATE_TONES[state], state.label)


def _end(device: Device | None, group: DeviceGroup | None) -> SafeString | str:
    if device is not None:
        return _link("devices_device", device.pk, _name(device))
    return _link("devices_devicegroup", group.pk, _name(group)) if group is not None else ""


def _name(row: object) -> SafeString:
    """Return a row's name as HTML; its right-to-left letters do not affect what is beside it."""
    return format_html("<bdi>{}</bdi>", visible(row))


def _link(page: str, pk: int, text: object) -> SafeString:
    return format_html('<a href="{}">{}</a>', reverse(f"admin:{page}_change", args=[pk]), text)
