from django.contrib.auth.management.commands import createsuperuser

from devices.management.base import RecordedCommand


class Command(RecordedCommand, createsuperuser.Command):
    """Django's own, recorded as what somebody did at the command line."""

    help = "Create an account that may do everything, with a password that is typed twice."
    takes_reason = True
