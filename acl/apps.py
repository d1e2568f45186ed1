"""Command permissions and the decision over them."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AclConfig(AppConfig):
    """Who may send which command to whom."""

    name = "acl"
    verbose_name = _("Permissions")

    def ready(self) -> None:
        """Watch over what staff change, and show the rules on devices' pages."""
        from acl import assertions, trials
        from acl.admin_consequences import guard
        from acl.admin_pages import group_rules_panel, rules_panel
        from devices.admin_pages import GROUP_PANELS, GUARDS, PANELS

        trials.SOURCES.append(assertions.saved_requests)
        GUARDS.append(guard)
        PANELS.append(rules_panel)
        GROUP_PANELS.append(group_rules_panel)
