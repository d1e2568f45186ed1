"""What attributes devices have: their types, where somebody says so. Others stay free."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date
from typing import Any

from django.core.exceptions import ValidationError
from django.db import connection, models
from django.db.models import F, Func, Value
from django.utils.translation import gettext_lazy as _, pgettext_lazy

from devices.history import Recorded, Records
from devices.values.text import joined

MAX_CHOICES = 100


class AttributeType(models.TextChoices):
    TEXT = "text", _("Text")
    NUMBER = "number", pgettext_lazy("a type", "Number")
    CHOICE = "choice", _("One of several")
    DATE = "date", _("Date")
    YES_NO = "yes-no", _("Yes or no")


_known: ContextVar["list[AttributeDefinition] | None"] = ContextVar("known", default=None)


class AttributeDefinitionManager(models.Manager["AttributeDefinition"]):
    def in_force(self) -> "list[AttributeDefinition]":
        """Return all definitions, read once within `read_once`."""
        known = _known.get()
        return list(self.all()) if known is None else known

    @contextmanager
    def read_once(self) -> Iterator[None]:
        """Read the definitions once for all rows that are checked within."""
        token = _known.set(self.in_force())
        try:
            yield
        finally:
            _known.reset(token)

    def check_values(self, attributes: Mapping[str, Any]) -> None:
        """Raise ValidationError where attributes are not what their definitions say."""
        if errors := [error for _definition, error in faults(attributes, self.in_force())]:
            raise ValidationError(errors)

    def named(self, name: str) -> "AttributeDefinition":
        """Return the definition of an attribute; raises ValidationError where it has no type."""
        known = {definition.name: definition for definition in self.in_force()}
        if name not in known:
            text = _("No attribute “%(name)s” has a type; those that have one: %(known)s.")
            named = joined(sorted(known)) or "—"
            raise ValidationError(text, params={"name": name, "known": named})
        return known[name]


def faults(
    attributes: Mapping[str, Any], definitions: "Iterable[AttributeDefinition]"
) -> "Iterator[tuple[AttributeDefinition, ValidationError]]":
    """Yield what is wrong with attributes, each with the definition that says so."""
    for definition in definitions:
        if definition.name in attributes:
            try:
                definition.check_value(attributes[definition.name])
            except ValidationError as error:
                yield definition, error
        elif definition.required:
            yield (
                definition,
                ValidationError(
                    _("The attribute “%(name)s” is missing."),
                    code="missing",
                    params={"name": definition.name},
                ),
            )


class AttributeDefinition(Recorded):
    """The type of one attribute, by its name in the JSON object."""

    name = models.CharField(
        _("name"),
        max_length=100,
        help_text=_("As it stands in the JSON object; upper and lower case count."),
    )
    type = models.CharField(_("type"), max_length=16, choices=AttributeType)
    required = models.BooleanField(
        _("required"),
        default=False,
        help_text=_("Devices that lack it stay as they are until their attributes are changed."),
    )
    choices = models.TextField(
        _("choices"), blank=True, help_text=_("Of “one of several”: each on a line of its own.")
    )
    help = models.CharField(_("help"), max_length=255, blank=True)
    is_filter = models.BooleanField(_("filters the list"), default=True)

    objects = AttributeDefinitionManager()
    history = Records()
    restored_fields = ("name", "type", "choices", "required", "is_filter", "help")

    class Meta:
        ordering = ["name"]
        verbose_name = _("attribute")
        verbose_name_plural = _("attributes of devices")
        constraints = [
            models.UniqueConstraint(
                fields=["name"],
                name="devices_attribute_name_unique",
                violation_error_message=_("An attribute of this name exists."),
            ),
            models.CheckConstraint(
                condition=models.Q(type__in=AttributeType.values),
                name="devices_attribute_type_known",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Refuse a choice without choices, and a name that a JSON path of SQLite cannot hold."""
        super().clean()
        if '"' in self.name or "\\" in self.name:
            raise ValidationError({"name": _("A name holds no quotation mark and no backslash.")})
        if self.type == AttributeType.CHOICE and not self.options:
            raise ValidationError({"choices": _("Write at least one choice.")})
        if len(self.options) > MAX_CHOICES:
            text = _("Write at most %(most)d choices.")
            raise ValidationError({"choices": text % {"most": MAX_CHOICES}})

    @property
    def options(self) -> list[str]:
        return [line.strip() for line in self.choices.splitlines() if line.strip()]

    def check_value(self, value: object) -> None:
        if not self.holds(value):
            raise ValidationError(
                _("The attribute “%(name)s” says “%(value)s”, and must be %(expected)s."),
                code="type",
                params={"name": self.name, "value": value, "expected": self.expected},
            )

    @property
    def expected(self) -> str:
        words = {
            AttributeType.TEXT: _("a text"),
            AttributeType.NUMBER: _("a number"),
            AttributeType.CHOICE: _("one of: %(options)s"),
            AttributeType.DATE: _("a date such as “2027-01-31”"),
            AttributeType.YES_NO: _("true or false"),
        }
        return str(words[AttributeType(self.type)]) % {"options": joined(self.options)}

    def holds(self, value: object) -> bool:
        if self.type == AttributeType.NUMBER:
            return isinstance(value, int | float) and not isinstance(value, bool)
        if self.type == AttributeType.YES_NO:
            return isinstance(value, bool)
        if not isinstance(value, str):
            return False
        if self.type == AttributeType.CHOICE:
            return value in self.options
        return self.type == AttributeType.TEXT or _is_date(value)

    def read(self, text: str) -> Any:
        """Return the value that a text in an address means. Raises ValueError where none."""
        if self.type == AttributeType.NUMBER:
            number = float(text)
            if not math.isfinite(number):
                raise ValueError(text)
            return int(number) if number.is_integer() else number
        return {"true": True, "false": False}[text] if self.type == AttributeType.YES_NO else text

    def keep(self, devices: Any, text: str) -> Any:
        """Return the devices whose attribute says so; by an index on PostgreSQL."""
        try:
            return self.holding(devices, self.read(text))
        except (ValueError, KeyError):
            return devices.none()

    def holding(self, devices: Any, value: Any) -> Any:
        """Return the devices whose attribute has this value; by an index on PostgreSQL."""
        if connection.vendor == "postgresql":
            return devices.filter(attributes__contains={self.name: value})
        # Django takes a key that is a number for a place in an array.
        path = F("attributes"), Value(f'$."{self.name}"')
        kind, said = f"attribute_{self.pk}_kind", f"attribute_{self.pk}"
        told = devices.alias(
            **{kind: Func(*path, function="JSON_TYPE", output_field=models.CharField())}
        )
        if isinstance(value, bool):
            return told.filter(**{kind: "true" if value else "false"})
        field, kinds = SQLITE_KINDS[type(value)]
        read = Func(*path, function="JSON_EXTRACT", output_field=field())
        return told.alias(**{said: read}).filter(**{f"{kind}__in": kinds, said: value})


# How SQLite reads a value of a type, and what it calls those that it may be equal to.
SQLITE_KINDS: "Mapping[type, tuple[type[models.Field[Any, Any]], tuple[str, ...]]]" = {
    str: (models.CharField, ("text",)),
    int: (models.BigIntegerField, ("integer", "real")),
    float: (models.FloatField, ("integer", "real")),
}


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
