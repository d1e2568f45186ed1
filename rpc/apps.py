"""The wire formats of the machine endpoints."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class RpcConfig(AppConfig):
    """Frames, command definitions, the views, and the journal of what they were asked."""

    name = "rpc"
    verbose_name = _("Calls")

    def ready(self) -> None:
        """Register the system checks, and what permissions are tried with."""
        from acl import trials
        from rpc import checks  # noqa: F401
        from rpc.definitions import COMMANDS

        trials.COMMANDS.append(lambda: COMMANDS)
