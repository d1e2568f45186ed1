"""The admin site: names and titles. Each app registers its own models."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from django.contrib import admin
from django.contrib.admin import actions
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils.translation import gettext_lazy as _

from authsite.accounts.views import AccountPages
from authsite.admin import home
from authsite.admin.handbook import chapter_view, contents_view, help_url
from authsite.admin.search import device_named, search
from authsite.admin.side_bar import side_bar
from devices.admin.base.changelist import BoundedListMixin
from devices.admin.base.history import all_changes, batch_view, exported_changes
from devices.admin.base.mixins import AddressParametersMixin
from devices.admin.base.pages import site_page
from devices.admin.base.rendering import NOTHING
from devices.admin.base.widgets import SuggestedRowsMixin
from devices.admin.credentials.expiry import calendar_page
from devices.history import visible_to


@admin.action(description=_("Delete selected %(verbose_name_plural)s"), permissions=["delete"])
def delete_selected(
    model_admin: "admin.ModelAdmin[Any]", request: HttpRequest, queryset: QuerySet[Any]
) -> Any:
    """Delete rows once that is confirmed, as Django does; call them as their other pages do."""
    # What may be deleted is asked in the transaction that deletes, as where one row is.
    with transaction.atomic() if request.POST.get("post") else nullcontext():
        answer = actions.delete_selected(model_admin, request, queryset)
    if answer is not None:
        context: Any = answer.context_data
        many = model_admin.opts.verbose_name_plural
        context |= {"opts": model_admin.opts, "objects_name": many}
        stays = context["perms_lacking"] or context["protected"]
        title = _("Cannot delete %(kind)s") if stays else _("Delete %(kind)s")
        context["title"] = title % {"kind": many}
    return answer


class RegistrySite(AccountPages):
    """Where staff keep devices, credentials and permissions."""

    site_title = _("Authsite")
    site_header = _("Authsite")
    index_title = _("Device registry")
    site_url = None
    empty_value_display = NOTHING

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        self.add_action(delete_selected)

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """Register a model, whoever's it is: its list takes only what it offers, and is bounded.

        Its fields with suggestions can be used without scripts.
        """
        given = admin_class or admin.ModelAdmin
        mixins = (AddressParametersMixin, BoundedListMixin, SuggestedRowsMixin)
        guarded = type(given.__name__, (*mixins, given), {})
        super().register(model_or_iterable, guarded, **options)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Add the side bar, and the chapter of the handbook that a page belongs to."""
        context = super().each_context(request)
        apps, history = context["available_apps"], bool(visible_to(request.user))
        return {
            **context,
            "side_bar": side_bar(request, apps, may_see_history=history),
            "help_url": help_url(request),
        }

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        """Show what there is and what needs looking after, above the lists."""
        return super().index(request, {**home.context(request), **(extra_context or {})})

    def app_index(
        self, request: HttpRequest, app_label: str, extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Lead to the start page, beside which the lists of all apps are."""
        super().app_index(request, app_label, extra_context)  # 404 where there is no such app
        return HttpResponseRedirect(reverse("admin:index"))

    def search(self, request: HttpRequest) -> HttpResponse:
        """Show what begins as the text in `q` says, or the device that it identifies."""
        text = request.GET.get("q", "").strip()
        if address := device_named(request, text):
            return HttpResponseRedirect(address)
        found = search(request, text)
        return site_page(
            self,
            request,
            "admin/search.html",
            title=_("Search"),
            searched=text,
            found=found,
            total=sum(kind.count for kind in found),
            is_capped=any(kind.is_capped for kind in found),
        )

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Add search, expiry calendar, the history of everything and the handbook."""
        pages: dict[str, tuple[Callable[..., Any], str]] = {
            "search/": (self.search, "search"),
            "expiry/": (partial(calendar_page, self), "expiry"),
            "history/": (partial(all_changes, self), "changes"),
            "history/export/": (exported_changes, "export_changes"),
            "history/together/<uuid:number>/": (partial(batch_view, self), "batch"),
            "help/": (partial(contents_view, self), "help"),
            "help/<slug:name>/": (partial(chapter_view, self), "help_chapter"),
        }
        return [
            *(
                path(route, self.admin_view(view), name=name)
                for route, (view, name) in pages.items()
            ),
            *super().get_urls(),
        ]

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """List models by the names that their pages have."""
        apps = super().get_app_list(request, app_label)
        for app in apps:
            for model in app["models"]:
                model["name"] = self.get_model_admin(model["model"]).opts.verbose_name_plural
        return apps
