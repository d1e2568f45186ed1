"""Command permissions and the decision over them."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AclConfig(AppConfig):
    """Who may send which command to whom."""

    name = "acl"
    verbose_name = _("Command permissions")

    def ready(self) -> None:
        """Watch over the changes that staff make to devices and groups."""
        from acl import assertions, trials
        from acl.admin_consequences import guard
        from devices.admin_pages import GUARDS

        trials.SOURCES.append(assertions.saved_requests)
        GUARDS.append(guard)
