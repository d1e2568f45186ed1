"""Pages of the admin beside Django's own: their addresses, forms, confirmations and downloads."""

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from typing import IO, Any, TypeVar, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.options import IS_POPUP_VAR
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.messages.storage.base import Message
from django.core.exceptions import PermissionDenied
from django.db.models import BigIntegerField, Model
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _, gettext_lazy

from devices.history.models import permission_to
from devices.transfer.formats import Format

Method = TypeVar("Method", bound=Callable[..., Any])
EDITS = "edit"  # in the address of a row: its form, not its page
# Among what is sent: why, for the history; templates/admin/reason_row.html has the field.
REASON = "_change_reason"
MAX_KEY_DIGITS = 19  # of a primary key
MOVED = gettext_lazy(
    "What would change is no longer what was shown; nothing was changed. Look again."
)


def typed_reason(request: HttpRequest) -> str:
    """Return why staff change something, as they typed it; the history keeps it."""
    return request.POST.get(REASON, "").strip()


def url_name(opts: Any, page: str) -> str:
    """Return the name of the URL of a model's page in the admin, such as "change"."""
    return f"admin:{opts.app_label}_{opts.model_name}_{page}"


def may_view(request: HttpRequest, model: Any) -> bool:
    """Whether the user has the permission to see the rows of a model, or to change them."""
    return any(request.user.has_perm(permission_to(verb, model)) for verb in ("view", "change"))


def own_page(route: str, name: str = "", *, needs: str = "") -> Callable[[Method], Method]:
    """Make a method of an OwnPagesMixin the view of a page, at a route below the list's.

    It is there for those whom the admin's `has_…_permission` lets, where `needs` names one.
    """

    def mark(view: Method) -> Method:
        @wraps(view)
        def permitted(self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if not getattr(self, f"has_{needs}_permission")(request):
                raise PermissionDenied
            return view(self, request, *args, **kwargs)

        page = cast(Method, permitted) if needs else view
        vars(page)["own_page"] = (route, name or view.__name__)
        return page

    return mark


def site_page(
    site: admin.AdminSite,
    request: HttpRequest,
    template: str,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    **context: Any,
) -> TemplateResponse:
    """Return a page of the admin site, with what all its pages show."""
    context = {**site.each_context(request), **context}
    return TemplateResponse(request, template, context, status=status, headers=headers)


def say_done(request: HttpRequest, text: str, count: int) -> None:
    """Say what was done to `count` rows; where that is none, as after others, it is no success."""
    messages.add_message(request, messages.SUCCESS if count else messages.WARNING, text)


def say_not_saved(request: HttpRequest) -> None:
    """Say what becomes of a form that was sent by somebody who must show first who they are."""
    if request.method == "POST":
        text = _(
            "What you sent was not saved: show who you are first. Then go back to the form, where "
            "most browsers still have what you typed."
        )
        if Message(messages.WARNING, text) not in messages.get_messages(request):
            messages.warning(request, text)


def drop_messages(request: HttpRequest) -> None:
    """Say nothing of what a view queued that saved nothing: begin as a request does."""
    MessageMiddleware(HttpResponse).process_request(request)


def download(file: IO[bytes], name: str, kind: Format) -> FileResponse:
    """Return a complete file to save, with its length: what arrives short was cut off."""
    file.seek(0)
    return FileResponse(file, as_attachment=True, filename=name, content_type=kind.content_type)


class OwnPagesMixin(admin.ModelAdmin):
    """Adds the pages that `own_page` marks, and others that `own_pages` yields."""

    def own_pages(self) -> Iterator[tuple[str, Callable[..., Any], str]]:
        """Yield a route, a view and the last part of its URL's name for each page."""
        for method, found in inspect.getmembers(type(self), inspect.isfunction):
            if marked := getattr(found, "own_page", None):
                yield marked[0], getattr(self, method), marked[1]

    def get_urls(self) -> list[URLPattern]:
        """Put the admin's own pages before Django's, which match any text as a key."""
        prefix = f"{self.opts.app_label}_{self.opts.model_name}"
        pages = [
            path(route, self.admin_site.admin_view(view), name=f"{prefix}_{name}")
            for route, view, name in self.own_pages()
        ]
        return [*pages, *super().get_urls()]

    def guarded(self, request: HttpRequest, view: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        """Answer as the view does; ChangeGuardMixin asks the guards first."""
        return view(request, *args, **kw)

    def page(
        self,
        request: HttpRequest,
        template: str,
        *,
        status: int = 200,
        has_moved: bool = False,
        **context: Any,
    ) -> TemplateResponse:
        """Return a page of this admin; say if it asks once more, about something else by now."""
        if has_moved:
            messages.error(request, MOVED)
        context = {"opts": self.opts, **context}
        return site_page(self.admin_site, request, template, status=status, **context)

    def form_page(
        self, request: HttpRequest, form: forms.Form, original: Model | None = None, **context: Any
    ) -> HttpResponse:
        """Return a page with one form on it, about a row, some or none.

        It asks for a reason, unless its form does or `asks_why` is false.
        """
        usual = {
            "media": self.media + form.media,
            "asks_why": "reason" not in form.fields,
            "why": request.POST.get(REASON, ""),
        }
        context = {**usual, "original": original, "form": form, **context}
        return self.page(request, "admin/devices/form_page.html", **context)


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


def is_key(text: str) -> bool:
    """Whether a text is a number that a primary key can be."""
    is_number = text.isascii() and text.isdigit() and len(text) <= MAX_KEY_DIGITS
    return is_number and int(text) <= BigIntegerField.MAX_BIGINT
