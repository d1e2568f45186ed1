"""Attributes of devices with a type: their admin, a device's form, columns and filters of lists."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import escape
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy

from devices.admin.base.filters import CountedFilter, parameters_besides
from devices.admin.base.forms import (
    ATTRIBUTE_PREFIX,
    AttributesField,
    CurrentForm,
    LineInput,
    LinesInput,
)
from devices.admin.base.history import RecordedAdmin
from devices.admin.base.rendering import NOTHING
from devices.models import AttributeDefinition, AttributeType, Device
from devices.models.attribute_definition import faults
from devices.values import attributes
from devices.values.text import visible

NOT_SET = gettext_lazy("not set")


class NumberField(forms.Field):
    """A number as JSON has it: a whole one, or one with a fraction."""

    widget = forms.NumberInput(attrs={"step": "any"})

    def to_python(self, value: Any) -> int | float | None:
        if value in self.empty_values:
            return None
        try:
            number = Decimal(str(value).strip())
        except InvalidOperation:
            raise ValidationError(_("Enter a number."), code="invalid") from None
        # Before it is written out, digit by digit.
        if not number.is_finite() or number.adjusted() >= attributes.MAX_DIGITS:
            raise ValidationError(attributes.NO_NUMBER, code="number")
        return int(number) if number == number.to_integral_value() else float(number)


class DateField(forms.DateField):
    """A date as JSON has it: a text such as 2027-01-31."""

    widget = forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"})
    input_formats = ["%Y-%m-%d"]

    def to_python(self, value: Any) -> Any:
        found = super().to_python(value)
        return None if found is None else found.isoformat()


class TextField(forms.CharField):
    """A text, with the spaces and the line ends that it has."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(strip=False, **kwargs)

    def to_python(self, value: Any) -> str:
        """Return the text; browsers send a line end as two characters."""
        return (super().to_python(value) or "").replace("\r\n", "\n")

    def validate(self, value: str) -> None:
        super().validate(value)
        attributes.check({"": value})


class YesNoField(forms.NullBooleanField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.widget.choices = [("unknown", NOT_SET), ("true", _("Yes")), ("false", _("No"))]


def field_name(definition: AttributeDefinition) -> str:
    return f"{ATTRIBUTE_PREFIX}{definition.pk}"


def form_field(definition: AttributeDefinition) -> forms.Field:
    """Return the field of an attribute, of its type; the form checks whether it is required."""
    needed = _(" (required)") if definition.required else ""
    common: dict[str, Any] = {
        "label": f"{definition.name}{needed}",
        "help_text": escape(definition.help),  # Django's pages take it for HTML
        "required": False,
    }
    match definition.type:
        case AttributeType.NUMBER:
            return NumberField(**common)
        case AttributeType.CHOICE:
            options = [("", NOT_SET), *((option, option) for option in definition.options)]
            return forms.ChoiceField(choices=options, **common)
        case AttributeType.DATE:
            return DateField(**common)
        case AttributeType.YES_NO:
            return YesNoField(**common)
    return TextField(widget=LineInput, **common)


class AttributesForm(CurrentForm):
    """A device's form. Its attributes are checked as a whole; each error stands beside its field.

    A stored value that is not of its type is shown among the JSON, until its field is filled in.
    """

    definitions: Sequence[AttributeDefinition] = ()

    attributes = AttributesField(
        label=gettext_lazy("Attributes"),
        required=False,
        help_text=gettext_lazy("Anything else, as a JSON object."),
        widget=LinesInput,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        instance = kwargs.get("instance")
        self.stored: dict[str, Any] = instance.attributes if instance is not None else {}
        own = {
            definition.name: definition
            for definition in self.definitions
            if definition.holds(self.stored.get(definition.name))
        }
        kwargs["initial"] = {
            "attributes": {name: value for name, value in self.stored.items() if name not in own},
            **{field_name(definition): self.stored[name] for name, definition in own.items()},
            **(kwargs.get("initial") or {}),
        }
        super().__init__(*args, **kwargs)
        for definition in self.definitions:
            name = field_name(definition)
            if "\n" in str(kwargs["initial"].get(name, "")):  # one line would drop the others
                self.fields[name].widget = LinesInput(attrs={"rows": 3})

    def clean(self) -> dict[str, Any]:
        """Put the attributes together; say beside each what is wrong with it."""
        cleaned = super().clean()
        others = cleaned.get("attributes")
        if others is None:  # no JSON object, which is said
            return cleaned
        merged = self._merged(cleaned, others)
        is_new = self.instance.pk is None
        if is_new or _text_of(merged) != _text_of(self.stored):
            for definition, fault in faults(merged, self.definitions):
                if field_name(definition) not in self.errors:
                    self.add_error(field_name(definition), fault)
            self.instance.attributes = merged
            self.changed_data.append("attributes")  # the column that is saved
        return cleaned

    def _merged(self, cleaned: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
        merged = {**others}
        for definition in self.definitions:
            name, attribute = field_name(definition), definition.name
            is_changed = name in self.changed_data
            said = cleaned.get(name) if is_changed else self.initial.get(name)
            if said is None or (is_changed and said == ""):
                continue
            if attribute in others and others[attribute] not in (said, self.stored.get(attribute)):
                text = _("“%(name)s” has a field of its own: leave it out here.")
                self.add_error("attributes", text % {"name": attribute})
            merged[attribute] = said
        return merged

    def _current(self, name: str) -> Any:
        if name in {"attributes", *map(field_name, self.definitions)}:
            return self.initial.get(name)
        return super()._current(name)


def attributes_form(definitions: Sequence[AttributeDefinition]) -> type[AttributesForm]:
    fields = {field_name(definition): form_field(definition) for definition in definitions}
    return type("DeviceForm", (AttributesForm,), {"definitions": definitions, **fields})


def _text_of(values: Mapping[str, Any]) -> str:
    """Return attributes as text: True and 1 are one in Python, and two in JSON."""
    return attributes.as_text(values, sort_keys=True)


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
        self.kept = parameters_besides(changelist, self.parameter_name)
        yield from super().choices(changelist)
        if self.is_typed and self.value() is not None:
            yield {"selected": True, "query_string": "", "display": self.value()}


def attribute_filter(definition: AttributeDefinition) -> type[AttributeFilter]:
    own = {"title": definition.name, "parameter_name": field_name(definition)}
    return type("AttributeFilter", (AttributeFilter,), {"definition": definition, **own})


def value_text(value: Any) -> str:
    if isinstance(value, bool):
        return _("Yes") if value else _("No")
    return visible(value) if isinstance(value, str) else attributes.as_text(value)


def attribute_column(definition: AttributeDefinition) -> Any:
    @admin.display(description=definition.name)
    def column(device: Device) -> SafeString | str:
        value = device.attributes.get(definition.name)
        return NOTHING if value is None else value_text(value)

    column.__name__ = field_name(definition)
    return column
