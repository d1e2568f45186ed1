"""Who changed what, when, from where and why: a row of history beside each change.

`with origin("import", reason=…)` says where the changes within it come from. A save and a delete
record themselves; what Django does in bulk does not, and is done through `bulk_create`,
`bulk_update` and `bulk_delete` of this module instead.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, NamedTuple

from django.apps import apps
from django.db import connection, models, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from simple_history.models import HistoricalRecords

BATCH = 1000  # rows in one statement
MAX_REASON_LENGTH = 255


class Origin(models.TextChoices):
    """From where a change was made."""

    ADMIN = "admin", _("Admin")
    COMMAND = "command", _("Command")
    IMPORT = "import", _("Import")
    SHELL = "shell", _("Shell or script")


class Kind(models.TextChoices):
    """What a change did to its row."""

    CREATED = "+", _("Created")
    CHANGED = "~", _("Changed")
    DELETED = "-", _("Deleted")


# --- Where changes come from ----------------------------------------------------------------


class Source(NamedTuple):
    """Where changes come from, who makes them (an account or a name) and why."""

    origin: Origin = Origin.SHELL
    user: object = ""
    reason: str = ""


_source: ContextVar[Source] = ContextVar("source", default=Source())  # noqa: B039 (immutable)


@contextmanager
def origin(name: str, *, user: object = None, reason: str = "") -> Iterator[None]:
    """Say where the changes within come from; what is not given stays as it is around it.

    `user` is a name or an account, which is asked for its name when a change is written. Raises
    ValueError where `name` is no Origin.
    """
    around = _source.get()
    token = _source.set(
        Source(
            Origin(name),
            around.user if user is None else user,
            reason[:MAX_REASON_LENGTH] or around.reason,
        )
    )
    try:
        yield
    finally:
        _source.reset(token)


def current_origin() -> str:
    """Return where a change made now comes from. Migrations name this function."""
    return _source.get().origin.value


def current_user(**_hints: Any) -> str:
    """Return the name of who makes changes now; empty where nobody is known."""
    user = _source.get().user
    return str(user) if getattr(user, "is_authenticated", True) else ""


# --- What is recorded -----------------------------------------------------------------------


class Change(models.Model):
    """A row as one change left it, or as it was when it was deleted."""

    origin = models.CharField(
        _("from"), max_length=16, choices=Origin, default=current_origin, editable=False
    )

    is_link = False  # whether it is of two rows that came together or parted, and of none itself
    owners: tuple[str, ...] = ()  # foreign keys to rows on whose pages the change is shown, too

    class Meta:
        abstract = True


class Recorded(models.Model):
    """A row whose changes are recorded: it and its history are saved together or not at all."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save within a transaction."""
        with transaction.atomic():
            super().save(*args, **kwargs)


class Records(HistoricalRecords):
    """Has a model's changes recorded in a table of its own.

    `without` names the fields that are left out: secrets and what is made of them, evidence that
    machines leave, and what the database computes. `owner` names the foreign key to the row on
    whose page these changes are shown, too.
    """

    def __init__(self, *, without: Collection[str] = (), owner: str = "") -> None:
        self._owner = owner
        super().__init__(
            bases=(Change,),
            excluded_fields=list(without),
            history_id_field=models.BigAutoField(),
            history_change_reason_field=models.CharField(
                max_length=MAX_REASON_LENGTH, blank=True, default=""
            ),
            history_user_id_field=models.CharField(max_length=150, blank=True, default=""),
            history_user_getter=lambda change: change.history_user_id,
            history_user_setter=_name_user,
            get_user=current_user,
        )

    def copy_fields(self, model: type[models.Model]) -> dict[str, Any]:
        """Copy the model's fields without their indexes: history is not looked up by them."""
        fields: dict[str, Any] = super().copy_fields(model)
        for field in fields.values():
            field.db_index = False
        return fields

    def get_meta_options(self, model: type[models.Model]) -> dict[str, Any]:
        """Return the table's options: the indexes of the pages that show it, the known origins."""
        rows = [model._meta.pk.name, *([self._owner] if self._owner else [])]
        known = models.CheckConstraint(
            condition=Q(origin__in=["admin", "command", "import", "shell"]),
            name=f"{model._meta.app_label}_{model._meta.model_name}_history_origin_known",
        )
        options: dict[str, Any] = super().get_meta_options(model)
        return {**options, "indexes": indexes_of(*rows), "constraints": [known]}

    def get_extra_fields(self, model: type[models.Model], fields: Any) -> dict[str, Any]:
        """Return what a table of history has besides the model's fields."""
        extra: dict[str, Any] = super().get_extra_fields(model, fields)
        return {**extra, "owners": (self._owner,) if self._owner else ()}

    def get_change_reason_for_object(self, *_of: object) -> str:
        """Return why changes are made now."""
        return _source.get().reason

    def post_delete(self, instance: models.Model, **kwargs: Any) -> None:
        """Record a deletion, unless `bulk_delete` has done so."""
        if type(instance) not in _deleting.get():
            super().post_delete(instance, **kwargs)


def _name_user(change: Any, user: object) -> None:
    change.history_user_id = user or ""


def indexes_of(*rows: str) -> list[models.Index]:
    """Return the indexes of a history that is read by these columns, by user and by time."""
    return [
        *(models.Index(fields=[row, "history_id"]) for row in rows),
        models.Index(fields=["history_date", "history_id"]),
        models.Index(fields=["history_user_id", "history_date", "history_id"]),
    ]


# --- Bulk -----------------------------------------------------------------------------------

_deleting: ContextVar[frozenset[type[models.Model]]] = ContextVar("deleting", default=frozenset())


def history_of(model: type[models.Model]) -> Any:
    """Return the model of a model's history. Raises LookupError where none is kept."""
    for historical in all_histories():
        if historical.instance_type is model:
            return historical
    raise LookupError(f"no history is kept of {model._meta.label}")


def all_histories() -> list[Any]:
    """Return the models of all histories, in the order of their names."""
    found = [model for model in apps.get_models() if issubclass(model, Change)]
    return sorted(found, key=lambda model: model._meta.label)


def _circumstances(kind: str) -> dict[str, Any]:
    """Return what all rows of the history say of a change that is made now."""
    return {
        "history_date": timezone.now(),
        "history_type": Kind(kind).value,
        "history_user_id": current_user(),
        "history_change_reason": _source.get().reason,
        "origin": current_origin(),
    }


def record(rows: Sequence[models.Model], kind: str) -> None:
    """Record what was done to rows of one model, BATCH rows a statement."""
    if not rows:
        return
    historical = history_of(type(rows[0]))
    names = [field.attname for field in historical.tracked_fields]
    common = _circumstances(kind)
    historical.objects.bulk_create(
        (historical(**common, **{name: getattr(row, name) for name in names}) for row in rows),
        batch_size=BATCH,
    )


def record_stored(rows: Sequence[models.Model], kind: str) -> None:
    """Record what was done to rows of one model as the database has them, BATCH rows a statement.

    The database copies them itself, which costs a tenth of `record`.
    """
    if not rows:
        return
    model = type(rows[0])
    historical = history_of(model)
    names = [field.attname for field in historical.tracked_fields]
    common = _circumstances(kind)
    meta, quote = historical._meta, connection.ops.quote_name
    columns = ", ".join(quote(meta.get_field(name).column) for name in (*names, *common))
    values = [
        models.Value(value, output_field=meta.get_field(name)) for name, value in common.items()
    ]
    for start in range(0, len(rows), BATCH):
        keys = [row.pk for row in rows[start : start + BATCH]]
        stored = model._default_manager.order_by().filter(pk__in=keys).values_list(*names, *values)
        select, parameters = stored.query.sql_with_params()
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {quote(meta.db_table)} ({columns}) {select}",
                parameters,
            )


def bulk_create(rows: Sequence[models.Model]) -> None:
    """Create rows of one model with their history; they get their primary keys."""
    if rows:
        with transaction.atomic():
            type(rows[0])._default_manager.bulk_create(rows, batch_size=BATCH)
            record_stored(rows, Kind.CREATED)


def bulk_update(rows: Sequence[models.Model], fields: Collection[str]) -> None:
    """Write these fields of rows of one model, with their history."""
    if rows:
        with transaction.atomic():
            type(rows[0])._default_manager.bulk_update(rows, fields, batch_size=BATCH)
            record(rows, Kind.CHANGED)


def bulk_delete(rows: Sequence[models.Model]) -> None:
    """Delete rows of one model, and what hangs on them, with their history."""
    if not rows:
        return
    model = type(rows[0])
    token = _deleting.set(_deleting.get() | {model})
    try:
        with transaction.atomic():
            record(rows, Kind.DELETED)
            for start in range(0, len(rows), BATCH):
                keys = [row.pk for row in rows[start : start + BATCH]]
                model._default_manager.filter(pk__in=keys).delete()
    finally:
        _deleting.reset(token)


def count_before(moment: datetime) -> dict[str, int]:
    """Return how many changes of which model were made before a moment."""
    return {
        historical.instance_type._meta.label_lower: _before(historical, moment).count()
        for historical in all_histories()
    }


def prune(moment: datetime) -> dict[str, int]:
    """Delete the changes that were made before a moment; return how many of which model."""
    gone = {}
    for historical in all_histories():
        deleted = 0
        oldest = _before(historical, moment).order_by("history_date")
        while keys := list(oldest.values_list("history_id", flat=True)[:BATCH]):
            deleted += historical.objects.filter(history_id__in=keys).delete()[0]
        gone[historical.instance_type._meta.label_lower] = deleted
    return gone


def _before(historical: Any, moment: datetime) -> "models.QuerySet[Any]":
    return historical.objects.filter(history_date__lt=moment)  # type: ignore[no-any-return]
