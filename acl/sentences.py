"""Sentence templates for rules: whole sentences, so that each language has its own word order."""

from django.utils.translation import gettext as _, gettext_lazy

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


def template(effect: str, source_kind: str, destination_kind: str) -> str:
    """Return the sentence of such a rule, with `{source}`, `{commands}` and `{destination}`."""
    if not effect or not source_kind or not destination_kind:
        return _("A rule that is not complete")  # a form's, before it is filled in
    return str(SENTENCES[effect, source_kind, destination_kind])


def commands_of(pattern: str) -> str:
    """Return a pattern as it stands in a sentence."""
    return _("any command") if pattern == "*" else pattern
