"""Devices, their groups and their credentials."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DevicesConfig(AppConfig):
    name = "devices"
    verbose_name = _("Devices")

    def ready(self) -> None:
        """Register signals, look-ups, and the panel of a device's history."""
        # Models, and what imports them, are loaded by now, and not before.
        from devices.admin.base import reauthentication  # noqa: F401
        from devices.admin.base.history import history_panel
        from devices.database import text_search  # noqa: F401
        from devices.extension_points import PANELS, PEPPERED
        from devices.models import Webhook

        PANELS.append(history_panel)
        PEPPERED["webhooks"] = Webhook
