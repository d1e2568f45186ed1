"""The admin site: names and titles. Each app registers its own models."""

from functools import partial
from typing import Any

from django.http import HttpRequest
from django.urls import URLPattern, URLResolver, path
from django.utils.translation import gettext_lazy as _

from authsite.accounts import AccountPages
from devices.admin_history import all_changes


class RegistrySite(AccountPages):
    """Where staff keep devices, credentials and permissions."""

    site_title = _("Authsite")
    site_header = _("Authsite")
    index_title = _("Device registry")
    site_url = None
    app_order = ("devices", "acl", "rpc")

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Add the history of everything."""
        changes = path("history/", self.admin_view(partial(all_changes, self)), name="changes")
        return [changes, *super().get_urls()]

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """List the registry's apps first; staff accounts come after them."""
        known = {label: position for position, label in enumerate(self.app_order)}
        apps = super().get_app_list(request, app_label)
        return sorted(apps, key=lambda app: known.get(app["app_label"], len(known)))
