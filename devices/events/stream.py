"""Reading events in the order in which they were committed, without gap and without repeat.

Rows are written by many transactions at once, and a lower id may be committed later than a higher
one. So it is readers who number: one at a time, under the lock of the stream's row, gives the rows
that are committed the next positions. Nothing appears below a position that was given. All of that
are rows, so that it holds on both databases, after a restart and after a dump is restored.

A cursor is a position and how the id of the event there begins: one of a stream that went another
way, before a backup was restored, is found out.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

from django.apps import apps
from django.db import transaction
from django.utils.translation import gettext as _, gettext_lazy

from devices.events.models import NUMBERED, Event, EventStream, head, number

__all__ = ["head", "number"]

READ = 1000  # rows that are looked at in one statement, however few a filter leaves
MAX_READS = 20  # statements for one page: of more, the next page tells
CURSOR = re.compile(r"([0-9]{1,18})-([0-9a-f]{8})\Z")
BEGINNING = "0"  # the cursor before the first event of all
LATEST = "latest"
GONE = gettext_lazy("The events after this cursor are not kept any more.")


class CursorError(Exception):
    """A cursor that is none."""


class CursorGoneError(Exception):
    """A cursor at which nobody can go on, and why."""


@dataclass(frozen=True, slots=True)
class Page:
    """Events in order, the cursor after them, and whether there were more when it was read.

    All events after `start` up to `position` were looked at. Where there are no `more`, those
    beyond `head` are to come.
    """

    events: list[Event]
    cursor: str
    start: int
    position: int
    head: int
    more: bool


def groups_below(pk: int) -> frozenset[int]:
    groups = apps.get_model("devices.DeviceGroup")._default_manager.order_by()
    found, level = {pk}, {pk}
    while level:
        level = set(groups.filter(parent__in=level).values_list("pk", flat=True)) - found
        found |= level
    return frozenset(found)


def read(
    after: str, limit: int, *, kinds: Collection[str] = (), groups: Collection[int] | None = None
) -> Page:
    """Return the events after a cursor, at most `limit` of them, of these kinds and groups.

    Fewer, or none, where a filter leaves few of MAX_READS times READ: then there are `more`.
    `after` is a cursor, empty for the oldest event that is kept, or LATEST for none but those to
    come. Raises CursorError, or CursorGoneError where events after it are not kept any more.
    """
    stream = EventStream.objects.filter(pk=1).first() or EventStream()
    start, cursor = _place(after, stream)
    position, more = start, True
    found: list[Event] = []
    for _read in range(MAX_READS):
        if position >= stream.position or len(found) >= limit:
            break
        rows = list(
            Event.objects.filter(position__gt=position, position__lte=stream.position).order_by(
                "position"
            )[: READ if kinds or groups is not None else limit - len(found)]
        )
        if not rows:
            more = False  # somebody deleted the rows up to the head, and not by `prune`
            break
        may_jump = not after and position == start  # to the oldest event that is kept
        if rows[0].position != position + 1 and not may_jump:  # others were forgotten since
            raise CursorGoneError(GONE)
        for row in rows:
            position, cursor = row.position or 0, cursor_of(row)
            if (not kinds or row.kind in kinds) and (
                groups is None or not set(groups).isdisjoint(row.groups)
            ):
                found.append(row)
                if len(found) == limit:
                    break
    head = stream.position
    return Page(found, cursor, start, position, head, more=more and position < head)


def cursor_of(event: Event) -> str:
    return f"{event.position}-{event.uid.hex[:8]}"


def _place(after: str, stream: EventStream) -> tuple[int, str]:
    """Return the position that a cursor stands for, and the cursor as it is given back."""
    if after in {"", LATEST}:
        return _edge(after, stream)
    if after == BEGINNING:
        position, begins = 0, ""
    elif match := CURSOR.match(after):
        position, begins = int(match[1]), match[2]
    else:
        raise CursorError(_("This is no cursor of this stream."))
    if position == stream.pruned_position:
        uid = stream.pruned_uid
    elif position < stream.pruned_position:
        raise CursorGoneError(GONE)
    else:
        uid = Event.objects.filter(position=position).values_list("uid", flat=True).first()
    if position and (uid is None or not uid.hex.startswith(begins)):
        raise CursorGoneError(
            _("This cursor is of events that this registry does not have: a backup was restored.")
        )
    return position, after


def _edge(after: str, stream: EventStream) -> tuple[int, str]:
    """Return where the stream begins, or ends, and the cursor there."""
    position = stream.position if after == LATEST else stream.pruned_position
    row = Event.objects.filter(position=position).first()
    if row is not None:
        return position, cursor_of(row)
    uid = stream.pruned_uid
    return position, f"{position}-{uid.hex[:8]}" if uid is not None else BEGINNING


def prune(before: datetime) -> int:
    """Forget the events before a moment, and what webhooks were sent of them; return how many.

    Only what is numbered, from the first one on, and a thousand at a time.
    """
    number()
    forgotten = 0
    while last := _oldest(before):
        with transaction.atomic():
            stream = EventStream.held()
            stream.pruned_position, stream.pruned_uid = last[-1].position or 0, last[-1].uid
            stream.save(update_fields=["pruned_position", "pruned_uid"])
            Event.objects.filter(pk__in=[row.pk for row in last]).delete()
        forgotten += len(last)
    return forgotten


def _oldest(before: datetime) -> Sequence[Event]:
    """Return the first events of the stream as far as they are older than a moment."""
    rows = Event.objects.filter(position__isnull=False).order_by("position")
    first = rows.only("pk", "position", "uid", "moment")[:NUMBERED]
    return list(takewhile(lambda row: row.moment < before, first))
