"""Refuse devices."""

from devices.management.switching import SwitchCommand


class Command(SwitchCommand):
    """`disable_device`: devices are refused from their next request on."""

    help = "Refuse devices from their next request on. Nothing is lost: enable_device undoes it."
    enables = False
