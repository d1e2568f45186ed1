"""Undoing: back to what a row said, one change of it, or all that was changed together.

Of the latter, each row is as it was before, unless something changed it since. What was created is
deleted, what was changed is set back, memberships come and go. Credentials stay as they are,
whatever a batch did to them: a secret cannot come back, and what was revoked stays so.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction
from django.db.models import Max, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from devices.extension_points import RESTORED_CHECKS
from devices.history import recording
from devices.history.differences import FieldChange, Names, former_rows
from devices.history.models import (
    ChangeType,
    all_histories,
    history_of,
    keeps_history,
    visible_to,
)
from devices.history.timeline import CHANGES

MAX_UNDONE = 20_000  # changes of one batch

May = Callable[[str, type[models.Model]], bool]  # "change" or "delete" rows of a model


@dataclass(slots=True)
class WayBack:
    """A row, locked, and what would set it back; `change` is the one that is undone or restored."""

    row: Any
    change: Any
    _target: Any
    fields: list[Any]
    undoes_change: bool

    def reason(self, typed: str) -> str:
        """Return what the history says of it, with what somebody typed as the reason."""
        done = "undid the change" if self.undoes_change else "restored the state"
        return _joined(f"{done} of {self.change.history_date:%Y-%m-%d %H:%M:%S} UTC", typed)

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
        columns = {one.name for one in self.row._meta.concrete_fields}
        names = [one.name for one in self.fields]
        with _told_of_others():
            self.row.save(update_fields=[*names, *columns & {"updated"}])


def way_back(model: Any, change_id: int, *, undoes_change: bool) -> WayBack:
    """Return how a row goes back to what it said at a change, or how that change is undone.

    In a transaction: the row is locked. Raises ObjectDoesNotExist where there is no such change, no
    such row any more, or nothing before the change to go back to.
    """
    kept = history_of(model).objects.filter(
        history_type__in=[ChangeType.CREATED, ChangeType.CHANGED]
    )
    change = target = kept.get(history_id=change_id)
    row = model._default_manager.select_for_update(of=("self",)).get(pk=change.id)
    fields = [model._meta.get_field(name) for name in model.restored_fields]
    if undoes_change:
        target = kept.filter(id=change.id, history_id__lt=change_id).order_by("-history_id").first()
        if target is None:
            raise model.DoesNotExist
        fields = undone_fields(row, change, target, fields)
    else:
        fields = [
            one for one in fields if getattr(row, one.attname) != getattr(target, one.attname)
        ]
    return WayBack(row, change, target, fields, undoes_change)


def _fault(row: Any, target: Any, fields: Iterable[Any]) -> ValidationError | None:
    """Return why a row would not make sense with what these fields say of it now, as `target`."""
    for one in fields:
        pk = getattr(row, one.attname)
        if not one.is_relation or pk is None:
            continue
        if not one.related_model._default_manager.filter(pk=pk).exists():
            name = Names([target]).value(one, pk)
            text = _("“%(name)s” does not exist any more.") % {"name": name}
            return ValidationError({one.name: text}, code="gone")
    try:
        row.full_clean()
        if check := RESTORED_CHECKS.get(type(row)):
            check(row)
    except ValidationError as error:
        return error
    return None


@contextmanager
def _told_of_others() -> Iterator[None]:
    """Raise ValidationError where others saved at this moment what cannot stand beside it."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        text = _("Somebody saved the same at this moment. Nothing was saved: look again.")
        raise ValidationError(text, code="conflict") from error


def undone_fields(row: Any, change: Any, before: Any, fields: Iterable[Any]) -> list[Any]:
    """Return the fields that a change changed, and whose values still stand."""
    return [
        one
        for one in fields
        if getattr(before, one.attname) != getattr(change, one.attname) == getattr(row, one.attname)
    ]


def batch_reason(typed: str) -> str:
    """Return what the history says of a batch that is undone, with what somebody typed."""
    return _joined("undid what was changed together", typed)


def _joined(*parts: str) -> str:
    return ": ".join(filter(None, parts))


@dataclass(slots=True)
class Left:
    """Rows that an undo leaves as they are, and why."""

    why: str
    names: list[str]


@dataclass(slots=True)
class Plan:
    """What undoing a batch would do; `apply` does it."""

    set_back: dict[type[models.Model], list[tuple[Any, Any, list[Any]]]] = field(
        default_factory=dict
    )
    deleted: dict[type[models.Model], list[Any]] = field(default_factory=dict)
    leaving: list[Any] = field(default_factory=list)  # memberships
    joining: list[Any] = field(default_factory=list)
    _left: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def leave(self, name: str, why: str) -> None:
        self._left[why].append(name)

    @property
    def left(self) -> list[Left]:
        return [Left(why, names) for why, names in self._left.items()]

    @property
    def total(self) -> int:
        rows = (*self.set_back.values(), *self.deleted.values(), self.leaving, self.joining)
        return sum(map(len, rows))


def plan(number: UUID, user: Any, *, lock: bool = False) -> Plan | None:
    """Return what undoing a batch would do; None where it has too many changes, or none.

    With `lock`, nobody changes these rows until the transaction ends.

    Rows that the user may not change or delete, or whose history they may not read, are left. A
    constant number of statements for each model.
    """

    def may(verb: str, model: type[models.Model]) -> bool:
        name = f"{model._meta.app_label}.{verb}_{model._meta.model_name}"
        return history_of(model) in visible and user.has_perm(name)

    visible = visible_to(user)
    found = Plan()
    links: dict[Any, list[Any]] = {}
    rows: dict[Any, list[Any]] = {}
    for historical in all_histories():
        changes = list(
            historical.objects.filter(CHANGES, batch=number).order_by("history_id")[
                : MAX_UNDONE + 1
            ]
        )
        if changes:
            (links if historical.is_link else rows)[historical] = changes
    if not (links or rows) or sum(map(len, (*links.values(), *rows.values()))) > MAX_UNDONE:
        return None
    created = {
        historical.instance_type: {
            change.id for change in changes if change.history_type == ChangeType.CREATED
        }
        for historical, changes in rows.items()
    }
    for historical, changes in rows.items():
        _plan_rows(found, historical, changes, created, may, lock=lock)
    for historical, changes in links.items():
        _plan_links(found, historical, changes, may, lock=lock)
    return found


@dataclass(slots=True)
class _Rows:
    """The rows of one model that a batch changed, and what is known of them."""

    model: Any
    first: dict[int, Any]  # changes of the batch, by row
    last: dict[int, Any]
    current: dict[int, Any]
    later: dict[int, str]  # who changed them since
    blocked: dict[int, str]  # why those that the batch created cannot go

    def why_left(self, pk: int, *, begun: bool, may: May) -> str:
        """Return why a row stays as it is; empty where it need not."""
        row = self.current.get(pk)
        if self.last[pk].history_type == ChangeType.DELETED:
            return _("What was deleted is not restored.")
        if row is None:
            return _("It was deleted since.")
        if pk in self.later:
            return _("%(user)s changed it since.") % {"user": self.later[pk] or "—"}
        if begun and pk in self.blocked:
            return self.blocked[pk]
        if begun and getattr(row, "last_seen", None):
            return _("It has connected since: disable it instead.")
        if not may("delete" if begun else "change", self.model):
            return _("Your account may not do this.")
        return ""


def _plan_rows(
    found: Plan,
    historical: Any,
    changes: list[Any],
    created: dict[type[models.Model], set[int]],
    may: May,
    *,
    lock: bool,
) -> None:
    """Add to the plan what becomes of the rows of one model."""
    model = historical.instance_type
    names, allowed = Names(changes), getattr(model, "restored_fields", ())
    first, last = {change.id: change for change in reversed(changes)}, {c.id: c for c in changes}
    if not allowed:
        for change in last.values():
            if not _goes_with(historical, change, created):
                why = _("Keys, certificates and what belongs to them stay as they are.")
                found.leave(names.subject(change), why)
        return
    stored = model._default_manager.order_by().filter(pk__in=last)
    if lock:
        stored = stored.select_for_update(of=("self",))
    rows = _Rows(
        model,
        first,
        last,
        {row.pk: row for row in stored},
        _later(historical, last),
        _dependants(model, created, changes[0].batch) if created[model] else {},
    )
    before = former_rows(first.values())
    deleted: list[Any] = []
    set_back: list[tuple[Any, Any, list[Any]]] = []
    for pk, change in last.items():
        begun = first[pk].history_type == ChangeType.CREATED
        if begun and (change.history_type == ChangeType.DELETED or pk not in rows.current):
            continue  # it is not there, as before
        if why := rows.why_left(pk, begun=begun, may=may):
            found.leave(names.subject(change), why)
        elif begun:
            deleted.append(rows.current[pk])
        else:
            subject = (names.subject(change), rows.current[pk], change, before.get(pk))
            _plan_back(found, set_back, subject, allowed)
    if deleted:
        found.deleted[model] = deleted
    if set_back:
        found.set_back[model] = set_back


def _plan_back(
    found: Plan,
    set_back: list[tuple[Any, Any, list[Any]]],
    changed: tuple[str, Any, Any, Any],
    allowed: Sequence[str],
) -> None:
    name, row, change, former = changed
    if former is None:
        found.leave(name, _("What it said before is not on record any more."))
        return
    fields = [
        one
        for one in change.tracked_fields
        if one.name in allowed and getattr(former, one.attname) != getattr(change, one.attname)
    ]
    if any(getattr(row, one.attname) != getattr(change, one.attname) for one in fields):
        found.leave(name, _("It says something else by now."))
    elif fields:
        set_back.append((row, former, fields))


def _goes_with(historical: Any, change: Any, created: dict[Any, set[int]]) -> bool:
    """Whether a credential belongs to a row that the same batch created, and goes with it."""
    return any(
        getattr(change, historical._meta.get_field(owner).attname)
        in created.get(historical._meta.get_field(owner).related_model, ())
        for owner in historical.owners
    )


def _later(historical: Any, last: dict[int, Any]) -> dict[int, str]:
    """Return who changed rows after these changes, by row."""
    newest = dict(
        historical.objects.filter(CHANGES, id__in=last)
        .order_by()
        .values_list("id")
        .annotate(Max("history_id"))
    )
    since = {pk: top for pk, top in newest.items() if top > last[pk].history_id}
    users = dict(
        historical.objects.filter(pk__in=since.values()).values_list("pk", "history_user_id")
        if since
        else ()
    )
    return {pk: users[top] for pk, top in since.items()}


def _dependants(
    model: Any, created: dict[type[models.Model], set[int]], number: UUID
) -> dict[int, str]:
    """Return which created rows others refer to that the batch did not create, or not alone."""
    found: dict[int, str] = {}
    for historical in all_histories():
        owners = [historical._meta.get_field(name) for name in historical.owners]
        for owner in owners if historical.is_link else ():
            if owner.related_model is model:
                since = historical.objects.filter(**{f"{owner.name}__in": created[model]})
                pks = since.exclude(batch=number).order_by().values_list(owner.attname, flat=True)
                found |= dict.fromkeys(pks, _("Its groups or members changed since."))
    for relation in model._meta.related_objects:
        if not relation.one_to_many:
            continue
        other: Any = relation.related_model
        referring = other._default_manager.order_by().filter(
            **{f"{relation.field.name}__in": created[model]}
        )
        what = {"what": other._meta.verbose_name_plural}
        own = created.get(other, set())
        changed = _changed_besides(other, own, number)
        within: dict[int, int] = {}
        for owner, pk in referring.values_list(relation.field.attname, "pk"):
            if pk not in own:
                found[owner] = _("Something refers to it since: %(what)s.") % what
            elif pk in changed:
                found[owner] = _("What belongs to it changed since: %(what)s.") % what
            elif other is model:
                within[pk] = owner
        while more := {owner for pk, owner in within.items() if pk in found} - found.keys():
            found |= dict.fromkeys(more, _("What belongs to it changed since: %(what)s.") % what)
    return found


def _changed_besides(model: Any, keys: set[int], number: UUID) -> set[int]:
    """Return which of these rows something else than the batch changed, such as a revocation."""
    if not keys or not keeps_history(model):
        return set()
    changes = history_of(model).objects.filter(CHANGES, id__in=keys).exclude(batch=number)
    return set(changes.order_by().values_list("id", flat=True))


def _plan_links(found: Plan, historical: Any, changes: list[Any], may: May, *, lock: bool) -> None:
    """Add to the plan which rows part that came together, and the other way round."""
    membership = historical.instance_type
    owner = historical.tracked_fields[0].related_model
    fields = [one.attname for one in historical.tracked_fields]

    def pair(row: Any) -> tuple[int, ...]:
        return tuple(getattr(row, name) for name in fields)

    names = Names(changes)
    last = {pair(change): change for change in changes}
    if lock:  # whoever puts devices into groups locks them, too
        owners = owner._default_manager.select_for_update(of=("self",), no_key=True)
        list(owners.filter(pk__in={one[0] for one in last}).order_by("pk").values_list("pk"))
    keys = Q(**{f"{fields[0]}__in": {one[0] for one in last}})
    keys &= Q(**{f"{fields[1]}__in": {one[1] for one in last}})
    there = {pair(row): row for row in membership._default_manager.filter(keys)}
    newest = {
        tuple(row[:-1]): row[-1]
        for row in historical.objects.filter(keys)
        .order_by()
        .values_list(*fields)
        .annotate(Max("history_id"))
    }
    known = [
        set(one.related_model._default_manager.filter(pk__in=ids).values_list("pk", flat=True))
        for one, ids in zip(historical.tracked_fields, zip(*last, strict=True), strict=True)
    ]
    gone = {row.pk for rows in found.deleted.values() for row in rows}
    deleted = {row.pk for row in found.deleted.get(owner, ())} if gone else set()
    for key, change in last.items():
        came = change.history_type == ChangeType.CREATED
        if key[0] in deleted or came != (key in there):
            continue  # it goes with its device, or is as it was before already
        if newest[key] > change.history_id:
            found.leave(names.subject(change), _("It was changed since."))
        elif not may("change", owner):
            found.leave(names.subject(change), _("Your account may not do this."))
        elif came:
            found.leaving.append(there[key])
        elif all(one in ids for one, ids in zip(key, known, strict=True)):
            found.joining.append(membership(**dict(zip(fields, key, strict=True))))


def apply(plan_: Plan) -> None:
    """Do what a plan says, in one transaction; rows that make no sense so are left after all.

    Raises ValidationError where others change, at this moment, what it is about.
    """
    with _told_of_others():
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
        for model, rows in sorted(plan_.deleted.items(), key=lambda one: _rank(one[0])):
            getattr(model, "delete_created", recording.bulk_delete)(rows)


def _rank(model: type[models.Model]) -> int:
    """Return where the model comes in deletions: what refers to others first."""
    relations = [one for one in model._meta.get_fields() if one.one_to_many or one.many_to_many]
    return len(relations)


def _set_back(plan_: Plan, model: Any, rows: Iterable[tuple[Any, Any, list[Any]]]) -> None:
    """Write former values: together where nothing but their own columns must hold."""
    together: list[Any] = []
    written: set[str] = set()
    columns = {one.name for one in model._meta.concrete_fields}
    with model.checking_many():
        for row, former, fields in list(rows):
            for one in fields:
                setattr(row, one.attname, getattr(former, one.attname))
            names = {one.name for one in fields}
            try:
                if names <= set(model.bulk_fields):
                    row.clean_fields(exclude=columns - names)
                    if "updated" in columns:
                        row.updated = timezone.now()
                    together.append(row)
                    written |= names | (columns & {"updated"})
                    continue
                if (fault := _fault(row, former, fields)) is not None:
                    raise fault
                with _told_of_others():
                    row.save(update_fields=names | (columns & {"updated"}))
            except ValidationError as error:
                plan_.set_back[model].remove((row, former, fields))
                plan_.leave(str(model._default_manager.get(pk=row.pk)), " ".join(error.messages))
    if together:
        recording.bulk_update(together, written)
        model.set_back(together)
