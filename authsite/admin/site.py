"""The admin site: names and titles. Each app registers its own models."""

from functools import partial
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path
from django.utils.translation import gettext_lazy as _

from authsite.accounts.views import AccountPages
from devices.admin.history import all_changes, batch_view, exported_changes
from devices.admin.mixins import AddressParametersMixin
from devices.admin.rendering import NOTHING
from devices.history.timeline import visible_to


class RegistrySite(AccountPages):
    """Where staff keep devices, credentials and permissions."""

    site_title = _("Authsite")
    site_header = _("Authsite")
    index_title = _("Device registry")
    site_url = None
    app_order = ("devices", "acl", "rpc")
    empty_value_display = NOTHING

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """Register a model, whoever's it is: its list takes only the look-ups that it offers."""
        given = admin_class or admin.ModelAdmin
        guarded = type(given.__name__, (AddressParametersMixin, given), {})
        super().register(model_or_iterable, guarded, **options)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Say whether there is a history that the account may read."""
        visible = bool(visible_to(request.user))
        return {**super().each_context(request), "history_is_visible": visible}

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        """Show what there is and what needs looking after, above the lists."""
        from authsite.admin import home

        return super().index(request, {**home.context(request), **(extra_context or {})})

    def search(self, request: HttpRequest) -> HttpResponse:
        """Show what begins as the text in `q` says, or the device that it identifies."""
        from authsite.admin.search import device_named, search

        text = request.GET.get("q", "").strip()
        if address := device_named(request, text):
            return HttpResponseRedirect(address)
        found = search(request, text)
        return TemplateResponse(
            request,
            "admin/search.html",
            {
                **self.each_context(request),
                "title": _("Search"),
                "searched": text,
                "found": found,
                "total": sum(kind.count for kind in found),
                "is_capped": any(kind.is_capped for kind in found),
            },
        )

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Add the search over everything and the history of everything."""
        return [
            path("search/", self.admin_view(self.search), name="search"),
            path("history/", self.admin_view(partial(all_changes, self)), name="changes"),
            path(
                "history/export/",
                self.admin_view(exported_changes),
                name="export_changes",
            ),
            path(
                "history/together/<uuid:number>/",
                self.admin_view(partial(batch_view, self)),
                name="batch",
            ),
            *super().get_urls(),
        ]

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """List the registry's apps first; staff accounts come after them."""
        known = {label: position for position, label in enumerate(self.app_order)}
        apps = super().get_app_list(request, app_label)
        return sorted(apps, key=lambda app: known.get(app["app_label"], len(known)))
