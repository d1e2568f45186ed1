"""The version of a row: what stands for all that staff can change in it, and for nothing else.

It is made of the fields that the history records (so that neither a last use nor a digest that is
made again moves it) and of the rows that it is linked with. The forms of the admin compare the same
fields: so both refuse the same as stale.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from devices.history import history_of

ETAGS = re.compile(r'\s*(?:\*|(?:W/)?"[^"]*"(?:\s*,\s*(?:W/)?"[^"]*")*)\s*\Z')
ETAG = re.compile(r'\*|(?:W/)?"[^"]*"')


@cache
def _columns(model: type[models.Model]) -> tuple[str, ...]:
    try:
        fields = history_of(model).tracked_fields
    except KeyError:
        left_out = getattr(model, "unversioned_fields", ())
        fields = [one for one in model._meta.concrete_fields if one.name not in left_out]
    return tuple(field.attname for field in fields if not isinstance(field, models.BinaryField))


def version_of(row: models.Model, relations: Iterable[str] = ()) -> str:
    """Return the entity tag of a row and of the keys of what the relations lead to."""
    said = [
        row._meta.label,
        *(getattr(row, column) for column in _columns(type(row))),
        *(sorted(one.pk for one in getattr(row, name).all()) for name in relations),
    ]
    text = json.dumps(said, cls=DjangoJSONEncoder, sort_keys=True)
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def entity_tags(header: str) -> list[str] | None:
    """Return the tags of an If-Match or If-None-Match; None where it holds no such thing."""
    return ETAG.findall(header) if ETAGS.match(header) else None


def matches(header: str, version: str) -> bool:
    """Whether an If-Match means this version; weak tags mean none (RFC 9110, 13.1.1)."""
    tags = entity_tags(header) or []
    return version in tags or "*" in tags


def describes(header: Any, version: str) -> bool:
    """Whether an If-None-Match names this version (RFC 9110, 13.1.2)."""
    tags = [tag.removeprefix("W/") for tag in entity_tags(header or "") or []]
    return version in tags or "*" in tags
