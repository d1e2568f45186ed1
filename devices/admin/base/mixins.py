"""What the admins of several models share: their own pages, guards, and how they save."""

import hashlib
import inspect
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import IO, Any, TypeVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import BadRequest, FieldDoesNotExist, ValidationError
from django.db import IntegrityError, connection
from django.db.models import BigIntegerField, Model, QuerySet
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.translation import gettext as _

from devices.extension_points import GUARDS, View
from devices.models.dependants import dependants, not_deletable
from devices.transfer.formats import Format

Method = TypeVar("Method", bound=Callable[..., Any])


FILTER_PARTS = ("exact", "isnull", "id__exact", "gte", "lt", "in")  # that Django's filters use
DATE_PARTS = ("year", "month", "day")
REASON = (
    "_change_reason"  # among what is sent: why, for the history; templates/admin/reason_row.html
)
EDIT = "_edit"  # among what is sent: show the form as it was filled in, and save nothing


def typed_reason(request: HttpRequest) -> str:
    """Return why staff change something, as they typed it; the history keeps it."""
    return request.POST.get(REASON, "").strip()


def url_name(opts: Any, page: str) -> str:
    """Return the name of the URL of a model's page in the admin, such as "change"."""
    return f"admin:{opts.app_label}_{opts.model_name}_{page}"


def own_page(route: str, name: str = "") -> Callable[[Method], Method]:
    """Make a method of an OwnPagesMixin the view of a page, at a route below the list's."""

    def mark(view: Method) -> Method:
        vars(view)["own_page"] = (route, name or view.__name__)
        return view

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
    """Return a page in the admin's dress."""
    context = {**site.each_context(request), **context}
    return TemplateResponse(request, template, context, status=status, headers=headers)


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
        self, request: HttpRequest, template: str, *, status: int = 200, **context: Any
    ) -> TemplateResponse:
        context = {"opts": self.opts, **context}
        return site_page(self.admin_site, request, template, status=status, **context)


class NoDeletingMixin(admin.ModelAdmin):
    """Offers no deletion of many rows at once."""

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions


class ReadOnlyMixin(admin.ModelAdmin):
    """Shows rows that the registry makes, and forgets by age; nobody changes them by hand."""

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kw: Any) -> Any:
        """Lead to no history: most of these rows have none."""
        context.setdefault("history_is_hidden", True)
        return super().render_change_form(request, context, *args, **kw)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class CountsDeletedMixin(admin.ModelAdmin):
    """Counts what is deleted with rows, instead of listing thousands of others."""

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        found = dependants(self.model._default_manager.filter(pk__in=[one.pk for one in objs]))
        counts = {one.name: one.rows for one in found}
        return list(map(str, objs)), counts, set(not_deletable(found, request.user)), []


class AddressParametersMixin(admin.ModelAdmin):
    """Makes an admin take what it offers and can use, and nothing else that somebody made up.

    The site gives it to every admin; `linked_lookups` of an admin names those that links of other
    pages make. Any other look-up is refused: a regular expression in a link
    runs in the process on SQLite, where nothing ends it.
    """

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """List rows, or act on those that are selected: no key can be what is none."""
        if not all(map(is_key, request.POST.getlist(ACTION_CHECKBOX_NAME))):
            raise BadRequest("no such row can be selected")
        return super().changelist_view(request, *args, **kwargs)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Add or change a row; make a copy of one only where that is offered."""
        if "_saveasnew" in request.POST and not self.save_as:
            raise BadRequest("no copy can be saved here")
        return super().changeform_view(request, *args, **kwargs)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Allow what a filter of the list sends, and rows that belong to another row."""
        if lookup in self.related_lookups():
            return is_key(value) and super().lookup_allowed(lookup, value, request)
        name, _separator, part = lookup.partition("__")
        if part and lookup not in self.offered_lookups(request):
            return False
        if part in {"exact", "gte", "lt"}:
            wanted = self.initial_value(name, value)
            if wanted is None or (isinstance(wanted, datetime) and timezone.is_naive(wanted)):
                return False  # filters say a moment with its offset
        if part == "in" and any(self.initial_value(name, one) is None for one in value.split(",")):
            return False
        return super().lookup_allowed(lookup, value, request)

    def related_lookups(self) -> set[str]:
        return {
            f"{field.name}{end}"
            for field in self.opts.get_fields()
            if field.is_relation
            for end in ("", "__exact", "__id__exact")
        }

    def offered_lookups(self, request: HttpRequest) -> set[str]:
        """Return the look-ups that the list's filters and other pages make."""
        offered = set(getattr(self, "linked_lookups", ()))
        for one in self.get_list_filter(request):
            found = one[0] if isinstance(one, list | tuple) else one
            if isinstance(found, str):
                offered |= {f"{found}__{part}" for part in FILTER_PARTS}
            elif name := getattr(found, "parameter_name", None):
                offered.add(name)
        if self.date_hierarchy:
            offered |= {f"{self.date_hierarchy}__{part}" for part in (*FILTER_PARTS, *DATE_PARTS)}
        return offered

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Return what the address says of a new row, as far as its fields can hold it."""
        initial = super().get_changeform_initial_data(request)
        usable = {name: self.initial_value(name, value) for name, value in initial.items()}
        return {name: value for name, value in usable.items() if value is not None}

    def initial_value(self, name: str, value: Any) -> Any:
        """Return a value as its field holds it; None where it cannot."""
        try:
            field: Any = self.opts.get_field(name)
            if field.is_relation:
                keys = [value] if isinstance(value, str) else value
                return value if all(map(is_key, keys)) else None
            found = field.to_python(value)
            if isinstance(found, datetime) and timezone.is_aware(found):
                timezone.localtime(found)  # where a form shows it
        except FieldDoesNotExist:
            return value
        except (ValidationError, OverflowError, ValueError):
            return None
        return found


def is_key(text: str) -> bool:
    """Whether a text is a number that a primary key can be."""
    return text.isascii() and text.isdigit() and int(text[:20]) <= BigIntegerField.MAX_BIGINT


class NothingSaved:
    """Makes a form come back as it was filled in."""

    def full_clean(self) -> None:
        """Find a fault in the form, whatever it says."""
        super().full_clean()  # type: ignore[misc]
        self.add_error(None, _("Nothing is saved yet."))  # type: ignore[attr-defined]


class ChangeGuardMixin(OwnPagesMixin):
    """Makes an admin's every change pass the guards."""

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return self.guarded(request, super().changeform_view, *args, **kwargs)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return self.guarded(request, super().delete_view, *args, **kwargs)

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return self.guarded(request, super().changelist_view, *args, **kwargs)

    def guarded(self, request: HttpRequest, view: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        guarded: View = partial(view, request, *args, **kw)
        if request.method == "POST":
            for guard in GUARDS:
                guarded = partial(guard, self, request, guarded)
        return guarded()

    def get_form(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Return the form, or one that only comes back."""
        form: Any = super().get_form(request, *args, **kwargs)
        return type(form.__name__, (NothingSaved, form), {}) if EDIT in request.POST else form


class SaveChangedFieldsMixin:
    """Makes an admin save what was changed in the form, and no other field.

    Servers write beside staff: a revocation, a last use or a digest computed again that came
    between the reading and the saving of a row must stand.
    """

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Add or change a row; say so where somebody was a moment faster.

        With the same, or with what leaves no room for it: some models look again when they save.
        """
        try:
            return super().changeform_view(request, *args, **kwargs)  # type: ignore[misc]
        except IntegrityError:
            text = _("Somebody saved the same at this moment. Nothing was saved: look again.")
        except ValidationError as error:
            text = " ".join(error.messages)
        messages.error(request, text)
        return HttpResponseRedirect(request.get_full_path())

    def save_model(self, request: HttpRequest, obj: Model, form: forms.Form, change: bool) -> None:
        """Save a new row whole, a changed one in its changed columns; say what others changed."""
        self._tell_kept(request, form)
        columns = {field.name for field in obj._meta.concrete_fields}
        changed = (columns & set(form.changed_data)) | (columns & {"updated"})
        obj.save(update_fields=changed if change else None)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        super().save_formset(request, form, formset, change)  # type: ignore[misc]
        self._tell_kept(request, formset)

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        """Return the row; what is sent about it waits for whoever is saving it just now."""
        row = super().get_object(request, object_id, from_field)  # type: ignore[misc]
        if row is not None and request.method == "POST" and connection.in_atomic_block:
            rows = type(row)._default_manager.select_for_update(of=("self",), no_key=True)
            list(rows.order_by().filter(pk=row.pk).values_list("pk"))
            return super().get_object(request, object_id, from_field)  # type: ignore[misc]
        return row

    @staticmethod
    def _tell_kept(request: HttpRequest, form: Any) -> None:
        if kept := getattr(form, "kept", []):
            text = _(
                "While the form lay open, others changed this; their change stands: %(fields)s."
            )
            messages.info(request, text % {"fields": ", ".join(kept)})


def form_page(
    model_admin: OwnPagesMixin,
    request: HttpRequest,
    form: forms.Form,
    original: Model | None = None,
    **context: Any,
) -> HttpResponse:
    """Return a page with one form on it, about a row, some or none.

    It asks for a reason, unless its form does or `asks_why` is false.
    """
    usual = {
        "media": model_admin.media + form.media,
        "asks_why": "reason" not in form.fields,
        "why": request.POST.get(REASON, ""),
    }
    return model_admin.page(
        request,
        "admin/devices/form_page.html",
        **{**usual, "original": original, "form": form, **context},
    )


def set_digest(rows: QuerySet[Any]) -> str:
    """Return what stands for this very set of rows: another set has another digest."""
    digest = hashlib.sha256()
    for (key,) in rows.order_by("pk").values_list("pk").distinct():
        digest.update(b"%d," % key)
    return digest.hexdigest()


def is_confirmed(request: HttpRequest, queryset: QuerySet[Any]) -> bool:
    """Whether an action on just these rows was confirmed."""
    return request.POST.get("shown") == set_digest(queryset)


def confirmation(
    model_admin: Any,
    request: HttpRequest,
    queryset: QuerySet[Any],
    form: forms.Form | None = None,
    **context: Any,
) -> HttpResponse:
    """Return the page on which staff confirm an action on the selected rows."""
    shown = context["shown"] if "shown" in context else set_digest(queryset)
    across = request.POST.get("select_across") == "1"
    selected = request.POST.getlist(ACTION_CHECKBOX_NAME)
    keys = selected[:1] if across else selected
    hidden = [
        *((ACTION_CHECKBOX_NAME, key) for key in keys),
        *([("select_across", "1")] if across else []),
    ]
    return form_page(
        model_admin,
        request,
        forms.Form() if form is None else form,
        **{
            "rows": queryset,
            "is_destructive": True,
            "across": across,
            "keys": keys,
            "action": request.POST["action"],
            "hidden": hidden,
            "own_hidden": [
                ("action", request.POST["action"]),
                ("confirmed", "yes"),
                ("shown", shown),
            ],
            "back": request.get_full_path(),
            **context,
        },
    )
