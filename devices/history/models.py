"""The tables of history: a row beside each change of a row; which there are, and for whom."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, reduce
from operator import or_
from types import MappingProxyType
from typing import Any, ClassVar, Self

from django.apps import apps
from django.contrib.auth import get_permission_codename
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from simple_history.models import HistoricalRecords

from devices.database.batches import batched
from devices.database.conflicts import Gone
from devices.database.turns import MAX_KEYS, before_locks
from devices.history.context import (
    MAX_REASON_LENGTH,
    Origin,
    current_batch,
    current_origin,
    current_reason,
    current_request,
    current_user,
)
from devices.telemetry import MAX_REQUEST_ID_LENGTH
from devices.values.text import MAX_TEXT_LENGTH, hidden_in, refusal, too_long, unstorable_in

# Models whose deletions are being recorded in bulk, and not row by row.
bulk_deleted: ContextVar[frozenset[type[models.Model]]] = ContextVar(
    "bulk_deleted", default=frozenset()
)

# What is stored of rows that are being checked, by model and primary key.
_stored: ContextVar[Mapping[tuple[type[models.Model], Any], Mapping[str, Any]]] = ContextVar(
    "stored", default=MappingProxyType({})
)


class ChangeType(models.TextChoices):
    CREATED = "+", _("Created")
    CHANGED = "~", _("Changed")
    DELETED = "-", _("Deleted")
    TRIED = "?", _("Tried")  # and left as it was


class Change(models.Model):
    """A row as one change left it, or as it was when it was deleted."""

    origin = models.CharField(
        _("from"), max_length=16, choices=Origin, default=current_origin, editable=False
    )
    batch = models.UUIDField(_("batch"), null=True, default=current_batch, editable=False)

    request = models.CharField(
        _("request"),
        max_length=MAX_REQUEST_ID_LENGTH,
        default=current_request,
        db_default="",
        editable=False,
    )

    is_link = False  # whether it is of two rows that came together or parted, and of none itself
    owners: tuple[str, ...] = ()  # foreign keys to rows on whose pages the change is shown, too

    class Meta:
        abstract = True


class Recorded(models.Model):
    """A row that staff keep: it and its history are saved together or not at all."""

    # What may be written for many rows at once, since nothing but its own column must hold.
    bulk_fields: ClassVar[Collection[str]] = ()
    # What may be set back to what it said before. Credentials have none: what was revoked stays so.
    restored_fields: ClassVar[Sequence[str]] = ()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save; a row that is saved in some fields says when, too, where it has `updated`."""
        if (fields := kwargs.get("update_fields")) is not None:
            columns = {field.name for field in self._meta.concrete_fields}
            kwargs["update_fields"] = {*fields, *columns & {"updated"}}
        with transaction.atomic():
            super().save(*args, **kwargs)

    def hold(self, *others: str) -> None:
        """Lock the row until the transaction ends, and read what its history keeps of it again.

        Others may have changed it since it was read, and the history of the next change records
        all of it. `others` names fields that are read besides. Raises Gone where the row was
        deleted.
        """
        before_locks(type(self))
        rows = type(self)._default_manager.select_for_update(of=("self",), no_key=True).order_by()
        kept = [field.name for field in history_of(type(self)).tracked_fields]
        try:
            self.refresh_from_db(fields=[*kept, *others], from_queryset=rows)
        except type(self).DoesNotExist as error:
            raise Gone from error

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Delete the row, and what goes with it as others leave it."""
        with transaction.atomic():
            hold_dependants(type(self), [self.pk])
            return super().delete(*args, **kwargs)

    @classmethod
    @contextmanager
    def checking_many(cls, rows: Iterable[Self]) -> Iterator[None]:
        """Check rows within it with a few statements in all: what they say now is what is stored.

        A row keeps what it holds already, though it would be refused from now on; without this
        each row that is refused is asked for what is stored.
        """
        token = _stored.set({(cls, row.pk): dict(vars(row)) for row in rows})
        try:
            yield
        finally:
            _stored.reset(token)

    def stored_value(self, field: str) -> Any:
        """Return what is stored of a field; None where the row is new."""
        noted = _stored.get().get((type(self), self.pk))
        if noted is not None and field in noted:
            return noted[field]
        rows = type(self)._default_manager.order_by().filter(pk=self.pk)
        return rows.values_list(field, flat=True).first()

    @classmethod
    def misfits(cls, _rows: Sequence[Self]) -> Mapping[Self, ValidationError]:
        """Return which rows would make no sense if all of these were saved, and why."""
        return {}

    @classmethod
    def set_back(cls, rows: Sequence[Any]) -> None:
        """Do what must follow where rows were set back to what they said before."""

    def event_verb(self, change_type: ChangeType, before: Mapping[str, Any] | None) -> str:
        """Return what happened to the row, as the verb of the event's kind.

        `before` holds the recorded fields as the last change left them, None where none is kept.
        """
        return change_type.name.lower()

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        """Refuse, in what staff write, characters that nobody sees or no database stores.

        And a name of spaces, and what is too long to be imported again. What a row holds already
        stays as it is.
        """
        super().clean_fields(exclude=exclude)
        errors: dict[str, ValidationError] = {}
        for field in self._meta.concrete_fields:
            if not (field.editable and isinstance(field, models.CharField | models.TextField)):
                continue
            written = getattr(self, field.attname)
            if field.name in (exclude or ()) or not isinstance(written, str):
                continue
            is_empty = written and not written.strip() and not field.blank
            find = hidden_in if isinstance(field, models.CharField) else unstorable_in
            if is_empty:
                error = ValidationError(field.error_messages["blank"], code="blank")
            elif len(written) > MAX_TEXT_LENGTH:
                error = too_long(len(written))
            elif char := find(written):
                error = refusal(char)
            else:
                continue
            is_storable = self.pk is not None and unstorable_in(written) is None
            if not (is_storable and self.stored_value(field.name) == written):
                errors[field.name] = error
        if errors:
            raise ValidationError(errors)

    def validate_constraints(self, exclude: Collection[str] | None = None) -> None:
        """Say at its field that another row has a value; Django says it of the row as a whole."""
        try:
            super().validate_constraints(exclude)
        except ValidationError as error:
            unique = {
                str(one.violation_error_message): one.fields[0]
                for one in self._meta.constraints
                if isinstance(one, models.UniqueConstraint) and len(one.fields) == 1
            }
            placed: dict[str, list[ValidationError]] = {}
            for name, found in error.error_dict.items():
                for one in found:
                    field = unique.get(one.messages[0])
                    if field and not one.code:
                        one.code = "unique"
                    placed.setdefault(field or name, []).append(one)
            raise ValidationError(placed) from None


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
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        known = models.CheckConstraint(
            condition=Q(origin__in=Origin.values),
            name=f"{name}_history_origin_known",
        )
        options: dict[str, Any] = super().get_meta_options(model)
        indexes = [*indexes_of(*rows), index_of_batches(name)]
        return {**options, "indexes": indexes, "constraints": [known]}

    def get_extra_fields(self, model: type[models.Model], fields: Any) -> dict[str, Any]:
        extra: dict[str, Any] = super().get_extra_fields(model, fields)
        # The library names the app, as if that held it: `manage.py shell` would not find it there.
        own = {"__module__": model.__module__, "owners": (self._owner,) if self._owner else ()}
        return {**extra, **own}

    def get_change_reason_for_object(self, *_of: object) -> str:
        return current_reason()

    def post_delete(self, instance: models.Model, **kwargs: Any) -> None:
        """Record a deletion, unless `bulk_delete` has done so."""
        if type(instance) not in bulk_deleted.get():
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


def index_of_batches(name: str) -> models.Index:
    """Return the index by which the changes of a batch are found, and its last one."""
    return models.Index(
        fields=["batch", "history_id"],
        condition=Q(batch__isnull=False),
        name=f"{name[:24]}_batch",  # the longest name that Django allows has 30 characters
    )


def all_histories() -> list[Any]:
    """Return the models of all histories, in the order of their names."""
    found = [model for model in apps.get_models() if issubclass(model, Change)]
    return sorted(found, key=lambda model: model._meta.label)


@cache
def _histories() -> dict[type[models.Model], Any]:
    return {historical.instance_type: historical for historical in all_histories()}


def history_of(model: type[models.Model]) -> Any:
    """Return the model of a model's history. Raises KeyError where none is kept."""
    return _histories()[model]


def keeps_history(model: type[models.Model]) -> bool:
    """Whether changes of a model's rows are recorded; those of accounts are not."""
    return model in _histories()


def hold_dependants(model: Any, keys: Collection[Any]) -> None:
    """Lock what goes with rows that are about to be deleted, and has a history.

    Django finds it first and deletes it later, and what it found is recorded: what others deleted
    meanwhile would be so twice, and a certificate that others revoked would be deleted. All who
    delete lock the models in one order, and the rows of each in that of their keys.
    """
    fields: dict[Any, list[str]] = {}
    for relation in model._meta.get_fields(include_hidden=True):
        if not ((relation.one_to_many or relation.one_to_one) and relation.auto_created):
            continue
        stays = relation.on_delete in (models.PROTECT, models.DO_NOTHING)
        if not stays and keeps_history(relation.related_model):
            fields.setdefault(relation.related_model, []).append(f"{relation.field.name}__in")
    for batch in batched(sorted(keys), MAX_KEYS):
        for other in sorted(fields, key=lambda one: one._meta.label):
            of_these = reduce(or_, (Q((name, batch)) for name in fields[other]))
            rows = other._default_manager.select_for_update(of=("self",)).filter(of_these)
            list(rows.order_by("pk").values_list("pk"))


def permission_to(verb: str, model: Any) -> str:
    """Return the name of the permission to view, add, change or delete rows of a model."""
    return f"{model._meta.app_label}.{get_permission_codename(verb, model._meta)}"


def visible_to(user: Any) -> list[Any]:
    """Return the histories that somebody may read as a whole."""
    return [one for one in all_histories() if user.has_perm(permission_to("view", one))]
