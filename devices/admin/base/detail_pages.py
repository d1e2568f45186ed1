"""Pages that show a row; its form is one click away."""

from typing import Any

from django.contrib.admin.options import IS_POPUP_VAR
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect

from devices.admin.base.pages import OwnPagesMixin, url_name

EDITS = "edit"  # in the address of a row: its form, not its page


class DetailPageMixin(OwnPagesMixin):
    """Shows a row as a page; the form is at the same address with `?edit=1`.

    `detail_template` extends admin/devices/detail_page.html; `detail_context` fills it.
    """

    detail_template: str

    def detail_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        raise NotImplementedError

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the page of a row; its form where that is asked for, or sent."""
        is_form = request.method == "POST" or EDITS in request.GET or IS_POPUP_VAR in request.GET
        row = None if is_form else self.get_object(request, object_id)
        if row is None:  # a form, or nothing there, which Django says in its own way
            return super().change_view(request, object_id, form_url, extra_context)
        if not self.has_view_or_change_permission(request, row):
            raise PermissionDenied
        context = {
            "title": str(row),
            "original": row,
            "media": self.media,
            "has_change_permission": self.has_change_permission(request, row),
            "has_delete_permission": self.has_delete_permission(request, row),
            **self.detail_context(request, row),
            **(extra_context or {}),
        }
        return self.page(request, self.detail_template, **context)

    def response_post_save_change(self, request: HttpRequest, obj: Any) -> HttpResponseRedirect:
        if not self.has_view_or_change_permission(request, obj):
            return redirect("admin:index")
        return redirect(url_name(self.opts, "change"), obj.pk)

    response_post_save_add = response_post_save_change
