"""Devices, their groups and their credentials."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DevicesConfig(AppConfig):
    """The registry itself."""

    name = "devices"
    verbose_name = _("Devices")

    def ready(self) -> None:
        """Count logins as showing who one is."""
        from devices import reauthentication  # noqa: F401
