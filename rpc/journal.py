"""Count what requests leave in the journal: in memory, written behind them in bulk.

Whoever calls chooses the texts, so none of them may cost more than its count: texts are cut, and
what is new in an hour gets a row only while there is room. Beyond that it is counted among others
of its endpoint, reason and, where the registry knows them, caller and subject.
"""

import time
from collections.abc import Iterable
from itertools import chain

import msgspec
from django.conf import settings

from acl.engine.decisions import Decision, Reason, Request
from devices import telemetry
from devices.database.write_behind import WriteBehindWorker
from devices.values.addresses import MAX_LENGTH
from devices.verdicts import Verdict
from rpc.models import BUCKET, CallCount, CallKey, CallRecord, Question

# In each process.
MAX_ROWS = 100_000  # new rows an hour, those below included
MAX_OF_STRANGERS = 1_000  # about callers that were not let in; about unknown names, of each caller
MAX_OF_SUBJECT = 10_000  # about the commands of one registered device

STRANGE_ENDS = frozenset(
    {Reason.UNKNOWN_SOURCE, Reason.UNKNOWN_DESTINATION, Reason.MALFORMED_COMMAND}
)

Batch = list[tuple[CallKey, CallCount]]


class Entry(msgspec.Struct, frozen=True):
    """What the journal keeps of one question and its answer; who asked comes to it.

    Texts are as they were sent. `known`: the registry knows what they name, so that they can only
    be so many.
    """

    question: str
    reason: str
    subject: str = ""
    destination: str = ""
    command: str = ""
    rule: int | None = None
    known: bool = False


def of_verdict(identifier: str, verdict: Verdict) -> Entry:
    known = verdict.device is not None
    return Entry(Question.CREDENTIAL, verdict.outcome, identifier, known=known)


def of_decision(request: Request, decision: Decision) -> Entry:
    reason, rule = decision
    return Entry(Question.COMMAND, reason, *request, rule, reason not in STRANGE_ENDS)


def readable(text: str) -> str:
    """Return a text that came from anywhere as the journal stores it.

    What no column holds (a NUL, a lone surrogate) and what no reader sees becomes U+FFFD; a text
    that is longer than an identifier may be is cut and ends in “…”.
    """
    if len(text) > MAX_LENGTH:
        text = text[: MAX_LENGTH - 1] + "…"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


class RowQuota:
    """How many new rows the calls of an hour may still make, by whose they are."""

    def __init__(self) -> None:
        self._bucket = 0
        self._rows: set[int] = set()  # hashes of their keys
        self._taken: dict[str, int] = {}

    def admits(self, key: CallKey, *, known: bool) -> bool:
        """Whether a row may be made for `key`; one that has been stays allowed for its hour."""
        if key.question == Question.CREDENTIAL and known:
            return True  # the registry's size bounds them
        if key.bucket > self._bucket:
            self._bucket, self._rows, self._taken = key.bucket, set(), {}
        row = hash(key)
        if row in self._rows:
            return True
        if key.question == Question.CALLER:
            scope, most = "strangers", MAX_OF_STRANGERS
        elif known:
            scope, most = f"subject {key.subject}", MAX_OF_SUBJECT
        else:
            scope, most = f"caller {key.caller}", MAX_OF_STRANGERS
        taken = self._taken.get(scope, 0)
        if taken >= most or len(self._rows) >= MAX_ROWS:
            return False
        self._rows.add(row)
        self._taken[scope] = taken + 1
        return True


class Journal(WriteBehindWorker[CallKey, CallCount]):
    """Counts calls in request threads and adds the counts to the journal every few seconds."""

    name = "journal"
    capacity = 20_000  # beyond them, calls are counted among others
    batch_rows = 100  # written by one statement

    def __init__(self) -> None:
        super().__init__()
        self._quota = RowQuota()

    def record(self, endpoint: str, caller: str, entries: Iterable[Entry]) -> None:
        """Count the questions of a request; `caller` is who was let in, or where it came from."""
        if telemetry.listener is not telemetry.NOBODY:
            entries = tuple(entries)
            for entry in entries:
                telemetry.listener.called(endpoint, entry.question, entry.reason)
        if not settings.JOURNAL:
            return
        moment, request, caller = time.time(), telemetry.request_id.get(), readable(caller)
        bucket = int(moment) // BUCKET
        with self._lock:
            for entry in entries:
                key = CallKey(
                    bucket,
                    endpoint,
                    entry.question,
                    caller,
                    entry.subject and readable(entry.subject),
                    entry.destination and readable(entry.destination),
                    entry.command and readable(entry.command),
                    entry.reason,
                )
                counted = self._collected.get(key)
                if counted is None:
                    if not self._quota.admits(key, known=entry.known):
                        key = among_others(key, known=entry.known)
                    counted = self._count_of(key, moment)
                    if len(self._collected) == self.capacity // 2:
                        self._wake.set()
                counted.count += 1
                counted.last, counted.rule, counted.request = moment, entry.rule, request
        if self._thread is None:
            self._start()

    def _count_of(self, key: CallKey, moment: float) -> CallCount:
        """Return what counts the key's calls, or, where too many rows wait, those of others."""
        counted = self._collected.get(key)
        if counted is not None:
            return counted
        if len(self._collected) >= self.capacity:
            key = among_others(key._replace(caller=""), known=False)
        return self._collected.setdefault(key, CallCount(0, moment, moment))

    def order(self, entry: tuple[CallKey, CallCount]) -> str:
        return entry[0].subject

    def requeue(self, batches: Iterable[Batch]) -> None:
        """Count again what was not written."""
        with self._lock:
            for key, counted in chain.from_iterable(batches):
                kept = self._count_of(key, counted.first)
                kept.count += counted.count
                kept.first = min(kept.first, counted.first)
                kept.last = max(kept.last, counted.last)
                kept.rule = kept.rule or counted.rule
                kept.request = kept.request or counted.request

    def write(self, batch: Batch) -> None:
        CallRecord.objects.add(dict(batch))


def among_others(key: CallKey, *, known: bool) -> CallKey:
    """Return the key of the row that counts what has no room for one of its own."""
    if key.question == Question.CALLER:
        key = key._replace(caller="")
    subject = key.subject if known else ""
    return key._replace(subject=subject, destination="", command="", others=True)


journal = Journal()
