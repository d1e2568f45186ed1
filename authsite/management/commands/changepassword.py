from django.contrib.auth.management.commands import changepassword

from devices.management.base import RecordedCommand


class Command(RecordedCommand, changepassword.Command):
    """Django's own, recorded as what somebody did at the command line."""

    help = "Set the password of an account, which is typed twice. All its sessions end."
    takes_reason = True
