"""Command permissions and the decision over them."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AclConfig(AppConfig):
    """Who may send which command to whom."""

    name = "acl"
    verbose_name = _("Command permissions")
