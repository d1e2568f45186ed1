"""The histories of all models, read as one: what changed, latest first, field by field."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from typing import Any, NamedTuple
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.db import connection, models
from django.db.models import Q

from devices.history.context import Origin
from devices.history.differences import FieldChange, Names, changes_before, differences
from devices.history.models import ChangeType, all_histories, visible_to
from devices.values.moments import parse_moment
from devices.values.text import count_text, number_of

PER_PAGE = 50
LATEST_FIRST = ("-history_date", "-history_id")
MAX_INLINE = 10  # changes of a batch that are shown with it; of more, a page of its own shows them
MAX_COUNTED = 1_000  # changes of a batch in one history, where it is one entry among others
MAX_ROUNDS = 10  # of reading on below large batches: a page that needs more of them is shorter
CHANGES = ~Q(history_type=ChangeType.TRIED)  # and not what left its row as it was


class Counted(NamedTuple):
    """How many changes of one sort a batch has in a history, at least where `is_cut`."""

    kind: ChangeType
    what: str
    n: int
    is_cut: bool
    historical: Any

    @property
    def shown(self) -> str:
        return number_of(count_text(self.n, is_cut=self.is_cut), self.what)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one request, command or import changed at once, as far as somebody may read it."""

    number: UUID
    counts: list[Counted]
    parts: list["Entry"]  # where they are few

    @property
    def total(self) -> int:
        return sum(one.n for one in self.counts)

    @property
    def shown(self) -> str:
        """The number of changes, as far as they were counted."""
        return total_text(self.counts)


@dataclass(frozen=True, slots=True)
class Entry:
    """A change, ready to be shown, or the last one of a batch.

    `fields` is empty where nothing that is recorded differs; `before` is the change before it of
    the same row.
    """

    change: Any
    subject: str
    fields: list[FieldChange]
    before: Any = None
    batch: Batch | None = None

    @property
    def model(self) -> type[models.Model]:
        model: type[models.Model] = self.change.instance_type
        return model

    @property
    def kind(self) -> ChangeType:
        return ChangeType(self.change.history_type)

    @property
    def origin(self) -> Origin:
        return Origin(self.change.origin)

    @property
    def what(self) -> str:
        return noun(type(self.change), 1)

    @property
    def row(self) -> int | None:
        """The primary key of the row that was changed; None where two rows came together."""
        return None if self.change.is_link else self.change.id

    @property
    def page(self) -> tuple[type[models.Model], int]:
        """The model and the primary key of the row on whose page the change belongs."""
        if not self.change.is_link:
            return self.model, self.change.id
        device: Any = self.change._meta.get_field("device")
        return device.related_model, self.change.device_id


class Cursor(NamedTuple):
    """The last change of a page: what comes after it is older."""

    moment: datetime
    table: str
    number: int

    def __str__(self) -> str:
        return f"{self.moment.isoformat()}|{self.table}|{self.number}"

    @classmethod
    def read(cls, text: str) -> "Cursor | None":
        """Return the cursor that a text says, or None where it says none."""
        moment, _bar, rest = text.partition("|")
        table, _bar, number = rest.partition("|")
        parsed = parse_moment(moment)
        if parsed is None or not re.fullmatch("[0-9]{1,18}", number):
            return None
        return cls(parsed, table, int(number))

    @classmethod
    def at(cls, change: Any) -> "Cursor":
        """Return the cursor of a page that ends with a change."""
        return cls(change.history_date, change._meta.label, change.history_id)

    @property
    def order(self) -> tuple[float, str, int]:
        """What changes are sorted by, the latest first."""
        return -self.moment.timestamp(), self.table, -self.number

    def precedes(self, change: Any) -> bool:
        """Whether a change comes after this one, and is older."""
        return Cursor.at(change).order > self.order

    def before(self, table: str) -> Q:
        """Return the condition that a change of a table comes after this one, and is older."""
        if table == self.table:
            older = Q(history_date__lt=self.moment) | Q(history_id__lt=self.number)
            return Q(history_date__lte=self.moment) & older  # so that an index begins there
        if table > self.table:
            return Q(history_date__lte=self.moment)
        return Q(history_date__lt=self.moment)


class Page(NamedTuple):
    """Some changes, and where the older ones begin; None where there are none."""

    entries: list[Entry]
    older: Cursor | None


def recent(limit: int, user: AbstractUser) -> list[Entry]:
    """Return the last changes among those that somebody may read; tries are none."""
    where = dict.fromkeys(visible_to(user), CHANGES)
    return latest(where, limit, in_batches=True).entries


def of(row_model: type[models.Model], pk: int) -> dict[Any, Q]:
    """Return the histories about a row, each under its condition: its own, and its parts'."""
    found: dict[Any, Q] = {}
    for historical in all_histories():
        if historical.instance_type is row_model:
            found[historical] = Q(id=pk)
            continue
        for owner in historical.owners:
            if historical._meta.get_field(owner).related_model is row_model:
                found[historical] = Q(**{owner: pk})
    return found


def latest(
    where: Mapping[Any, Q],
    limit: int = PER_PAGE,
    after: Cursor | None = None,
    *,
    in_batches: bool = False,
    of_batch: bool = False,
) -> Page:
    """Return the latest changes of some histories, each under its condition.

    With `in_batches`, what was changed together is one entry, and a page of large batches has fewer
    than `limit`. One statement a history, read backwards along an index; one more for each batch
    that fills a page; a few more for what they refer to, however many changes there are. `of_batch`
    says that all are of one batch.
    """
    end: Cursor | None = None
    if in_batches:
        found, end = _newest_of_batches(where, limit, after)
    else:
        # The changes of one batch are found by its index, in which their numbers follow.
        order = LATEST_FIRST[1:] if of_batch else LATEST_FIRST
        found = [
            row
            for historical, condition in where.items()
            for row in _newest_first(historical, condition, after, order)[: limit + 1]
        ]
    found = _first_of_batches(_in_order(found)) if in_batches else _in_order(found)
    if end is not None:
        found = [change for change in found if not end.precedes(change)]
    shown = found[:limit]
    older = Cursor.at(shown[-1]) if len(found) > limit else end
    entries = entries_of(shown)
    return Page(_with_batches(where, entries) if in_batches else entries, older)


def _newest_first(
    historical: Any, condition: Q, after: Cursor | None, order: Sequence[str] = LATEST_FIRST
) -> models.QuerySet[Any]:
    rows: models.QuerySet[Any] = historical.objects.filter(condition)
    if after is not None:
        rows = rows.filter(after.before(historical._meta.label))
    return rows.order_by(*order)


def _in_order(changes: Iterable[Any]) -> list[Any]:
    return sorted(changes, key=lambda change: Cursor.at(change).order)


def _newest_of_batches(
    where: Mapping[Any, Q], limit: int, after: Cursor | None
) -> tuple[list[Any], Cursor | None]:
    """Return the latest changes of each history, of a batch the newest one alone.

    Where a large batch fills what was read, reading goes on below it without its rows: a condition
    that asks of each row whether its batch has a newer one takes seconds with thousands of rows.
    It ends where the page is full of newer ones, and after MAX_ROUNDS: then return how far all
    histories were read, too.
    """
    kept: dict[Any, list[Any]] = {historical: [] for historical in where}
    passed: dict[Any, set[UUID]] = {historical: set() for historical in where}
    earlier: set[UUID] = set()  # batches that stand on a page before
    waiting = {
        historical: _newest_first(historical, condition, after)
        for historical, condition in where.items()
    }
    ends: list[Cursor] = []
    for number in count(1):
        if not waiting:
            break
        pages = {historical: list(rows[: limit + 1]) for historical, rows in waiting.items()}
        numbers = {row.batch for page in pages.values() for row in page} - {None}
        if after is not None:
            earlier |= _standing_before(where, numbers.difference(*passed.values()), after)
        for historical, page in pages.items():
            known = passed[historical] | earlier
            for row in page:
                if row.batch is None or row.batch not in known:
                    kept[historical].append(row)
                    known.add(row.batch)
            passed[historical] = known - {None}
        newest = _first_of_batches(_in_order(row for rows in kept.values() for row in rows))
        for historical, page in pages.items():
            last = Cursor.at(page[-1]) if len(page) > limit else None
            if last is None or not all(map(last.precedes, newest[limit : limit + 1])):
                del waiting[historical]  # it has no more, or none that the page would show
                continue
            if number >= MAX_ROUNDS and kept[historical]:
                ends.append(last)
                del waiting[historical]
                continue
            rows = _newest_first(historical, where[historical], last)
            waiting[historical] = rows.exclude(batch__in=passed[historical])
    found = [row for rows in kept.values() for row in rows]
    return found, min(ends, key=lambda end: end.order, default=None)


def _standing_before(where: Mapping[Any, Q], numbers: set[UUID], after: Cursor) -> set[UUID]:
    """Return the batches that have a change before the cursor in any of the histories."""
    if not numbers:
        return set()
    newer = [
        historical.objects.filter(condition, batch__in=numbers)
        .exclude(after.before(historical._meta.label))
        .order_by()
        .values_list("batch")
        for historical, condition in where.items()
    ]
    return {number for (number,) in newer[0].union(*newer[1:])}


def _first_of_batches(found: Sequence[Any]) -> list[Any]:
    """Return the changes without those whose batch stands further up."""
    first: dict[UUID | Cursor, Any] = {}
    for change in found:
        first.setdefault(change.batch or Cursor.at(change), change)
    return list(first.values())


def _with_batches(where: Mapping[Any, Q], entries: list[Entry]) -> list[Entry]:
    """Return the entries, those of more than one change with what else belongs to them."""
    numbers = {entry.change.batch for entry in entries} - {None}
    counts = counts_of(where, numbers, MAX_COUNTED)
    several = {number for number, one in counts.items() if sum(c.n for c in one) > 1}
    few = {n for n in several if sum(c.n for c in counts[n]) <= MAX_INLINE}
    parts: dict[UUID, list[Entry]] = defaultdict(list)
    rows = [
        row
        for historical in where
        for row in (historical.objects.filter(batch__in=few).order_by("history_id") if few else ())
    ]
    for part in entries_of(sorted(rows, key=lambda row: row.history_date)) if rows else ():
        parts[part.change.batch].append(part)
    return [
        replace(entry, batch=Batch(number, counts[number], parts[number]))
        if (number := entry.change.batch) in several
        else entry
        for entry in entries
    ]


def counts_of(
    where: Iterable[Any], numbers: Collection[UUID], most: int
) -> dict[UUID, list[Counted]]:
    """Return what batches have in some histories, in one statement.

    Of each batch, the first changes of each history are counted, up to `most`: a page of imports
    would count a million.
    """
    found: dict[UUID, list[Counted]] = defaultdict(list)
    histories = {historical._meta.label: historical for historical in where}
    if not (numbers and histories):
        return found
    for (number, label), kinds in _kinds_of_first(histories, numbers, most + 1).items():
        is_cut = sum(kinds.values()) > most
        for kind, n in kinds.items():
            historical = histories[label]
            what = noun(historical, 2 if is_cut else n)
            counted = Counted(ChangeType(kind), what, min(n, most), is_cut, historical)
            found[number].append(counted)
    return found


def noun(historical: Any, n: int) -> str:
    """Return what so many rows are called that a history is about."""
    about = (historical if historical.is_link else historical.instance_type)._meta
    return str(about.verbose_name if n == 1 else about.verbose_name_plural)


# PostgreSQL would read whole tables for the join that SQLite, which has no LATERAL, walks by index.
FIRST_OF_BATCHES = {
    "postgresql": "wanted CROSS JOIN LATERAL (SELECT history_type FROM {table}"
    " WHERE {table}.batch = wanted.batch ORDER BY history_id LIMIT {most}) AS first",
    "sqlite": "wanted JOIN {table} ON {table}.batch = wanted.batch AND history_id < COALESCE("
    "(SELECT history_id FROM {table} AS other WHERE other.batch = wanted.batch"
    " ORDER BY history_id LIMIT 1 OFFSET {most}), {largest})",
}


def _kinds_of_first(
    histories: Mapping[str, Any], numbers: Collection[UUID], most: int
) -> dict[tuple[UUID, str], dict[str, int]]:
    """Count the first changes of each batch in each history by their kind."""
    counted = []
    for label, historical in histories.items():
        first = FIRST_OF_BATCHES[connection.vendor].format(
            table=connection.ops.quote_name(historical._meta.db_table),
            most=most,
            largest=models.BigIntegerField.MAX_BIGINT,
        )
        counted.append(
            f"SELECT wanted.batch, '{label}', history_type, COUNT(*) FROM {first}"  # noqa: S608 (names of tables)
            " GROUP BY wanted.batch, history_type"
        )
    field = next(iter(histories.values()))._meta.get_field("batch")
    values = ", ".join(["(%s)"] * len(numbers))
    found: dict[tuple[UUID, str], dict[str, int]] = defaultdict(dict)
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH wanted (batch) AS (VALUES {values}) " + " UNION ALL ".join(counted),
            [field.get_db_prep_value(number, connection) for number in numbers],
        )
        for number, label, kind, n in cursor.fetchall():
            found[field.to_python(number), label][kind] = n
    return found


def total_text(counts: Sequence[Counted], *, besides: int = 0) -> str:
    """Return how many changes there are in all besides some, as far as they were counted."""
    n = sum(one.n for one in counts) - besides
    return count_text(n, is_cut=any(one.is_cut for one in counts))


def knows(name: str) -> bool:
    """Whether there is an account of that name, or somebody of it ever changed anything."""
    if get_user_model()._default_manager.filter(username=name).exists():
        return True
    return any(one.objects.filter(history_user_id=name).exists() for one in all_histories())


def entries_of(changes: Sequence[Any]) -> list[Entry]:
    """Return changes ready to be shown, each compared with the one before it of its row."""
    before = changes_before(changes)
    names = Names([*changes, *before.values()])
    return [
        Entry(change, names.subject(change), differences(former, change, names), former)
        for change in changes
        for former in [before.get((type(change), change.history_id))]
    ]
