"""The admin's lists: who may see them, and where they are."""

from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.exceptions import NotRegistered
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse

from devices.admin.base.pages import url_name


def may_see(request: HttpRequest, model: type[Model]) -> bool:
    """Whether the admin has a list of these rows, and this user may look at it."""
    try:
        model_admin = admin.site.get_model_admin(model)
    except NotRegistered:
        return False
    return model_admin.has_view_permission(request)


def may_add(request: HttpRequest, model: type[Model]) -> bool:
    """Whether this user may add such a row in the admin."""
    return admin.site.get_model_admin(model).has_add_permission(request)


def list_url(model: type[Model], **parameters: object) -> str:
    """Return the address of the list of rows that the parameters filter."""
    address = reverse(url_name(model._meta, "changelist"))
    return f"{address}?{urlencode(parameters)}" if parameters else address


def row_url(row: Model) -> str:
    return reverse(url_name(row._meta, "change"), args=[row.pk])
