"""The admin site: names and titles. Each app registers its own models."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _


class RegistrySite(admin.AdminSite):
    """Where staff keep devices, credentials and permissions."""

    site_title = _("Authsite")
    site_header = _("Authsite")
    index_title = _("Device registry")
    site_url = None
