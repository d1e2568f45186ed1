"""The wire formats of the machine endpoints."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class RpcConfig(AppConfig):
    """Frames, command definitions, the views, and the journal of what they were asked."""

    name = "rpc"
    verbose_name = _("Calls")

    def ready(self) -> None:
        """Register the system checks, and the section of a device's page."""
        from devices.admin_pages import PANELS
        from rpc import checks  # noqa: F401
        from rpc.admin_pages import last_calls

        PANELS.append(last_calls)
