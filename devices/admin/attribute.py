"""Attributes of devices with a type: their admin, and what lists show and filter by them."""

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy

from devices.admin.attribute_fields import field_name
from devices.admin.base.filters import CountedFilter
from devices.admin.base.history import RecordedAdmin
from devices.admin.base.rendering import NOTHING
from devices.models import AttributeDefinition, AttributeType, Device
from devices.values import attributes


@admin.register(AttributeDefinition)
class AttributeDefinitionAdmin(RecordedAdmin):
    """The types of attributes; an attribute without one may hold anything."""

    list_display = ["name", "type", "required", "is_filter", "help"]
    list_filter = ["type", "required"]
    search_fields = ["name", "help"]
    purpose = gettext_lazy(
        "An attribute of devices gets a type here: forms and files then refuse what is not of it, "
        "and the list of devices is filtered by it."
    )
    fieldsets = [(None, {"fields": ["name", "type", "choices", "required", "is_filter", "help"]})]


class AttributeFilter(CountedFilter):
    """Devices by what one attribute says: a choice, or a text that is typed."""

    definition: AttributeDefinition
    template = "admin/devices/attribute_filter.html"
    kept: list[tuple[str, str]]

    def has_output(self) -> bool:
        """Show the filter without choices too: there is a field to type into."""
        return True

    @property
    def is_typed(self) -> bool:
        return self.definition.type not in {AttributeType.CHOICE, AttributeType.YES_NO}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        if self.definition.type == AttributeType.YES_NO:
            return [("true", _("Yes")), ("false", _("No"))]
        return [(option, option) for option in self.definition.options]

    def keep(self, queryset: Any, value: str) -> QuerySet[Device]:
        return self.definition.keep(queryset, value)

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Yield the choices; what was typed is one of them."""
        self.kept = [
            (name, value)
            for name, values in changelist.filter_params.items()
            for value in values
            if name != self.parameter_name
        ]
        yield from super().choices(changelist)
        if self.is_typed and self.value() is not None:
            yield {"selected": True, "query_string": "", "display": self.value()}


def attribute_filters(known: list[AttributeDefinition]) -> list[type[AttributeFilter]]:
    """Return a filter of the list of devices for each attribute that has one."""
    return [
        type(
            "AttributeFilter",
            (AttributeFilter,),
            {
                "definition": definition,
                "title": definition.name,
                "parameter_name": field_name(definition),
            },
        )
        for definition in known
        if definition.is_filter
    ]


def value_text(value: Any) -> str:
    """Return the value of an attribute as pages show it."""
    if isinstance(value, bool):
        return _("Yes") if value else _("No")
    return value if isinstance(value, str) else attributes.as_text(value)


def attribute_columns(known: list[AttributeDefinition]) -> list[Any]:
    """Return a column of the list of devices for each attribute that has a type."""
    return [_column(definition) for definition in known]


def _column(definition: AttributeDefinition) -> Any:
    @admin.display(description=definition.name)
    def column(device: Device) -> SafeString | str:
        value = device.attributes.get(definition.name)
        return NOTHING if value is None else value_text(value)

    column.__name__ = field_name(definition)
    return column
