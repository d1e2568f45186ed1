"""Fields that suggest rows as one types, with a plain way where no script runs."""

from collections.abc import Collection
from typing import Any

from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelect, AutocompleteSelectMultiple
from django.db.models import Model
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from devices.admin.base.forms import RowsField
from devices.admin.base.pages import is_key, may_view
from devices.values.addresses import is_storable

TYPED = "-typed"  # ends the name of the field into which a row's name is typed


class TypedMixin:
    """Draws a second field, into which whole names are typed; browsers with scripts leave it out.

    A row goes by its identifier, or else by its name. What names no row is no choice, and the form
    says so.
    """

    field: Any
    allow_multiple_selected: bool
    named: Collection[str] | None = None  # the keys of rows that may be named; None: any

    @property
    def _model(self) -> type[Model]:
        model: type[Model] = self.field.remote_field.model
        return model

    @property
    def _named_by(self) -> str:
        columns = {one.name for one in self._model._meta.concrete_fields}
        return "identifier" if "identifier" in columns else "name"

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        """Return the keys of what was chosen, or of what was typed, one a line where many may be.

        A name that no row has stays as it was typed.
        """
        chosen = super().value_from_datadict(data, files, name)  # type: ignore[misc]
        typed = data.get(f"{name}{TYPED}", "")
        lines = typed.splitlines() if self.allow_multiple_selected else [typed]
        names = [line.strip() for line in lines if line.strip()]
        if not names:
            return chosen
        known = [one for one in names if is_storable(one)]
        rows = self._model._default_manager.filter(**{f"{self._named_by}__in": known})
        keys = {row: str(pk) for row, pk in rows.values_list(self._named_by, "pk")}
        found = [keys.get(one, one) for one in names]
        return [*chosen, *found] if self.allow_multiple_selected else found[0]

    def use_required_attribute(self, initial: Any) -> bool:
        """Let the server ask for a row: a browser would ask for a choice where a name is typed."""
        return False

    def optgroups(self, name: str, value: Any, attr: Any = None) -> Any:
        """Return the rows that are chosen; a name that was typed is none.

        One that may not be named goes by its key, which whoever chose it knows.
        """
        keys = [one for one in value if is_key(one)]
        groups = super().optgroups(name, keys, attr)  # type: ignore[misc]
        if self.named is None:
            return groups
        for _name, options, _index in groups:
            for option in options:
                if option["value"] and str(option["value"]) not in self.named:
                    option["label"] = f"#{option['value']}"
        return groups

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        """Draw both; what named no row stands in the second."""
        drawn: SafeString = super().render(name, value, attrs, renderer)  # type: ignore[misc]
        values = value if isinstance(value, list | tuple) else [value]
        refused = "\n".join(one for one in map(str, values) if not is_key(one) and one != "None")
        context = {
            "name": f"{name}{TYPED}",
            "refused": refused,
            "several": self.allow_multiple_selected,
            "by_identifier": self._named_by == "identifier",
        }
        return drawn + render_to_string("admin/devices/typed.html", context)


class SuggestedRow(TypedMixin, AutocompleteSelect):
    """One row."""


class SuggestedRows(TypedMixin, AutocompleteSelectMultiple):
    """Any number of rows."""


class SuggestedRowsMixin(admin.ModelAdmin):
    """Gives an admin's fields with suggestions the plain way; the site gives it to every admin."""

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        if db_field.many_to_many:
            kwargs.setdefault("form_class", RowsField)
        if db_field.is_relation and db_field.name in self.get_autocomplete_fields(request):
            kind = SuggestedRows if db_field.many_to_many else SuggestedRow
            widget = kwargs.setdefault("widget", kind(db_field, self.admin_site))
            widget.named = self._named_rows(db_field, request)
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def _named_rows(self, db_field: Any, request: HttpRequest) -> Collection[str] | None:
        """Return the keys of rows that a form may name; None: any.

        One that comes back names what was sent: to whoever may not see such rows, no others than
        those that the row is stored with.
        """
        if request.method != "POST" or may_view(request, db_field.related_model):
            return None
        key = str(getattr(request.resolver_match, "kwargs", {}).get("object_id", ""))
        rows = self.model._default_manager.order_by().filter(pk=key if is_key(key) else None)
        return {str(found) for found in rows.values_list(db_field.name, flat=True)}
