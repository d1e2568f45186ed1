"""Command permissions and the decision over them."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AclConfig(AppConfig):
    """Who may send which command to whom."""

    name = "acl"
    verbose_name = _("Rules")

    def ready(self) -> None:
        # Models, and what imports them, are loaded by now, and not before.
        from acl.admin.consequences import guard
        from acl.admin.panels import rules_panel
        from acl.analysis.assertions import validated
        from acl.analysis.what_if import watch
        from acl.models import Assertion
        from devices.extension_points import GROUP_PANELS, GUARDS, PANELS, RESTORED_CHECKS, WATCHES

        GUARDS.append(guard)
        WATCHES.append(watch)
        PANELS.append(rules_panel)
        GROUP_PANELS.append(rules_panel)
        RESTORED_CHECKS[Assertion] = lambda assertion: validated(assertion.text)
