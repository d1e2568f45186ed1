"""What goes with rows that are deleted, and who may let it go."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db.models import CASCADE, Q, QuerySet

from devices.history import Recorded
from devices.history.models import permission_to
from devices.models.credentials.certificate import keep_revoked
from devices.values.text import labelled


@dataclass(frozen=True, slots=True)
class Dependants:
    """How many rows of a model go with something that is deleted."""

    model: Any
    rows: int

    @property
    def name(self) -> str:
        return str(self.model._meta.verbose_name_plural)

    @property
    def is_kept(self) -> bool:
        return is_kept(self.model)

    def __str__(self) -> str:
        return labelled(self.name, f"{self.rows:,}")


def dependants(rows: QuerySet[Any]) -> list[Dependants]:
    """Count what is deleted with rows of one model; what stays is not among it."""
    hanging: dict[Any, Q] = {}
    keys = rows.order_by().values("pk")
    for relation in rows.model._meta.related_objects:
        of_these = Q(**{f"{relation.field.name}__in": keys})
        if relation.on_delete is keep_revoked:
            of_these &= Q(revoked_at=None)
        elif relation.on_delete is not CASCADE:
            continue
        hanging[relation.related_model] = hanging.get(relation.related_model, Q()) | of_these
    counted = (
        Dependants(model, model._default_manager.filter(condition).count())
        for model, condition in hanging.items()
    )
    return [found for found in counted if found.rows]


def links(model: Any) -> set[str]:
    """Return what Django calls the links of rows to others: no rows that anybody knows of."""
    meta = model._meta
    both = [*(one.remote_field for one in meta.many_to_many), *meta.related_objects]
    tables = (one.through._meta for one in both if one.many_to_many)
    return {str(table.verbose_name_plural) for table in tables if table.auto_created}


def undeletable(model: Any) -> set[str]:
    """Name what goes with rows of a model, and has no permission to be deleted by hand."""
    related = (relation.related_model._meta for relation in model._meta.related_objects)
    return {str(meta.verbose_name) for meta in related if not _has_permission(meta)}


def _has_permission(meta: Any) -> bool:
    return "delete" in meta.default_permissions


def is_kept(model: Any) -> bool:
    """Whether staff keep its rows; others, such as deliveries, come and go by themselves."""
    return issubclass(model, Recorded) and _has_permission(model._meta)


def kept_counts(counts: Iterable[tuple[Any, int]]) -> str:
    """Return kinds and numbers of rows that go along, without those that come and go.

    The names that are given are in the reader's language; what is returned is so in none.
    """
    models = {str(one._meta.verbose_name_plural): one for one in apps.get_models() if is_kept(one)}
    found = [(models[str(name)]._meta.label, n) for name, n in counts if str(name) in models]
    return ", ".join(f"{label}: {n}" for label, n in sorted(found))


def not_deletable(found: list[Dependants], user: Any) -> list[str]:
    """Name the dependants that the user may not delete, of those that staff keep.

    A model whose rows nobody deletes by hand has no permission for it, which none could lack:
    its rows go with what they belong to.
    """
    return [
        one.name
        for one in found
        if one.is_kept and not user.has_perm(permission_to("delete", one.model))
    ]
