"""Rules as sentences, for people: whole ones, so that each language has its own word order."""

from datetime import datetime
from typing import TYPE_CHECKING

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from devices.rendering import Tone, badge

if TYPE_CHECKING:
    from acl.models import CommandPermission
    from devices.models import Device, DeviceGroup

SENTENCES = {
    ("allow", "device", "device"): gettext_lazy("{source} may send {commands} to {destination}"),
    ("allow", "device", "group"): gettext_lazy(
        "{source} may send {commands} to devices in group {destination}"
    ),
    ("allow", "device", "everyone"): gettext_lazy("{source} may send {commands} to everyone"),
    ("allow", "device", "itself"): gettext_lazy("{source} may send {commands} to itself"),
    ("allow", "device", "same-group"): gettext_lazy(
        "{source} may send {commands} to devices that share a group with it"
    ),
    ("allow", "group", "device"): gettext_lazy(
        "Devices in group {source} may send {commands} to {destination}"
    ),
    ("allow", "group", "group"): gettext_lazy(
        "Devices in group {source} may send {commands} to devices in group {destination}"
    ),
    ("allow", "group", "everyone"): gettext_lazy(
        "Devices in group {source} may send {commands} to everyone"
    ),
    ("allow", "group", "itself"): gettext_lazy(
        "Each device in group {source} may send {commands} to itself"
    ),
    ("allow", "group", "same-group"): gettext_lazy(
        "Devices in group {source} may send {commands} to devices that share a group with them"
    ),
    ("allow", "everyone", "device"): gettext_lazy("Everyone may send {commands} to {destination}"),
    ("allow", "everyone", "group"): gettext_lazy(
        "Everyone may send {commands} to devices in group {destination}"
    ),
    ("allow", "everyone", "everyone"): gettext_lazy("Everyone may send {commands} to everyone"),
    ("allow", "everyone", "itself"): gettext_lazy("Every device may send {commands} to itself"),
    ("allow", "everyone", "same-group"): gettext_lazy(
        "Everyone may send {commands} to devices that share a group with them"
    ),
    ("deny", "device", "device"): gettext_lazy("{source} may not send {commands} to {destination}"),
    ("deny", "device", "group"): gettext_lazy(
        "{source} may not send {commands} to devices in group {destination}"
    ),
    ("deny", "device", "everyone"): gettext_lazy("{source} may not send {commands} to anyone"),
    ("deny", "device", "itself"): gettext_lazy("{source} may not send {commands} to itself"),
    ("deny", "device", "same-group"): gettext_lazy(
        "{source} may not send {commands} to devices that share a group with it"
    ),
    ("deny", "group", "device"): gettext_lazy(
        "Devices in group {source} may not send {commands} to {destination}"
    ),
    ("deny", "group", "group"): gettext_lazy(
        "Devices in group {source} may not send {commands} to devices in group {destination}"
    ),
    ("deny", "group", "everyone"): gettext_lazy(
        "Devices in group {source} may not send {commands} to anyone"
    ),
    ("deny", "group", "itself"): gettext_lazy(
        "No device in group {source} may send {commands} to itself"
    ),
    ("deny", "group", "same-group"): gettext_lazy(
        "Devices in group {source} may not send {commands} to devices that share a group with them"
    ),
    ("deny", "everyone", "device"): gettext_lazy("No one may send {commands} to {destination}"),
    ("deny", "everyone", "group"): gettext_lazy(
        "No one may send {commands} to devices in group {destination}"
    ),
    ("deny", "everyone", "everyone"): gettext_lazy("No one may send {commands} to anyone"),
    ("deny", "everyone", "itself"): gettext_lazy("No device may send {commands} to itself"),
    ("deny", "everyone", "same-group"): gettext_lazy(
        "No one may send {commands} to devices that share a group with them"
    ),
}


EFFECT_TONES = {"allow": Tone.GOOD, "deny": Tone.BAD}
STATE_TONES = {
    "force": Tone.GOOD,
    "off": Tone.OFF,
    "later": Tone.SOON,
    "expired": Tone.BAD,
}


def sentence(rule: "CommandPermission") -> str:
    """Return what a rule says, as plain text without a full stop."""
    if rule.command_set is not None:
        commands = _("commands of set {name}").format(name=rule.command_set.name)
    else:
        commands = _("any command") if rule.pattern == "*" else rule.pattern
    return _template(rule).format(
        source=rule.source_device or rule.source_group,
        destination=rule.destination_device or rule.destination_group,
        commands=commands,
    )


def linked(rule: "CommandPermission") -> SafeString:
    """Return what a rule says as HTML, with links to what it names."""
    commands = _("any command") if rule.pattern == "*" else rule.pattern
    if rule.command_set is not None:
        commands = format_html(
            _("commands of set {name}"),
            name=_link("acl_commandset", rule.command_set.pk, rule.command_set),
        )
    said = format_html(
        _template(rule),
        source=_end(rule.source_device, rule.source_group),
        destination=_end(rule.destination_device, rule.destination_group),
        commands=commands,
    )
    return format_html('<span class="sentence">{}</span>', said)


def numbered(rule: "CommandPermission") -> SafeString:
    """Return a rule's number, linked, as explanations name it."""
    return _link("acl_commandpermission", rule.pk, f"#{rule.pk}")


def state_badge(rule: "CommandPermission", now: datetime) -> SafeString:
    """Return the badge of whether a rule takes part in decisions."""
    state = rule.state_at(now)
    return badge(STATE_TONES[state], state.label)


def effect_badge(rule: "CommandPermission") -> SafeString:
    """Return the badge of a rule's effect."""
    return badge(EFFECT_TONES[rule.effect], rule.get_effect_display())


def _template(rule: "CommandPermission") -> str:
    if not rule.effect or not rule.source_kind or not rule.destination_kind:
        return _("A rule that is not complete")  # a form's, before it is filled in
    return str(SENTENCES[rule.effect, rule.source_kind, rule.destination_kind])


def _end(device: "Device | None", group: "DeviceGroup | None") -> SafeString | str:
    if device is not None:
        return _link("devices_device", device.pk, device)
    return _link("devices_devicegroup", group.pk, group) if group is not None else ""


def _link(page: str, pk: int, text: object) -> SafeString:
    return format_html('<a href="{}">{}</a>', reverse(f"admin:{page}_change", args=[pk]), text)
