"""What a list can be asked for: what an index serves, and nothing else."""

from typing import Any, ClassVar

from django import forms
from django.db import models
from django.utils.translation import gettext as _
from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework.request import Request

from devices.api.base.problems import ParameterError
from devices.values.moments import parse_moment


@extend_schema_field({"type": "string", "minLength": 1})
class CharFilter(filters.CharFilter):
    """A text as it is, its spaces included; an empty one only where that means something."""

    def __init__(self, *, takes_empty: bool = False, **kwargs: Any) -> None:
        super().__init__(strip=False, **kwargs)
        self.takes_empty = takes_empty


@extend_schema_field(OpenApiTypes.BOOL)
class TruthFilter(filters.TypedChoiceFilter):
    """`true` or `false`, and no other word for them."""

    def __init__(self, **kwargs: Any) -> None:
        choices = [("true", "true"), ("false", "false")]
        super().__init__(choices=choices, coerce=lambda word: word == "true", **kwargs)


KEY: dict[str, Any] = {
    "type": "integer",
    "format": "int64",
    "minimum": 1,
    "maximum": models.BigIntegerField.MAX_BIGINT,
}


class KeyFormField(forms.IntegerField):
    """A key as lists write it: Django's field also takes `1_0` for 10, and `7.0` for 7."""

    def to_python(self, value: Any) -> int | None:
        if value and not (value.isascii() and value.isdecimal()):
            raise forms.ValidationError(self.error_messages["invalid"], code="invalid")
        return super().to_python(value)


@extend_schema_field(KEY)
class KeyFilter(filters.Filter):
    """The primary key of a row; one that no row has finds nothing."""

    field_class = KeyFormField

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=1, max_value=models.BigIntegerField.MAX_BIGINT, **kwargs)


class MomentFormField(forms.CharField):
    """A moment with its offset, such as 2027-01-31T12:00:00Z."""

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        moment = parse_moment(text.replace(" ", "+")) if text else None
        if text and moment is None:
            raise forms.ValidationError(_("Write a moment such as 2027-01-31T12:00:00Z."))
        return moment


@extend_schema_field(OpenApiTypes.DATETIME)
class MomentFilter(filters.Filter):
    field_class = MomentFormField


class FieldFilters(filters.FilterSet):
    """The filters of a view's `filterset_fields`, by the types of these fields."""

    class Meta:
        filter_overrides: ClassVar[dict[Any, Any]] = {
            models.CharField: {"filter_class": CharFilter},
            models.BooleanField: {"filter_class": TruthFilter},
            models.ForeignKey: {"filter_class": KeyFilter},
            models.OneToOneField: {"filter_class": KeyFilter},
        }


def check(filterset: Any) -> None:
    """Raise ParameterError where a filter cannot be asked what the address says.

    An empty value is none: it would be taken for no filter, and all rows for the answer.
    """
    for name, one in filterset.filters.items():
        if filterset.data.get(name) == "" and not getattr(one, "takes_empty", False):
            raise ParameterError(name, _("Write a value, or leave the parameter out."))
    if not filterset.is_valid():
        errors = filterset.errors.items()
        first, *more = [(name, text) for name, texts in errors for text in texts]
        raise ParameterError(*first, *more)


class Backend(filters.DjangoFilterBackend):
    filterset_base = FieldFilters

    def filter_queryset(self, request: Request, queryset: Any, view: Any) -> Any:
        filterset = self.get_filterset(request, queryset, view)
        if filterset is None:
            return queryset
        check(filterset)
        return filterset.qs
