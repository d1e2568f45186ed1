"""Let devices connect again."""

from devices.management.switching import SwitchCommand


class Command(SwitchCommand):
    """`enable_device`: devices may connect again, with the credentials that they have."""

    help = "Let devices connect again, with the credentials that they have."
    enables = True
