"""The site itself as an app: its commands, and the admin site that staff see."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig


class AuthsiteConfig(AppConfig):
    """Commands that concern the whole registry: serving it, filling a demo."""

    name = "authsite"


class AdminConfig(DjangoAdminConfig):
    """Django's admin with this project's site in place of the default one."""

    default_site = "authsite.admin.RegistrySite"
