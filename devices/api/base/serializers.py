"""Rows as JSON, and JSON as rows: nothing is coerced, and nothing is overlooked.

A field takes the kind of value that it gives: `"1999"` is no number, `1` is no truth value, and a
text keeps its spaces. A name that no field has is an error. The rules of a row are those of its
model: `full_clean` is asked before anything is saved, as the admin's forms do.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _
from rest_framework import exceptions, serializers
from rest_framework.fields import get_error_detail

from devices.api.base.permissions import narrowed
from devices.api.base.versions import version_of
from devices.history.context import MAX_REASON_LENGTH
from devices.values.attributes import is_same
from devices.values.moments import parse_moment

MAX_LISTED = 1000  # keys of other rows in one field
MAX_KEY = models.BigIntegerField.MAX_BIGINT


class OfType(serializers.Field):
    """Takes values of one JSON type alone: a truth value is no number, and a number no text."""

    json_type: type
    type_error = "invalid"

    def to_internal_value(self, data: Any) -> Any:
        if type(data) is not self.json_type:
            self.fail(self.type_error, input=data, value=data)
        return super().to_internal_value(data)


class CharField(OfType, serializers.CharField):
    json_type = str
    default_error_messages = {"invalid": _("This must be a text.")}

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("trim_whitespace", False)
        super().__init__(**kwargs)


class BooleanField(OfType, serializers.BooleanField):
    json_type = bool
    default_error_messages = {"invalid": _("This must be true or false.")}


class IntegerField(OfType, serializers.IntegerField):
    json_type = int


class DateTimeField(serializers.DateTimeField):
    default_error_messages = {"invalid": _("Write a moment such as 2027-01-31T12:00:00Z.")}

    def to_internal_value(self, value: Any) -> Any:
        moment = parse_moment(value) if isinstance(value, str) else None
        if moment is None:
            self.fail("invalid", format="RFC 3339")
        return moment


class ChoiceField(OfType, serializers.ChoiceField):
    json_type = str
    type_error = "invalid_choice"


class UUIDField(OfType, serializers.UUIDField):
    json_type = str


class ListField(serializers.ListField):
    """A list; of one that is longer than `max_length`, no value is looked at."""

    def to_internal_value(self, data: Any) -> Any:
        if self.max_length is not None and isinstance(data, list) and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        return super().to_internal_value(data)


class RowField(serializers.PrimaryKeyRelatedField):
    """The primary key of another row, among those that the request reaches.

    A subclass may name rows by another field, `key_field`, which is unique.
    """

    key_field = "pk"
    key_type: type = int
    type_error = "incorrect_type"
    default_error_messages = {
        "incorrect_type": _("This must be the key of a row: a whole number."),
        "does_not_exist": _("There is no row with the key {pk_value}."),
    }

    def get_queryset(self) -> Any:
        rows = super().get_queryset()
        request = self.context.get("request")
        return rows if rows is None or request is None else narrowed(request, rows)

    def to_internal_value(self, data: Any) -> Any:
        """Return the row; a text is no key."""
        return self.row(data, self.found(self.get_queryset(), self.keys_in([data])))

    def keys_in(self, values: Iterable[Any]) -> set[Any]:
        """Return those of the values that may be a row's key."""
        keys: set[Any] = {one for one in values if type(one) is self.key_type}
        return {one for one in keys if self.key_type is str or abs(one) <= MAX_KEY}

    def found(self, rows: Any, keys: set[Any]) -> dict[Any, Any]:
        return dict(rows.in_bulk(keys, field_name=self.key_field)) if keys else {}

    def row(self, key: Any, known: Mapping[Any, Any]) -> Any:
        """Return the row of a key, which is among those that are known; raises ValidationError."""
        if type(key) is not self.key_type:
            self.fail(self.type_error)
        if key not in known:
            self.fail("does_not_exist", pk_value=key)
        return known[key]

    @classmethod
    def many_init(cls, *args: Any, **kwargs: Any) -> "RowsField":
        many = {name: kwargs.pop(name) for name in MANY_OPTIONS & kwargs.keys()}
        kwargs.pop("many", None)
        return RowsField(child_relation=cls(*args, **kwargs), **many)


MANY_OPTIONS = {"required", "default", "source", "allow_empty", "read_only", "label", "help_text"}


class RowsField(serializers.ManyRelatedField):
    """The primary keys of other rows, at most MAX_LISTED, found with one statement."""

    child_relation: RowField
    default_error_messages = {
        "not_a_list": _("This must be a list of keys."),
        "too_many": _("At most %(most)d keys can be listed.") % {"most": MAX_LISTED},
    }

    def to_internal_value(self, data: Any) -> list[Any]:
        """Return the rows; raises ValidationError with the positions of what is none."""
        if not isinstance(data, list):
            self.fail("not_a_list")
        if len(data) > MAX_LISTED:
            self.fail("too_many")
        found = self._found(self.child_relation.keys_in(data))
        errors: dict[Any, Any] = {}
        rows: dict[Any, Any] = {}
        for position, key in enumerate(data):
            try:
                rows[key] = self.child_relation.row(key, found)
            except exceptions.ValidationError as error:
                errors[position] = error.detail
        if errors:
            raise exceptions.ValidationError(errors)
        return list(rows.values())

    def _found(self, keys: set[Any]) -> dict[Any, Any]:
        """Return the rows of the keys; of a list of rows, those that come again are asked once."""
        rows = self.child_relation.get_queryset()
        known = self.context.get("known_rows", {}).setdefault(rows.model, {})
        known.update(self.child_relation.found(rows, keys - known.keys()))
        return {key: known[key] for key in keys & known.keys()}


class Strict(serializers.BaseSerializer):
    """Refuses names that no field has."""

    default_error_messages: ClassVar[dict[str, Any]] = {
        "unknown": _("There is no such field here."),
        "read_only": _("This cannot be changed here."),
        "invalid": _("This must be an object."),
    }

    def to_internal_value(self, data: Any) -> Any:
        """Return what the object says; raises ValidationError with everything against it."""
        errors: dict[Any, Any] = {}
        fields: Mapping[str, Any] = self.fields  # type: ignore[attr-defined]
        if isinstance(data, Mapping):
            for name in data:
                if name not in fields:
                    errors[name] = [self._error("unknown")]
                elif fields[name].read_only:
                    errors[name] = [self._error("read_only")]
        try:
            value = super().to_internal_value(data)
        except exceptions.ValidationError as error:
            found: Any = error.detail
            told = found if isinstance(found, dict) else {"non_field_errors": found}
            raise exceptions.ValidationError({**told, **errors}) from None
        if errors:
            raise exceptions.ValidationError(errors)
        return value

    def _error(self, code: str) -> exceptions.ErrorDetail:
        return exceptions.ErrorDetail(str(self.default_error_messages[code]), code)


class Serializer(Strict, serializers.Serializer):
    """The arguments of an operation, or an answer that is no row."""


class NothingSerializer(Serializer):
    """The body of an operation that takes none: it may be left out, or be an empty object."""


class ReasonSerializer(Serializer):
    """Why something is done; the history keeps it."""

    reason = CharField(required=False, default="", allow_blank=True, max_length=MAX_REASON_LENGTH)


class VersionField(serializers.Field):
    """The entity tag of a row, as `If-Match` takes it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(source="*", read_only=True, **kwargs)

    def to_representation(self, value: Any) -> str:
        relations = getattr(getattr(self.parent, "Meta", None), "versioned_with", ())
        return version_of(value, relations)


class ModelSerializer(Strict, serializers.ModelSerializer[Any]):
    """A row. `Meta.versioned_with` names the relations whose rows are part of its version.

    `Meta.create_only` names the fields that stay as they were when the row was created,
    `Meta.only_of_changes` those that are in answers to changes alone.
    """

    serializer_field_mapping = {
        **serializers.ModelSerializer.serializer_field_mapping,
        models.CharField: CharField,
        models.TextField: CharField,
        models.BooleanField: BooleanField,
        models.IntegerField: IntegerField,
        models.PositiveIntegerField: IntegerField,
        models.BigIntegerField: IntegerField,
        models.DateTimeField: DateTimeField,
        models.UUIDField: UUIDField,
    }
    serializer_related_field = RowField
    serializer_choice_field = ChoiceField

    etag = VersionField()

    def get_field_names(self, declared_fields: Any, info: Any) -> Any:
        """Return the fields of Meta, and the version at the end."""
        names = [*super().get_field_names(declared_fields, info)]
        return names if "etag" in names else [*names, "etag"]

    def get_fields(self) -> dict[str, Any]:
        """Return the fields; of an answer those that were asked for with `fields=`."""
        fields: dict[str, Any] = super().get_fields()
        view = self.context.get("view")
        if not getattr(view, "changing", True) and not getattr(view, "swagger_fake_view", False):
            for name in getattr(self.Meta, "only_of_changes", ()):
                fields.pop(name)
        if self.instance is not None:
            for name in getattr(self.Meta, "create_only", ()):
                fields[name].read_only = True
        only = self.context.get("only")
        return fields if only is None else {name: fields[name] for name in fields if name in only}

    def build_standard_field(self, field_name: str, model_field: Any) -> Any:
        """Return a field whose rules are the model's: they are asked once, in `full_clean`."""
        field_class, kwargs = super().build_standard_field(field_name, model_field)
        kwargs.pop("validators", None)
        return field_class, kwargs

    def get_validators(self) -> list[Any]:
        """Return none: the model's constraints are asked in `full_clean`."""
        return []

    def create(self, validated_data: dict[str, Any]) -> Any:
        """Save a new row that its model finds nothing against."""
        links = self._take_links(validated_data)
        row = self._model(**validated_data)
        self._clean(row)
        row.save()
        self._link(row, links)
        return row

    def update(self, instance: Any, validated_data: dict[str, Any]) -> Any:
        """Save what was changed, and no other field: servers write beside."""
        links = self._take_links(validated_data)
        changed = {
            name
            for name, value in validated_data.items()
            if not _same(getattr(instance, name), value)
        }
        for name in changed:
            setattr(instance, name, validated_data[name])
        if changed:
            self._clean(instance)
            instance.save(update_fields=changed)
        self._link(instance, links)
        return instance

    @property
    def _model(self) -> Any:
        return self.Meta.model

    def _take_links(self, values: dict[str, Any]) -> dict[str, Any]:
        many = {field.name for field in self._model._meta.many_to_many}
        return {name: values.pop(name) for name in many & values.keys()}

    @staticmethod
    def _link(row: Any, links: dict[str, Any]) -> None:
        for name, rows in links.items():
            getattr(row, name).set(rows)

    @staticmethod
    def _clean(row: Any) -> None:
        try:
            row.full_clean()
        except ValidationError as error:
            raise exceptions.ValidationError(_placed(row, error)) from None


def _placed(row: Any, error: ValidationError) -> dict[str, list[Any]]:
    """Return what a model finds against a row, each fault at a field that a body can name.

    What is wrong with a field that follows from others is told only where nothing is wrong with
    those.
    """
    found: Any = get_error_detail(error)
    derived = {one.name for one in row._meta.concrete_fields if not one.editable}
    placed = {name: texts for name, texts in found.items() if name not in derived}
    return placed or {NON_FIELD_ERRORS: [text for texts in found.values() for text in texts]}


def _same(before: object, wanted: object) -> bool:
    """Whether a value is there already; True and 1 are one in Python, and two in JSON."""
    if isinstance(wanted, dict):
        return is_same(before, wanted)
    return not isinstance(wanted, list) and before == wanted and type(before) is type(wanted)
