"""Ending the live sessions of devices that may not connect any more.

A change that ends access leaves a row for each RTIO server in its own transaction. Behind the
request, a thread of a server process claims the rows and takes the sessions over. A row whose
process dies is claimed by another once its lease is over.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import Max, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from devices import history
from devices.background import attempts
from devices.credentials import hashing
from devices.database.batches import batched
from devices.extension_points import AccessEnd
from devices.history.context import current_user
from devices.models import Device, PreSharedKey
from rpc.models import CallOutcome, CallRecord, Endpoint, Question
from rpc.rtio import one_time_secrets
from rpc.rtio.models import Cause, EndingState, RtioServer, SessionEnding
from rpc.rtio.models.session_ending import GIVE_UP_AFTER, can_be_ended, may_connect_again
from rpc.rtio.takeover import FAILED, HOLD_SECONDS, UNKNOWN_ERROR, TakeOver, Unreachable

SECRET_LIFE = timedelta(seconds=12)  # longer than an attempt takes, connecting included
LEASE = timedelta(seconds=30)
MAX_PER_SERVER = 32  # attempts at once
POLL = 1.0  # seconds between two looks for work of other processes
GATHER = 0.02  # seconds in which receipts gather to be written together
MAX_PAUSE = 60.0  # seconds between two attempts
CHUNK = 500  # rows in a statement
KNOWN_FOR = timedelta(days=30)  # how far back the journal is asked who let a device in

log = logging.getLogger(__name__)


# --- What is to be ended --------------------------------------------------------------------


def end_sessions_of(devices: Iterable[Device], why: AccessEnd) -> None:
    """Have the sessions of devices ended whose access ends. Without servers it is one statement.

    RTIO knows no certificates: a device whose credential was revoked loses its session once it has
    no usable key. Somebody else may be ending that key at this moment, and each of the two sees
    the key of the other: so it is asked again once the change is committed, which one of them is
    last.
    """
    servers = list(RtioServer.objects.enabled().order_by("pk"))
    if not servers:
        return
    listed = list(devices)
    if why is AccessEnd.REVOKED:
        keyed = _with_usable_key(listed)
        if keyed:
            later = partial(copy_context().run, _end_sessions_without_key, keyed, servers)
            transaction.on_commit(later, robust=True)
        listed = [device for device in listed if device.pk not in keyed]
    request_endings(listed, Cause(why.value), servers=servers)


def _with_usable_key(devices: Collection[Device] | set[int]) -> set[int]:
    """Return which of these devices a key admits now, by primary key."""
    usable = PreSharedKey.objects.usable_at(timezone.now()).filter(device__in=devices)
    return set(usable.order_by().values_list("device", flat=True))


def _end_sessions_without_key(keys: set[int], servers: Collection[RtioServer]) -> None:
    """Have the sessions ended of those devices, by primary key, that no key admits any more."""
    without = keys - _with_usable_key(keys)
    if without:
        devices = Device.objects.filter(pk__in=without)
        request_endings(devices, Cause.REVOKED, servers=servers)


def request_endings(
    devices: Iterable[Device],
    cause: str,
    *,
    servers: Collection[RtioServer] | None = None,
) -> list[SessionEnding]:
    """Have the sessions of devices ended, at these servers or at all that are enabled.

    To be called in the transaction of the change that is the cause. What waits already is asked
    for again and stays one row. Returns the rows that are new. Devices whose id RTIO's device port
    does not take, and backends, have no sessions.
    """
    if servers is None:
        servers = list(RtioServer.objects.enabled().order_by("pk"))
    if not servers:
        return []
    concerned = {
        device.identifier: device
        for device in devices
        if device.kind == Device.Kind.DEVICE and can_be_ended(device.identifier)
    }
    now = timezone.now()
    circumstances = {
        "cause": cause,
        "requested_at": now,
        "requested_by": current_user(),
        "origin": history.current_origin(),
        "due_at": now,
    }
    made: list[SessionEnding] = []
    keys = sorted((identifier, device.pk) for identifier, device in concerned.items())
    with transaction.atomic():
        for chunk in batched(keys, CHUNK):
            made += _request_chunk(dict(chunk), servers, circumstances)
        transaction.on_commit(ender.wake)
    return made


def _request_chunk(
    devices: Mapping[str, int], servers: Collection[RtioServer], circumstances: Mapping[str, Any]
) -> list[SessionEnding]:
    """Write what is asked for of some devices, by identifier and primary key; return new rows."""
    admitted = last_admitted(devices)
    waiting = SessionEnding.objects.waiting().filter(
        identifier__in=devices, server__in=[server.pk for server in servers]
    )
    known = set(waiting.values_list("identifier", "server_id"))
    if known:
        waiting.update(**circumstances, claim=None)
    rows = [
        SessionEnding(
            identifier=identifier,
            device_id=pk,
            server=server,
            admitted_here=admitted.get(identifier) == server.caller,
            **circumstances,
        )
        for identifier, pk in devices.items()
        for server in servers
        if (identifier, server.pk) not in known
    ]
    return SessionEnding.objects.bulk_create(rows, ignore_conflicts=True)


def last_admitted(identifiers: Collection[str]) -> dict[str, str]:
    """Return the caller through which each device was let in last, as far as the journal knows."""
    rows = (
        CallRecord.objects.filter(
            subject__in=identifiers,
            question=Question.CREDENTIAL,
            outcome=CallOutcome.ALLOWED,
            endpoint=Endpoint.VERIFIER,
        )
        .since(timezone.now() - KNOWN_FOR)
        .order_by()
        .values_list("subject", "caller")
        .annotate(latest=Max("last"))
        .order_by("latest")
    )
    return {subject: caller for subject, caller, _latest in rows}


# --- The work -------------------------------------------------------------------------------


@dataclass(slots=True)
class Attempt:
    """A claimed row, with the secret that exists nowhere else."""

    row: SessionEnding
    secret: str
    problem: str = ""
    code: int | None = None
    answered_at: datetime | None = None


def claim(limits: Mapping[int, int]) -> list[Attempt]:
    """Claim rows that are due, at most so many of each server; return what to do for them.

    Rows of devices that may connect again are dropped. `limits` says how many of a server may be
    claimed, by its primary key.
    """
    now = timezone.now()
    mine = uuid.uuid4()
    due = SessionEnding.objects.waiting().filter(due_at__lte=now)
    chosen: list[int] = []
    for server, limit in limits.items():
        rows = due.filter(server=server).order_by("-admitted_here", "requested_at", "pk")
        chosen += rows.values_list("pk", flat=True)[:limit]
    if not chosen:
        return []
    due.filter(pk__in=chosen).update(claim=mine, due_at=now + LEASE)
    rows = SessionEnding.objects.waiting().filter(claim=mine).select_related("server__backend")
    claimed = list(rows)
    again = may_connect_again(claimed)
    _finish([row for row in claimed if row.identifier in again], EndingState.CANCELLED)
    rest = [row for row in claimed if row.identifier not in again]
    pepper = hashing.newest_pepper()
    attempts = [Attempt(row, one_time_secrets.generate()) for row in rest]
    for attempt in attempts:
        row = attempt.row
        row.attempts += 1
        row.secret_digest = one_time_secrets.digest(attempt.secret, pepper)
        row.secret_valid_until = now + SECRET_LIFE
        row.secret_used_at = None
    fields = ["attempts", "secret_digest", "secret_valid_until", "secret_used_at"]
    SessionEnding.objects.bulk_update(rest, fields, batch_size=CHUNK)
    return attempts


def give_up() -> None:
    """Give up what nobody could end in time, and what is due at servers that are disabled."""
    now = timezone.now()
    due = SessionEnding.objects.waiting().filter(due_at__lte=now)
    hopeless = due.filter(Q(requested_at__lte=now - GIVE_UP_AFTER) | Q(server__enabled=False))
    rows = list(hopeless.select_related("server")[:CHUNK])
    for row in rows:
        if not row.server.enabled:
            row.detail = _("the server is disabled here")
    _finish(rows, EndingState.GIVEN_UP)


def settle(attempts: Sequence[Attempt]) -> None:
    """Write down what became of attempts: a receipt, or when to try again."""
    used = dict(
        SessionEnding.objects.filter(pk__in=[one.row.pk for one in attempts]).values_list(
            "pk", "secret_used_at"
        )
    )
    passed: list[SessionEnding] = []
    again: list[SessionEnding] = []
    for attempt in attempts:
        row, was_used = attempt.row, used.get(attempt.row.pk) is not None
        if was_used and attempt.code not in (None, FAILED):
            took = (attempt.answered_at or timezone.now()) - row.requested_at
            row.ended_after = max(0, round(took.total_seconds() * 1000))
            row.detail = ""
            passed.append(row)
            continue
        row.detail = (attempt.problem or _problem(attempt.code, was_used=was_used))[:255]
        row.due_at = timezone.now() + _pause(row)
        if was_used and attempt.code == FAILED:
            row.intercepted += 1
            row.due_at = timezone.now()
            log.warning("a secret to end a session at %s was used by somebody else", row.server)
        again.append(row)
    connected = _may_have_been_connected(passed)
    _finish([row for row in passed if row.pk in connected], EndingState.ENDED)
    _finish([row for row in passed if row.pk not in connected], EndingState.NOT_CONNECTED)
    for row in again:
        _mine(row).update(
            claim=None, due_at=row.due_at, detail=row.detail, intercepted=row.intercepted
        )


def _may_have_been_connected(rows: Sequence[SessionEnding]) -> set[int]:
    """Return the primary keys of those whose device may have had a session at their server.

    RTIO does not tell. A device that the journal knows of was connected where it was let in last;
    any other that was ever seen may have been connected anywhere.
    """
    unknown = {row.identifier for row in rows if not row.admitted_here}
    elsewhere = last_admitted(unknown)
    unseen = Device.objects.filter(identifier__in=unknown, last_seen=None)
    never = set(unseen.values_list("identifier", flat=True))
    return {
        row.pk
        for row in rows
        if row.admitted_here or not (row.identifier in elsewhere or row.identifier in never)
    }


def _problem(code: int | None, *, was_used: bool) -> str:
    """Return what an answer means that is no success."""
    if was_used and code == FAILED:
        return _("somebody else used the secret")
    if code == FAILED:
        return _("RTIO refused without asking this registry")
    if code == UNKNOWN_ERROR:
        return _("RTIO could not ask its verifier")
    return _("RTIO let us in without asking this registry")


def _pause(row: SessionEnding) -> timedelta:
    """Return how long to wait before the next attempt: 1 s, then twice as long each time."""
    return timedelta(seconds=min(2.0 ** min(row.attempts - 1, 10), MAX_PAUSE))


def _mine(row: SessionEnding) -> Any:
    """Return the row as it was claimed: nothing, where it was asked for again meanwhile."""
    return SessionEnding.objects.waiting().filter(pk=row.pk, claim=row.claim)


def _finish(rows: Sequence[SessionEnding], state: EndingState) -> None:
    """Write the receipts of rows that are done, and their history, as who asked for them."""
    if not rows:
        return
    finished: dict[tuple[str, str, str], list[SessionEnding]] = {}
    with transaction.atomic():
        for row in rows:
            mine = _mine(row)
            row.state, row.claim, row.secret_digest = state, None, None
            written = mine.update(
                state=state,
                claim=None,
                secret_digest=None,
                detail=row.detail,
                ended_after=row.ended_after,
            )
            if written:
                finished.setdefault((row.origin, row.requested_by, row.cause), []).append(row)
        for (origin, by, cause), group in finished.items():
            with history.origin(origin, user=by, reason=str(Cause(cause).label)):
                history.record(group, history.ChangeType.CREATED)


class SessionEnder(attempts.Worker[Attempt]):
    """Ends sessions at RTIO servers."""

    name = "session-ender"

    def wake(self) -> None:
        """Have the thread look for work now; other processes look every second."""
        if self._thread is not None:
            self._done.put(None)

    def run(self, done: Callable[[], bool], seconds: float = float("inf")) -> bool:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() >= deadline:
                return False
            for attempt in self._claimed():
                self.begin(attempt)
            wait = min(POLL, max(0.0, deadline - time.monotonic()))
            if finished := self.finished(wait, gather=GATHER):
                settle(finished)
        return True

    def _claimed(self) -> list[Attempt]:
        """Claim what is due at servers that take more; one statement where nothing is due."""
        due = SessionEnding.objects.waiting().filter(due_at__lte=timezone.now())
        servers = due.order_by().values_list("server", flat=True).distinct()
        limits = {server: self._to_claim(self._loads[server]) for server in servers}
        if limits:
            give_up()
        return claim({server: limit for server, limit in limits.items() if limit})

    @staticmethod
    def _to_claim(load: attempts.Load) -> int:
        """Return how many attempts to claim: few at a time cost as many statements as many."""
        free = load.capacity(MAX_PER_SERVER)
        return free if free > MAX_PER_SERVER // 4 or not load.running else 0

    def host_of(self, attempt: Attempt) -> int:
        return attempt.row.server_id

    def has_failed(self, attempt: Attempt) -> bool:
        """Whether there was no answer to it."""
        return attempt.code is None

    async def attempt(self, attempt: Attempt) -> None:
        """Take one session over; the connection stays a moment longer than the attempt."""
        takeover = TakeOver(attempt.row.server)
        hold = 0.0
        try:
            attempt.code = await takeover.ask(attempt.row.identifier, attempt.secret)
            attempt.answered_at = timezone.now()
            hold = HOLD_SECONDS
        except Unreachable as error:
            attempt.problem = str(error)
        except Exception:
            log.exception("an attempt to end a session failed")
            attempt.problem = _("an unexpected failure; see the log")
        self._done.put(attempt)
        await takeover.close(after=hold)

    def close(self) -> None:
        """Wait until the last connection is closed, as a command does before it ends."""

        async def last_closed() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*others, return_exceptions=True)

        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(last_closed(), self._loop).result()
        self.end_loop()


ender = SessionEnder()
