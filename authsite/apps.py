"""The site itself as an app: its commands, and the admin site that staff see."""

from typing import Any

# Not documented; tests/authsite/test_undocumented_names.py fails where it goes.
from axes.apps import AppConfig as AxesConfig
from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig
from django.utils.translation import gettext_lazy as _


class AuthsiteConfig(AppConfig):
    """Commands that concern the whole registry: serving it, filling a demo."""

    name = "authsite"
    verbose_name = _("API access")

    def ready(self) -> None:
        """Register checks, the events of accounts, and the tokens, whose digests need peppers."""
        # Models, and what imports them, are loaded by now, and not before.
        from django.contrib.auth.models import Group, User

        from authsite import checks  # noqa: F401
        from authsite.accounts import events  # noqa: F401
        from authsite.accounts.sessions import forget
        from authsite.models import ApiToken, RuleUse
        from devices.extension_points import ENDINGS, FORGETS, JOB_CHECKS, PEPPERED
        from devices.values.text import check_visible

        names = {User: ("username", "first_name", "last_name"), Group: ("name",)}
        for model, fields in names.items():
            for field in fields:
                kept: Any = model._meta.get_field(field)
                kept.validators.append(check_visible)
        PEPPERED["tokens"] = ApiToken
        ENDINGS.append(ApiToken.objects.ending)
        JOB_CHECKS.append(ApiToken.objects.may_have_done)
        FORGETS["sessions"] = forget
        FORGETS["uses of tokens"] = RuleUse.objects.forget


class AdminConfig(DjangoAdminConfig):
    """Django's admin with this project's site in place of the default one."""

    default_site = "authsite.admin.site.RegistrySite"

    def ready(self) -> None:
        super().ready()
        # They take the place of pages that are registered by now.
        from authsite.accounts import admin  # noqa: F401
        from authsite.accounts.tokens import admin as tokens, service_account_admin  # noqa: F401


class LoginsConfig(AxesConfig):
    """django-axes, under a name that staff understand."""

    verbose_name = _("Logins")
