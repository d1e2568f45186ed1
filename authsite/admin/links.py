"""The admin's lists and rows: who may see them, where they are, and links to them in pages."""

import re
from functools import cache
from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.exceptions import NotRegistered
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from devices.admin.base.history import HistoryMixin
from devices.admin.base.pages import url_name

# A link to a list, to a row or to its history, below the address of the admin.
LINK = (
    rb"""<a\b[^<>]*?\shref="%s(\w+)/(\w+)/(?:[^/"]+/(change|history)/)?["?#][^<>]*>"""
    rb"""((?:(?!<a\b).)*?)</a>"""
)


def may_see(request: HttpRequest, model: type[Model]) -> bool:
    """Whether the admin has a list of these rows, and this user may look at it."""
    try:
        model_admin = admin.site.get_model_admin(model)
    except NotRegistered:
        return False
    return model_admin.has_view_permission(request)


def may_add(request: HttpRequest, model: type[Model]) -> bool:
    return admin.site.get_model_admin(model).has_add_permission(request)


def list_url(model: type[Model], **parameters: object) -> str:
    """Return the address of the list of rows that the parameters filter."""
    address = reverse(url_name(model._meta, "changelist"))
    return f"{address}?{urlencode(parameters)}" if parameters else address


def row_url(row: Model) -> str:
    return reverse(url_name(row._meta, "change"), args=[row.pk])


def without_refused_links(request: HttpRequest, page: HttpResponse) -> None:
    """Leave what links to rows and lists say, and not the link, where the user may not see them.

    Sentences of rules, columns of lists and Django's own read-only fields name rows of other models
    and do not know who reads them. A page does.
    """

    @cache
    def is_open(app: bytes, name: bytes, part: bytes | None) -> bool:
        try:
            model_admin: Any = admin.site.get_model_admin(
                apps.get_model(app.decode(), name.decode())
            )
        except (LookupError, NotRegistered):
            return True  # a page of another kind
        may: bool = model_admin.has_view_or_change_permission(request)
        if part == b"history" and isinstance(model_admin, HistoryMixin):
            return may and model_admin.may_see_history(request)
        return may

    def kept(found: re.Match[bytes]) -> bytes:
        app, name, part, text = found.groups()
        return found[0] if is_open(app, name, part) else text

    home = re.escape(reverse("admin:index").encode())
    page.content = re.sub(LINK % home, kept, page.content, flags=re.DOTALL)
