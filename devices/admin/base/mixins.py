"""What the admins of several models share: guards, what may be asked of them, and how they save."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import (
    BadRequest,
    FieldDoesNotExist,
    PermissionDenied,
    ValidationError,
)
from django.db import DatabaseError, connection
from django.db.models import Model
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from devices.admin.base.pages import MOVED, OwnPagesMixin, drop_messages, is_key, may_view
from devices.admin.base.rendering import REVOKED
from devices.database.conflicts import Gone, RefusedNow, conflict_text
from devices.database.turns import hold
from devices.extension_points import GUARDS, View
from devices.models.dependants import dependants, kept_counts, links, not_deletable
from devices.values.text import joined

FILTER_PARTS = ("exact", "isnull", "id__exact", "gte", "lt", "in")  # that Django's filters use
DATE_PARTS = ("year", "month", "day")
EDIT = "_edit"  # among what is sent: show the form as it was filled in, and save nothing


def filtered_field(list_filter: Any) -> str:
    """Return the field that an item of `list_filter` narrows a list by, as far as it says."""
    found = list_filter[0] if isinstance(list_filter, list | tuple) else list_filter
    path = found if isinstance(found, str) else getattr(found, "parameter_name", None)
    return str(path or "").partition("__")[0]


class NoDeletingMixin(admin.ModelAdmin):
    """Offers no deletion of many rows at once."""

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions


class RevocableMixin(admin.ModelAdmin):
    """Shows rows that are revoked instead of changed: of one that is there, few fields change.

    One that is revoked stays, since what was revoked must be known.
    """

    editable: tuple[str, ...] = ()  # the only fields of `fieldsets` that may be changed later

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Leave out who revoked it, when and why, while nobody has."""
        fieldsets = super().get_fieldsets(request, obj)
        if obj is not None and obj.revoked_at is None:
            return [one for one in fieldsets if REVOKED not in one[1]["fields"]]
        return fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        shown = [field for _title, part in self.fieldsets or () for field in part["fields"]]
        return [field for field in shown if field not in self.editable] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        is_revoked = obj is not None and obj.revoked_at is not None
        return not is_revoked and super().has_delete_permission(request, obj)


class SuperusersMixin(admin.ModelAdmin):
    """Leaves rows to superusers by which anybody could get any permission, or another's account.

    Django's permissions let others see and delete them, but no superuser.
    """

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        is_reached = request.user.is_superuser or not getattr(obj, "is_superuser", False)
        return is_reached and super().has_delete_permission(request, obj)


class NoAddPageMixin(admin.ModelAdmin):
    """Leaves it to another page, or to the registry itself, to add rows."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


class ReadOnlyMixin(NoAddPageMixin):
    """Shows rows that the registry makes, and forgets by age; nobody changes them by hand."""

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kw: Any) -> Any:
        """Lead to no history: most of these rows have none."""
        context.setdefault("history_is_hidden", True)
        return super().render_change_form(request, context, *args, **kw)

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
    """Makes an admin accept what it offers and can use, and no other parameter of an address.

    The site gives it to every admin; `linked_lookups` of an admin names those that links of other
    pages make. Any other look-up is refused: a regular expression in a link
    runs in the process on SQLite, where nothing ends it.
    """

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """List rows, or act on those that are selected; refuse what cannot be a key."""
        if not all(map(is_key, request.POST.getlist(ACTION_CHECKBOX_NAME))):
            raise BadRequest("no such row can be selected")
        return super().changelist_view(request, *args, **kwargs)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Add or change a row; make a copy of one only where that is offered."""
        if "_saveasnew" in request.POST and not self.save_as:
            raise BadRequest("no copy can be saved here")
        return super().changeform_view(request, *args, **kwargs)

    def history_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Show a row's history; Django looks the row up before it asks for the permission."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        return super().history_view(request, *args, **kwargs)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Return what is deleted, and count what goes along.

        Raises RefusedNow where a page showed that other rows do, of those that staff keep.
        """
        names, counts, *others = super().get_deleted_objects(objs, request)
        hidden = {str(self.model._meta.verbose_name_plural), *links(self.model)}
        counts = {name: count for name, count in counts.items() if str(name) not in hidden}
        shown = request.POST.get("goes_with")
        if shown is not None and shown != kept_counts(counts.items()):
            raise RefusedNow(MOVED)
        return names, counts, *others

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Allow what a filter of the list sends, and rows that belong to another row."""
        if lookup in self.related_lookups(request):
            return is_key(value) and super().lookup_allowed(lookup, value, request)
        name, _separator, part = lookup.partition("__")
        is_relation = any(one.is_relation and one.name == name for one in self.opts.get_fields())
        if (part or is_relation) and lookup not in self.offered_lookups(request):
            return False
        if part in {"exact", "gte", "lt"}:
            wanted = self.initial_value(name, value)
            if wanted is None or (isinstance(wanted, datetime) and timezone.is_naive(wanted)):
                return False  # filters say a moment with its offset
        if part == "in" and any(self.initial_value(name, one) is None for one in value.split(",")):
            return False
        return super().lookup_allowed(lookup, value, request)

    def related_lookups(self, request: HttpRequest) -> set[str]:
        """Return those by rows that the user may see: a list names what narrows it."""
        hidden = self._hidden_relations(request)
        return {
            f"{field.name}{end}"
            for field in self.opts.get_fields()
            if field.is_relation and field.name not in hidden
            for end in ("", "__exact", "__id__exact")
        }

    def offered_lookups(self, request: HttpRequest) -> set[str]:
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

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        """Leave out the filters by rows that the user may not see: their choices name those."""
        hidden = self._hidden_relations(request)
        return [
            one for one in super().get_list_filter(request) if filtered_field(one) not in hidden
        ]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Return what the address says of a new row, as far as its fields can hold it.

        A form names the rows that it begins with: those that the user may not see are left out.
        """
        initial = super().get_changeform_initial_data(request)
        usable = {name: self.initial_value(name, value) for name, value in initial.items()}
        hidden = self._hidden_relations(request)
        return {
            name: value
            for name, value in usable.items()
            if value is not None and name not in hidden
        }

    def _hidden_relations(self, request: HttpRequest) -> set[str]:
        """Return the fields that lead to rows which the user may not see."""
        return {
            field.name
            for field in self.opts.get_fields()
            if field.is_relation and not may_view(request, field.related_model)
        }

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


class NothingSaved:
    """Makes a form come back as it was filled in."""

    def full_clean(self) -> None:
        """Add an error to the form, whatever was filled in."""
        super().full_clean()  # type: ignore[misc]
        self.add_error(None, _("Nothing is saved yet."))  # type: ignore[attr-defined]


class ChangeGuardMixin(OwnPagesMixin):
    """Passes every change of an admin through the guards."""

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
        form: Any = super().get_form(request, *args, **kwargs)
        return type(form.__name__, (NothingSaved, form), {}) if EDIT in request.POST else form


class SaveChangedFieldsMixin:
    """Makes an admin save what was changed in the form, and no other field.

    Servers write beside staff: a revocation, a last use or a digest computed again that came
    between the reading and the saving of a row must stand.
    """

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Add or change a row.

        What met another change is tried once more: the form then says, with what was typed, what
        others saved meanwhile.
        """
        view = partial(super().changeform_view, request, *args, **kwargs)  # type: ignore[misc]
        try:
            return view()
        except (RefusedNow, DatabaseError, Gone) as error:
            if request.method != "POST" or conflict_text(error) is None:
                raise
        drop_messages(request)
        return view()

    def save_model(self, request: HttpRequest, obj: Model, form: forms.Form, change: bool) -> None:
        """Save a new row whole, a changed one in its changed columns; say what others changed."""
        self._tell_kept(request, form)
        columns = {field.name for field in obj._meta.concrete_fields}
        obj.save(update_fields=columns & set(form.changed_data) if change else None)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        super().save_formset(request, form, formset, change)  # type: ignore[misc]
        self._tell_kept(request, formset)

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        """Return the row; a POST locks it, and so waits for whoever is saving it just now."""
        row = super().get_object(request, object_id, from_field)  # type: ignore[misc]
        if row is not None and request.method == "POST" and connection.in_atomic_block:
            hold(type(row), [row.pk])
            return super().get_object(request, object_id, from_field)  # type: ignore[misc]
        return row

    @staticmethod
    def _tell_kept(request: HttpRequest, form: Any) -> None:
        if kept := getattr(form, "kept", []):
            text = _(
                "While the form lay open, others changed this; their change stands: %(fields)s."
            )
            messages.info(request, text % {"fields": joined(kept)})
