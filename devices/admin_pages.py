"""Pages and forms that the admins of keys and of certificates share."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.widgets import AdminTextInputWidget
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy


class SavesChanges(admin.ModelAdmin):  # type: ignore[type-arg]
    """Saves what was changed in the form, and no other field.

    Servers write beside staff: a revocation, evidence or a digest made anew that came between
    the reading and the saving of a row must stand.
    """

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save a new row whole, a changed one in its changed columns."""
        if not change:
            super().save_model(request, obj, form, change)
            return
        columns = {field.name for field in obj._meta.concrete_fields}
        automatic = {"updated"} & columns
        obj.save(update_fields=(columns & set(form.changed_data)) | automatic)


class RevokeForm(forms.Form):
    """Why a credential is revoked."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        required=False,
        max_length=255,
        widget=AdminTextInputWidget,
    )


def form_page(
    model_admin: "admin.ModelAdmin[Any]",
    request: HttpRequest,
    subject: Model,
    form: forms.Form,
    **context: Any,
) -> HttpResponse:
    """Return a page in the admin's dress with one form on it."""
    return TemplateResponse(
        request,
        "admin/devices/form_page.html",
        {
            **model_admin.admin_site.each_context(request),
            "opts": model_admin.opts,
            "original": subject,
            "form": form,
            "media": model_admin.media + form.media,
            **context,
        },
    )


def confirmation(
    model_admin: "admin.ModelAdmin[Any]",
    request: HttpRequest,
    queryset: QuerySet[Any],
    **context: Any,
) -> HttpResponse:
    """Return the page on which staff confirm an action on the selected rows."""
    return TemplateResponse(
        request,
        "admin/devices/confirmation.html",
        {
            **model_admin.admin_site.each_context(request),
            "opts": model_admin.opts,
            "rows": queryset,
            "action": request.POST["action"],
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
            **context,
        },
    )
