"""Sentence templates for rules: whole sentences, so that each language has its own word order."""

from django.utils.translation import gettext, gettext_lazy as _

SENTENCES = {
    ("allow", "device", "device"): _("{source} may send {commands} to {destination}"),
    ("allow", "device", "group"): _(
        "{source} may send {commands} to devices in group {destination}"
    ),
    ("allow", "device", "everyone"): _("{source} may send {commands} to everyone"),
    ("allow", "device", "itself"): _("{source} may send {commands} to itself"),
    ("allow", "device", "same-group"): _(
        "{source} may send {commands} to devices that share a group with it"
    ),
    ("allow", "group", "device"): _(
        "Devices in group {source} may send {commands} to {destination}"
    ),
    ("allow", "group", "group"): _(
        "Devices in group {source} may send {commands} to devices in group {destination}"
    ),
    ("allow", "group", "everyone"): _("Devices in group {source} may send {commands} to everyone"),
    ("allow", "group", "itself"): _("Each device in group {source} may send {commands} to itself"),
    ("allow", "group", "same-group"): _(
        "Devices in group {source} may send {commands} to devices that share a group with them"
    ),
    ("allow", "everyone", "device"): _("Everyone may send {commands} to {destination}"),
    ("allow", "everyone", "group"): _(
        "Everyone may send {commands} to devices in group {destination}"
    ),
    ("allow", "everyone", "everyone"): _("Everyone may send {commands} to everyone"),
    ("allow", "everyone", "itself"): _("Every device may send {commands} to itself"),
    ("allow", "everyone", "same-group"): _(
        "Everyone may send {commands} to devices that share a group with them"
    ),
    ("deny", "device", "device"): _("{source} may not send {commands} to {destination}"),
    ("deny", "device", "group"): _(
        "{source} may not send {commands} to devices in group {destination}"
    ),
    ("deny", "device", "everyone"): _("{source} may not send {commands} to anyone"),
    ("deny", "device", "itself"): _("{source} may not send {commands} to itself"),
    ("deny", "device", "same-group"): _(
        "{source} may not send {commands} to devices that share a group with it"
    ),
    ("deny", "group", "device"): _(
        "Devices in group {source} may not send {commands} to {destination}"
    ),
    ("deny", "group", "group"): _(
        "Devices in group {source} may not send {commands} to devices in group {destination}"
    ),
    ("deny", "group", "everyone"): _("Devices in group {source} may not send {commands} to anyone"),
    ("deny", "group", "itself"): _("No device in group {source} may send {commands} to itself"),
    ("deny", "group", "same-group"): _(
        "Devices in group {source} may not send {commands} to devices that share a group with them"
    ),
    ("deny", "everyone", "device"): _("No one may send {commands} to {destination}"),
    ("deny", "everyone", "group"): _(
        "No one may send {commands} to devices in group {destination}"
    ),
    ("deny", "everyone", "everyone"): _("No one may send {commands} to anyone"),
    ("deny", "everyone", "itself"): _("No device may send {commands} to itself"),
    ("deny", "everyone", "same-group"): _(
        "No one may send {commands} to devices that share a group with them"
    ),
}


def template(effect: str, source_kind: str, destination_kind: str) -> str:
    """Return the sentence of such a rule, with `{source}`, `{commands}` and `{destination}`."""
    if not effect or not source_kind or not destination_kind:
        return gettext("A rule that is not complete")  # a form's, before it is filled in
    return str(SENTENCES[effect, source_kind, destination_kind])


def commands_of(pattern: str) -> str:
    """Return a pattern as it stands in a sentence."""
    return gettext("any command") if pattern == "*" else pattern
