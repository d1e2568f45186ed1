"""Undoing: back to what a row said, one change of it, or all that was changed together.

Of the latter, each row is as it was before, unless something changed it since. What was created is
deleted, what was changed is set back, memberships come and go. Credentials stay as they are,
whatever a batch did to them: a secret cannot come back, and what was revoked stays so.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction
from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext as _

from devices.database.conflicts import CONFLICT
from devices.database.turns import before_locks, hold
from devices.extension_points import RESTORED_CHECKS
from devices.history import recording
from devices.history.context import because
from devices.history.differences import FieldChange, Names, former_rows
from devices.history.models import (
    ChangeType,
    all_histories,
    history_of,
    keeps_history,
    permission_to,
    visible_to,
)
from devices.history.timeline import CHANGES, noun
from devices.values.text import joined, number_of

MAX_UNDONE = 20_000  # changes of one batch


@dataclass(slots=True)
class Reversal:
    """A row, locked, and what would set it back; `change` is the one that is undone or restored."""

    row: Any
    change: Any
    _target: Any
    fields: list[Any]
    undoes_change: bool

    def reason(self, typed: str) -> str:
        """Return what the history says of it, with what somebody typed as the reason."""
        done = "undid the change" if self.undoes_change else "restored the state"
        return because(f"{done} of {self.change.history_date:%Y-%m-%d %H:%M:%S} UTC", typed)

    def preview(self) -> list[FieldChange]:
        """Return what would change, to be called before `check`."""
        names = Names([self._target, self._now()])
        return [
            FieldChange(
                one.attname,
                str(one.verbose_name),
                names.value(one, getattr(self.row, one.attname)),
                names.value(one, getattr(self._target, one.attname)),
            )
            for one in self.fields
        ]

    def _now(self) -> Any:
        target = self._target
        said = {one.attname: getattr(self.row, one.attname) for one in target.tracked_fields}
        return type(target)(**said)

    def check(self) -> ValidationError | None:
        """Set the fields to what they said; return why the row would not make sense so."""
        for one in self.fields:
            setattr(self.row, one.attname, getattr(self._target, one.attname))
        return _fault(self.row, self._target, self.fields)

    def apply(self) -> None:
        """Save what `check` found nothing against; raises ValidationError where others did."""
        with _refusing_conflicts():
            self.row.save(update_fields=[one.name for one in self.fields])


def reversal_of(model: Any, change_id: int, *, undoes_change: bool) -> Reversal:
    """Return how a row goes back to what it said at a change, or how that change is undone.

    In a transaction: the row is locked. Raises ObjectDoesNotExist where there is no such change, no
    such row any more, or nothing before the change to go back to.
    """
    kept = history_of(model).objects.filter(
        history_type__in=[ChangeType.CREATED, ChangeType.CHANGED]
    )
    change = target = kept.get(history_id=change_id)
    hold(model, [change.id])
    row = model._default_manager.get(pk=change.id)
    fields = [model._meta.get_field(name) for name in model.restored_fields]
    if undoes_change:
        target = kept.filter(id=change.id, history_id__lt=change_id).order_by("-history_id").first()
        if target is None:
            raise model.DoesNotExist
        fields = undone_fields(row, change, target, fields)
    else:
        fields = differing(row, target, fields)
    return Reversal(row, change, target, fields, undoes_change)


def _fault(row: Any, target: Any, fields: Iterable[Any]) -> ValidationError | None:
    """Return why a row would not make sense with what these fields say of it now, as `target`."""
    try:
        _check_there(row, target, fields)
        row.full_clean()
        if check := RESTORED_CHECKS.get(type(row)):
            check(row)
    except ValidationError as error:
        return error
    return None


def _check_there(row: Any, target: Any, fields: Iterable[Any]) -> None:
    """Raise ValidationError where what these fields refer to is not there any more."""
    for one in fields:
        pk = getattr(row, one.attname)
        if not one.is_relation or pk is None:
            continue
        if not one.related_model._default_manager.filter(pk=pk).exists():
            name = Names([target]).value(one, pk)
            text = _("“%(name)s” does not exist any more.") % {"name": name}
            raise ValidationError({one.name: text}, code="gone")


@contextmanager
def _refusing_conflicts() -> Iterator[None]:
    """Raise ValidationError where others saved at this moment what cannot stand beside it."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        raise ValidationError(CONFLICT, code="conflict") from error


def differing(row: Any, other: Any, fields: Iterable[Any]) -> list[Any]:
    """Return the fields of which two rows, or what changes left of one, say different things."""
    return [one for one in fields if getattr(row, one.attname) != getattr(other, one.attname)]


def undone_fields(row: Any, change: Any, before: Any, fields: Sequence[Any]) -> list[Any]:
    """Return the fields that a change changed, and whose values still stand."""
    changed_since = differing(row, change, fields)
    return [one for one in differing(before, change, fields) if one not in changed_since]


def batch_reason(typed: str) -> str:
    """Return what the history says of a batch that is undone, with what somebody typed."""
    return because("undid what was changed together", typed)


class NotUndone(NamedTuple):
    """Rows that an undo leaves as they are, and why.

    Those whose history the account may not read are counted, and have no names.
    """

    why: str
    names: list[str]

    def shown(self, most: int) -> list[str]:
        return [name for name in self.names if name][:most]


class Plan:
    """What undoing a batch would do, as far as an account may; `apply` does it."""

    def __init__(
        self, number: UUID, user: Any, changes: Mapping[Any, list[Any]], *, lock: bool
    ) -> None:
        self.set_back: dict[type[models.Model], list[tuple[Any, Any, list[Any]]]] = {}
        self.deleted: dict[type[models.Model], list[Any]] = {}
        self.leaving: list[Any] = []  # memberships
        self.joining: list[Any] = []
        self._left: dict[str, list[str]] = defaultdict(list)
        self._number, self._user, self._lock = number, user, lock
        self._visible = visible_to(user)
        rows = {one: made for one, made in changes.items() if not one.is_link}
        for historical in rows if lock else ():
            before_locks(historical.instance_type)
        self._created: dict[Any, set[int]] = {
            one.instance_type: {row.id for row in made if row.history_type == ChangeType.CREATED}
            for one, made in rows.items()
        }
        for historical, made in rows.items():
            self._plan_rows(historical, made)
        for historical, made in changes.items():
            if historical.is_link:
                self._plan_links(historical, made)

    @property
    def left(self) -> list[NotUndone]:
        return [NotUndone(*one) for one in self._left.items()]

    @property
    def total(self) -> int:
        return self._rows().total()

    @property
    def digest(self) -> str:
        """SHA-256 of which rows, fields and memberships would change, in hexadecimal."""
        found = [
            *((row, fields) for rows in self.set_back.values() for row, _former, fields in rows),
            *((row, ()) for rows in self.deleted.values() for row in rows),
        ]
        rows = sorted((row._meta.label, row.pk, [one.name for one in of]) for row, of in found)
        links = [
            sorted((one.device_id, one.devicegroup_id) for one in memberships)
            for memberships in (self.leaving, self.joining)
        ]
        return hashlib.sha256(repr((rows, links)).encode()).hexdigest()

    @property
    def what(self) -> str:
        """What `total` counts, such as “1 device, 5 memberships”."""
        rows = self._rows().items()
        return joined(number_of(n, noun(history_of(model), n)) for model, n in rows)

    def _rows(self) -> Counter[Any]:
        found: Counter[Any] = Counter()
        for model, rows in (*self.set_back.items(), *self.deleted.items()):
            found[model] += len(rows)
        found.update(map(type, (*self.leaving, *self.joining)))
        return +found

    def leave(self, name: str, why: str) -> None:
        self._left[why].append(name)

    def _leave(self, names: Names, change: Any, why: str) -> None:
        """Leave the row of a change; tell nothing of one whose history the account may not read."""
        if type(change) in self._visible:
            self.leave(names.subject(change), why)
        else:
            self.leave("", _("Your account may not read their history."))

    def _may(self, verb: str, model: Any) -> bool:
        may: bool = self._user.has_perm(permission_to(verb, model))
        return may and history_of(model) in self._visible

    def _plan_rows(self, historical: Any, changes: Sequence[Any]) -> None:
        """Plan what becomes of the rows of one model."""
        model, names = historical.instance_type, Names(changes)
        first = {change.id: change for change in reversed(changes)}
        last = {change.id: change for change in changes}
        if not getattr(model, "restored_fields", ()):
            for change in last.values():
                if not self._goes_with_owner(historical, change):
                    why = _("Keys, certificates and what belongs to them stay as they are.")
                    self._leave(names, change, why)
            return
        if self._lock:
            hold(model, last)
        stored = model._default_manager.order_by().filter(pk__in=last)
        current = {row.pk: row for row in stored}
        later, needed = _later(historical, last), self._needed(model)
        before = former_rows(first.values())
        for pk, change in last.items():
            row, begun = current.get(pk), first[pk].history_type == ChangeType.CREATED
            fields: list[Any] = []
            if begun and (change.history_type == ChangeType.DELETED or row is None):
                continue  # it is not there, as before
            former = before.get(pk)
            if not begun and _says(row, former, _restorable(change, former)):
                continue  # it is as it was before already
            why = self._why_left(change, row, later, needed if begun else None)
            if not (why or begun):
                why, fields = _fields_to_set_back(row, change, former)
            if why:
                self._leave(names, change, why)
            elif fields:
                self.set_back.setdefault(model, []).append((row, former, fields))
            else:
                self.deleted.setdefault(model, []).append(row)

    def _why_left(
        self, change: Any, row: Any, later: Mapping[int, str], needed: Mapping[int, str] | None
    ) -> str:
        """Return why a row stays as it is; empty where it need not.

        `needed` says why rows that the batch created cannot go; None of one that it changed.
        """
        if change.history_type == ChangeType.DELETED:
            return _("What was deleted is not restored.")
        if row is None:
            return _("It was deleted since.")
        if row.pk in later:
            return _("%(user)s changed it since.") % {"user": later[row.pk] or "—"}
        if needed is not None and row.pk in needed:
            return needed[row.pk]
        if needed is not None and getattr(row, "last_seen", None):
            return _("It has connected since: disable it instead.")
        if not self._may("change" if needed is None else "delete", type(row)):
            return _("Your account may not do this.")
        return ""

    def _goes_with_owner(self, historical: Any, change: Any) -> bool:
        """Whether a credential belongs to a row that the same batch created, and goes with it."""
        owners = [historical._meta.get_field(name) for name in historical.owners]
        return any(
            getattr(change, owner.attname) in self._created.get(owner.related_model, ())
            for owner in owners
        )

    def _needed(self, model: Any) -> dict[int, str]:
        """Return why created rows cannot go: others refer to them, or belonged to them since."""
        found: dict[int, str] = {}
        created = self._created[model]
        if not created:
            return found
        for historical in all_histories():
            owners = [historical._meta.get_field(name) for name in historical.owners]
            for owner in owners if historical.is_link else ():
                if owner.related_model is model:
                    since = historical.objects.filter(**{f"{owner.name}__in": created})
                    since = since.exclude(batch=self._number).order_by()
                    pks = since.values_list(owner.attname, flat=True)
                    found |= dict.fromkeys(pks, _("Its groups or members changed since."))
        for relation in model._meta.related_objects:
            if not relation.one_to_many:
                continue
            other: Any = relation.related_model
            referring = other._default_manager.order_by().filter(
                **{f"{relation.field.name}__in": created}
            )
            what = {"what": other._meta.verbose_name_plural}
            own = self._created.get(other, set())
            changed = self._changed_besides(other, own)
            within: dict[int, int] = {}
            for owner, pk in referring.values_list(relation.field.attname, "pk"):
                if pk not in own:
                    found[owner] = _("Something refers to it since: %(what)s.") % what
                elif pk in changed:
                    found[owner] = _("What belongs to it changed since: %(what)s.") % what
                elif other is model:
                    within[pk] = owner
            while more := {owner for pk, owner in within.items() if pk in found} - found.keys():
                found |= dict.fromkeys(
                    more, _("What belongs to it changed since: %(what)s.") % what
                )
        return found

    def _changed_besides(self, model: Any, keys: set[int]) -> set[int]:
        """Return which of these rows something else than the batch changed, as a revocation."""
        if not keys or not keeps_history(model):
            return set()
        changes = history_of(model).objects.filter(CHANGES, id__in=keys)
        return set(changes.exclude(batch=self._number).order_by().values_list("id", flat=True))

    def _plan_links(self, historical: Any, changes: Sequence[Any]) -> None:
        """Plan which rows part that came together, and the other way round."""
        membership = historical.instance_type
        owner = historical.tracked_fields[0].related_model
        fields = [one.attname for one in historical.tracked_fields]
        pair = attrgetter(*fields)
        names = Names(changes)
        last = {pair(change): change for change in changes}
        if self._lock:  # whoever puts devices into groups locks them, too
            hold(owner, {one[0] for one in last})
        ends = [set(keys) for keys in zip(*last, strict=True)]
        of_these = {f"{name}__in": keys for name, keys in zip(fields, ends, strict=True)}
        linked = membership._default_manager.filter(**of_these)
        if self._lock:  # a group may be deleted at this moment, with who is in it
            linked = linked.select_for_update().order_by("pk")
        there = {pair(row): row for row in linked}
        numbered = historical.objects.filter(**of_these).order_by().values_list(*fields)
        newest = {tuple(row[:-1]): row[-1] for row in numbered.annotate(Max("history_id"))}
        known = [
            set(one.related_model._default_manager.filter(pk__in=ids).values_list("pk", flat=True))
            for one, ids in zip(historical.tracked_fields, ends, strict=True)
        ]
        deleted = {row.pk for row in self.deleted.get(owner, ())}
        for key, change in last.items():
            came = change.history_type == ChangeType.CREATED
            if key[0] in deleted or came != (key in there):
                continue  # it goes with its device, or is as it was before already
            if newest[key] > change.history_id:
                self._leave(names, change, _("It was changed since."))
            elif not self._may("change", owner):
                self._leave(names, change, _("Your account may not do this."))
            elif came:
                self.leaving.append(there[key])
            elif all(one in ids for one, ids in zip(key, known, strict=True)):
                self.joining.append(membership(**dict(zip(fields, key, strict=True))))


def may_undo(user: Any, histories: Iterable[Any]) -> bool:
    """Whether somebody may change rows of these histories; `plan` says what can be undone."""
    visible = visible_to(user)
    models = {
        one.tracked_fields[0].related_model if one.is_link else one.instance_type
        for one in histories
    }
    return any(
        history_of(model) in visible and user.has_perm(permission_to(verb, model))
        for model in models
        for verb in ("change", "delete")
    )


def plan(number: UUID, user: Any, *, lock: bool = False) -> Plan | None:
    """Return what undoing a batch would do; None where it has too many changes, or none.

    With `lock`, nobody changes these rows until the transaction ends.

    Rows that the user may not change or delete, or whose history they may not read, are left. A
    constant number of statements for each model.
    """
    changes: dict[Any, list[Any]] = {}
    for historical in all_histories():
        made = historical.objects.filter(CHANGES, batch=number).order_by("history_id")
        if found := list(made[: MAX_UNDONE + 1]):
            changes[historical] = found
    if not 0 < sum(map(len, changes.values())) <= MAX_UNDONE:
        return None
    return Plan(number, user, changes, lock=lock)


def _fields_to_set_back(row: Any, change: Any, former: Any) -> tuple[str, list[Any]]:
    """Return which fields are set back to what a row said before, or why none can be."""
    if former is None:
        return _("What it said before is not on record any more."), []
    fields = _restorable(change, former)
    return ("", fields) if _says(row, change, fields) else (_("It says something else by now."), [])


def _restorable(change: Any, former: Any) -> list[Any]:
    """Return the fields in which a change differs from a former one, and which are set back."""
    if former is None:
        return []
    restored = change.instance_type.restored_fields
    return differing(change, former, [one for one in change.tracked_fields if one.name in restored])


def _says(row: Any, change: Any, fields: Iterable[Any]) -> bool:
    """Whether a row says in these fields what it said at a change; both must be there."""
    return row is not None and change is not None and not differing(row, change, fields)


def _later(historical: Any, last: Mapping[int, Any]) -> dict[int, str]:
    """Return who changed rows after these changes, by row."""
    newest = dict(
        historical.objects.filter(CHANGES, id__in=last)
        .order_by()
        .values_list("id")
        .annotate(Max("history_id"))
    )
    since = {pk: top for pk, top in newest.items() if top > last[pk].history_id}
    if not since:
        return {}
    rows = historical.objects.filter(pk__in=since.values())
    users = dict(rows.values_list("pk", "history_user_id"))
    return {pk: users[top] for pk, top in since.items()}


def apply(plan_: Plan) -> None:
    """Do what a plan says, in one transaction; rows that make no sense so are left after all.

    Raises ValidationError where others change, at this moment, what it is about.
    """
    with _refusing_conflicts():
        if plan_.leaving:
            membership: Any = type(plan_.leaving[0])
            recording.record(plan_.leaving, ChangeType.DELETED)
            membership.objects.filter(pk__in=[row.pk for row in plan_.leaving]).delete()
        for model, set_back in plan_.set_back.items():
            _set_back(plan_, model, set_back)
        if plan_.joining:
            type(plan_.joining[0])._default_manager.bulk_create(
                plan_.joining, ignore_conflicts=True
            )
            recording.record(plan_.joining, ChangeType.CREATED)
        # What refers to others first.
        for model in sorted(plan_.deleted, key=lambda one: len(one._meta.related_objects)):
            recording.delete_together(model, plan_.deleted[model])


def _set_back(plan_: Plan, model: Any, rows: Iterable[tuple[Any, Any, list[Any]]]) -> None:
    """Write former values: together where nothing but their own columns must hold."""
    together: dict[Any, Any] = {}  # rows, and their places in the plan
    written: set[str] = set()
    columns = {one.name for one in model._meta.concrete_fields}
    with model.checking_many(row for row, _former, _fields in rows):
        for planned in list(rows):
            row, former, fields = planned
            for one in fields:
                setattr(row, one.attname, getattr(former, one.attname))
            names = {one.name for one in fields}
            try:
                if names <= set(model.bulk_fields):
                    _check_there(row, former, fields)
                    own = {one.name for one in fields if not one.is_relation}
                    row.clean_fields(exclude=columns - own)
                    if "updated" in columns:
                        row.updated = timezone.now()
                    together[row] = planned
                    written |= names | (columns & {"updated"})
                    continue
                if (fault := _fault(row, former, fields)) is not None:
                    raise fault
                with _refusing_conflicts():
                    row.save(update_fields=names)
            except ValidationError as error:
                _leave(plan_, planned, error)
    for row, misfit in model.misfits([*together]).items():
        _leave(plan_, together.pop(row), misfit)
    if together:
        recording.bulk_update([*together], written)
        model.set_back([*together])


def _leave(plan_: Plan, planned: tuple[Any, Any, list[Any]], error: ValidationError) -> None:
    """Leave a row, after all, as it is stored."""
    row, model = planned[0], type(planned[0])
    plan_.set_back[model].remove(planned)
    plan_.leave(str(model._default_manager.get(pk=row.pk)), " ".join(error.messages))
