"""Keep the journal of calls: what was asked, by whom, and why it was answered so."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from django.db import connections, models, router
from django.db.models import Q, Sum
from django.utils.translation import gettext, gettext_lazy as _

from acl.engine.decisions import Reason, Request
from devices.database.confirmation import WITHOUT_WAITING
from devices.database.statements import execute
from devices.database.write_behind import STATEMENT_SECONDS
from devices.models import Device, DeviceGroup
from devices.telemetry import MAX_REQUEST_ID_LENGTH
from devices.values.addresses import MAX_LENGTH
from devices.values.moments import in_utc
from devices.verdicts import Outcome
from rpc.rtio.models import DeviceServiceRoute, RtioServer, SessionEnding

# Django finds the models of an app in this module.
__all__ = ["CallRecord", "DeviceServiceRoute", "RtioServer", "SessionEnding"]

BUCKET = 3600  # seconds that one row counts
DIGEST_PREFIX = 6  # bytes
PRUNED = 5_000  # rows deleted at once
MAX_SEARCHED = 200  # rows of one device that `latest_connection` looks at
MAX_PAST_ROWS = 50_000  # rows, the newest ones, that `requests_made` looks at


class Endpoint(models.TextChoices):
    """The endpoint that a call came to."""

    VERIFIER = "verifier", _("RTIO device verifier")
    FRAMES = "frames", _("Cesanta frames")
    REST = "rest", _("Cesanta REST form")
    HUB = "hub", _("RTIO hub configuration")
    ISSUER = "issuer", _("RTIO tokens for apps")


class Question(models.TextChoices):
    """What a row is about."""

    CALLER = "caller", _("who calls")
    CALL = "call", _("the call itself")
    CREDENTIAL = "credential", _("a credential")
    COMMAND = "command", _("a command")


class CallOutcome(models.TextChoices):
    """How it ended."""

    ALLOWED = "allowed", _("Allowed")
    REFUSED = "refused", _("Refused")


class CallReason(models.TextChoices):
    """What became of a call that asked nothing, or nothing that could be answered.

    Questions that were answered have the reasons of `devices.verdicts` and `acl.engine.decisions`.
    """

    ANSWERED = "answered", _("answered")
    NOT_AUTHENTICATED = "not-authenticated", _("the caller shows no credential")
    AUTHENTICATION_FAILED = "authentication-failed", _("the caller's credential is nobody's")
    PERMISSION_DENIED = "permission-denied", _("the caller is no backend, or speaks for another")
    METHOD_NOT_ALLOWED = "method-not-allowed", _("not an HTTP POST")
    TOO_LARGE = "too-large", _("the body is too large")
    CUT_OFF = "cut-off", _("the body was not sent to its end")
    INVALID_BODY = "invalid-body", _("the body is not what the protocol describes")
    UNKNOWN_METHOD = "unknown-method", _("the request's method is not that of its endpoint")
    IDENTIFIER_LENGTH = "identifier-length", _("RTIO's ids have 30 to 40 characters")
    SECRET_LENGTH = "secret-length", _("RTIO's secrets have 3 to 128 characters")
    UNKNOWN_COMMAND = "unknown-command", _("the registry has no such command")
    INVALID_ARGUMENTS = "invalid-arguments", _("the arguments do not fit the command")
    DEADLINE_EXCEEDED = "deadline-exceeded", _("its deadline had passed")
    SESSION_ENDED = "session-ended", _("the registry's own secret, to end the device's session")
    ENDING_REFUSED = "ending-refused", _("a secret that ends sessions, not due here and now")
    NO_SIGNING_KEY = "no-signing-key", _("no key is configured to sign tokens with")
    UNAVAILABLE = "unavailable", _("the database could not be reached")
    BUSY = "busy", _("too many requests were worked on at once")
    INTERNAL_ERROR = "internal-error", _("an unexpected failure; see the log")


ALLOWING = frozenset(
    {Outcome.VERIFIED, Reason.ALLOWED, CallReason.ANSWERED, CallReason.SESSION_ENDED}
)


@cache
def reasons() -> dict[str, Any]:
    """Return every reason with its text, as choices; all but the ALLOWING ones refuse."""
    return dict([*Outcome.choices, *Reason.choices, *CallReason.choices])


class CallKey(NamedTuple):
    """What the calls that one row counts have in common. Its texts are printable and short."""

    bucket: int  # number of the hour since 1970
    endpoint: str
    question: str
    caller: str
    subject: str
    destination: str
    command: str
    reason: str
    others: bool = False

    @property
    def digest(self) -> str:
        """Return what tells the row from every other: the texts would be too long for an index.

        In hexadecimal: the first DIGEST_PREFIX bytes of the subject, so that rows which are written
        together lie together in the index, too, and 80 bits of BLAKE2b.
        """
        text = "\n".join([str(self.bucket), *self[1:-1], str(self.others)])
        digest = hashlib.blake2b(text.encode(), digest_size=16 - DIGEST_PREFIX)
        prefix = self.subject.encode()[:DIGEST_PREFIX].ljust(DIGEST_PREFIX, b"\0")
        return prefix.hex() + digest.hexdigest()


@dataclass(slots=True)
class CallCount:
    """How often, when first and last (Unix seconds); of the last one its rule and its request."""

    count: int
    first: float
    last: float
    rule: int | None = None
    request: str = ""


class CallQuerySet(models.QuerySet["CallRecord"]):
    def allowed(self) -> "CallQuerySet":
        """Return the rows of questions that were answered with yes."""
        return self.filter(outcome=CallOutcome.ALLOWED)

    def refused(self) -> "CallQuerySet":
        """Return the rows of questions that were answered with no, and of calls that failed."""
        return self.filter(outcome=CallOutcome.REFUSED)

    def since(self, moment: datetime) -> "CallQuerySet":
        """Return the rows of the hour that `moment` lies in and of those after it."""
        return self.filter(bucket__gte=moment.replace(minute=0, second=0, microsecond=0))

    def before(self, moment: datetime) -> "CallQuerySet":
        """Return the rows of the hours before the one that `moment` lies in."""
        return self.filter(bucket__lt=moment.replace(minute=0, second=0, microsecond=0))

    def prune(self) -> int:
        """Delete the rows, the oldest first and a few thousand at a time; return how many."""
        oldest = self.order_by("bucket", "pk").values("pk")[:PRUNED]
        deleted = 0
        while count := CallRecord.objects.filter(pk__in=oldest).delete()[0]:
            deleted += count
        return deleted

    def about_prefix(self, prefix: str) -> "CallQuerySet":
        """Return the rows about devices whose identifiers begin so, at either end, by an index."""
        subject, destination = (
            Q(**{f"{end}__gte": prefix, f"{end}__lt": prefix + "\U0010ffff"})
            if connections[self.db].vendor == "sqlite"  # whose LIKE uses no index
            else Q(**{f"{end}__startswith": prefix})
            for end in ("subject", "destination")
        )
        return self.filter(subject | (destination & ~Q(destination="")))  # as its index says

    def about_group(self, group: DeviceGroup, most: int) -> "CallQuerySet":
        """Return the rows about devices in a group and in those that lie in it.

        Of that many memberships at most, however large the group is.
        """
        members = Device.objects.filter(pk__in=group.memberships(most).values("device"))
        return self.filter(subject__in=members.order_by().values("identifier"))

    def latest_about(self, identifier: str, most: int) -> list["CallRecord"]:
        """Return the newest rows in which a device was asked about, at either end."""
        newest = self.order_by("-bucket", "-pk")
        found = {
            row.pk: row
            for rows in (
                newest.filter(subject=identifier),
                newest.filter(destination=identifier).exclude(destination=""),  # as its index says
            )
            for row in rows[:most]
        }
        return sorted(found.values(), key=attrgetter("last"), reverse=True)[:most]

    def latest_connection(self, identifier: str) -> "CallRecord | None":
        """Return the newest row of a verification that a device passed, among its newest rows."""
        newest = self.filter(subject=identifier).order_by("-bucket", "-pk")[:MAX_SEARCHED]
        passed = (
            row
            for row in newest
            if row.question == Question.CREDENTIAL and row.outcome == CallOutcome.ALLOWED
        )
        return max(passed, key=attrgetter("last"), default=None)

    def total(self) -> int:
        """Return how many calls the rows count."""
        return self.aggregate(total=Sum("count"))["total"] or 0

    def per_hour(self, first: datetime) -> dict[datetime, dict[str, int]]:
        """Return how many calls each hour since `first` counts, by outcome."""
        found: dict[datetime, dict[str, int]] = {}
        rows = self.since(first).order_by().values_list("bucket", "outcome")
        for bucket, outcome, total in rows.annotate(total=Sum("count")):
            found.setdefault(bucket, {})[outcome] = total
        return found

    def callers(self) -> list["CallRecord"]:
        """Return the newest row of each caller that was ever let in, by caller.

        One look into an index for each of them, whatever the number of rows; it looks at the
        whole journal, whatever else the query says.
        """
        return list(self.raw(CALLERS))

    def requests_made(self, since: datetime, most: int) -> dict[Request, int]:
        """Return the commands that were asked about and how often, the most frequent first.

        Of the newest rows only, and without those that stand for many.
        """
        newest = self.filter(question=Question.COMMAND, others=False).since(since)
        rows = CallRecord.objects.filter(
            pk__in=newest.order_by("-bucket", "-pk").values("pk")[:MAX_PAST_ROWS]
        )
        made = rows.order_by().values("subject", "destination", "command")
        most_frequent = made.annotate(total=Sum("count")).order_by(
            "-total", "subject", "destination", "command"
        )
        return {
            Request(row["subject"], row["destination"], row["command"]): row["total"]
            for row in most_frequent[:most]
        }

    def add(self, counts: Mapping[CallKey, CallCount]) -> None:
        """Add what was counted to the rows that count it: one statement, 2,000 rows at most.

        (SQLite takes 32,766 values.) Every writer locks rows in the order of their digests, so that
        no two wait for each other.
        """
        connection = connections[router.db_for_write(CallRecord)]
        rows = sorted(_columns(key, call_count) for key, call_count in counts.items())
        if connection.vendor == "sqlite":
            sql, values = _add_on_sqlite(len(rows)), list(chain.from_iterable(rows))
        else:
            sql, values = ADD_ON_POSTGRES, [msgspec.json.encode(rows).decode()]
        execute(connection, sql, values, STATEMENT_SECONDS)


def _columns(key: CallKey, call_count: CallCount) -> list[Any]:
    """Return the values of a row, in the order of COLUMNS, as JSON and SQLite take them."""
    first = _text(call_count.first)
    return [
        key.digest,
        _second(key.bucket * BUCKET),
        *key[1:8],
        CallOutcome.ALLOWED if key.reason in ALLOWING else CallOutcome.REFUSED,
        key.others,
        None if key.others else call_count.rule,
        call_count.count,
        first,
        first if call_count.last == call_count.first else _text(call_count.last),
        call_count.request,
    ]


def _text(seconds: float) -> str:
    """Return a Unix time as both databases read it; their sessions are in UTC."""
    whole, microseconds = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{_second(whole)}.{microseconds:06}" if microseconds else _second(whole)


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return str(datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None))


COLUMNS = """
digest, bucket, endpoint, question, caller, subject, destination, command, reason, outcome, others,
rule, count, first, last, request"""
OR_ADD = """
ON CONFLICT (digest) DO UPDATE SET
    count = rpc_callrecord.count + excluded.count,
    first = CASE WHEN excluded.first < rpc_callrecord.first
                 THEN excluded.first ELSE rpc_callrecord.first END,
    last = CASE WHEN excluded.last > rpc_callrecord.last
                THEN excluded.last ELSE rpc_callrecord.last END,
    rule = excluded.rule,
    request = excluded.request
"""
# One parameter, whatever the number of rows: so the server knows the statement, and plans it once.
ADD_ON_POSTGRES = f"""
INSERT INTO rpc_callrecord ({COLUMNS})
SELECT (r->>0)::uuid, (r->>1)::timestamptz, r->>2, r->>3, r->>4, r->>5, r->>6, r->>7, r->>8, r->>9,
       (r->>10)::boolean, (r->>11)::bigint, (r->>12)::bigint, (r->>13)::timestamptz,
       (r->>14)::timestamptz, r->>15
  FROM jsonb_array_elements(%s) r
 WHERE {WITHOUT_WAITING["postgresql"]}
{OR_ADD}
"""  # noqa: S608 - constants


@cache
def _add_on_sqlite(rows: int) -> str:
    """Return the statement that adds so many rows: out of JSON they would cost a third more."""
    row = f"({', '.join(['%s'] * len(COLUMNS.split(',')))})"
    into = f"INSERT INTO rpc_callrecord ({COLUMNS})"
    return f"{into} VALUES {', '.join([row] * rows)} {OR_ADD}"


# Neither database skips from one value of an index to the next by itself.
CALLERS = """
WITH RECURSIVE seen (caller) AS (
    SELECT MIN(caller) FROM rpc_callrecord WHERE NOT (question = 'caller') AND caller > ''
    UNION ALL
    SELECT (SELECT MIN(caller) FROM rpc_callrecord
             WHERE NOT (question = 'caller') AND caller > seen.caller)
      FROM seen WHERE seen.caller IS NOT NULL
)
SELECT * FROM rpc_callrecord
 WHERE id IN (SELECT (SELECT id FROM rpc_callrecord r
                       WHERE NOT (r.question = 'caller') AND r.caller = seen.caller
                       ORDER BY r.bucket DESC, r.id DESC LIMIT 1)
                FROM seen WHERE seen.caller IS NOT NULL)
 ORDER BY caller
"""


class CallRecord(models.Model):
    """How often the same thing was asked by the same caller, and answered alike, within an hour.

    No row refers to another table: the journal outlives what it tells of.
    """

    digest = models.UUIDField(editable=False)
    bucket = models.DateTimeField(_("hour"), help_text=_("The beginning of the hour counted."))
    endpoint = models.CharField(_("endpoint"), max_length=16, choices=Endpoint)
    question = models.CharField(_("about"), max_length=16, choices=Question)
    caller = models.CharField(
        _("caller"),
        max_length=MAX_LENGTH,
        blank=True,
        help_text=_("The backend's ID, or the address of one that showed no credential."),
    )
    subject = models.CharField(
        _("subject"),
        max_length=MAX_LENGTH,
        blank=True,
        help_text=_("The ID that was asked about: who connects, who sends, who claims to call."),
    )
    destination = models.CharField(_("destination"), max_length=MAX_LENGTH, blank=True)
    command = models.CharField(_("command"), max_length=MAX_LENGTH, blank=True)
    outcome = models.CharField(_("outcome"), max_length=16, choices=CallOutcome)
    reason = models.CharField(_("reason"), max_length=32, choices=reasons)
    others = models.BooleanField(
        _("others"),
        default=False,
        help_text=_("Counts the calls that had no room for a row of their own."),
    )
    rule = models.BigIntegerField(
        _("rule"), null=True, blank=True, help_text=_("The number of the rule that decided last.")
    )
    count = models.PositiveBigIntegerField(_("calls"))
    first = models.DateTimeField(_("first"))
    last = models.DateTimeField(_("last"))
    request = models.CharField(
        _("request"),
        max_length=MAX_REQUEST_ID_LENGTH,
        blank=True,
        db_default="",
        help_text=_("The ID of the last request, which log lines about it have, too."),
    )

    objects = CallQuerySet.as_manager()
    devices: Mapping[str, int] = {}  # of those that it names, where the admin looked them up

    class Meta:
        ordering = ["-bucket", "-id"]
        verbose_name = _("call")
        verbose_name_plural = _("calls")
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["digest"], name="rpc_call_digest_unique"),
            models.CheckConstraint(
                condition=Q(endpoint__in=Endpoint.values), name="rpc_call_endpoint_known"
            ),
            models.CheckConstraint(
                condition=Q(question__in=Question.values), name="rpc_call_question_known"
            ),
            models.CheckConstraint(
                condition=Q(outcome__in=CallOutcome.values), name="rpc_call_outcome_known"
            ),
            models.CheckConstraint(condition=Q(count__gt=0), name="rpc_call_counts"),
        ]
        # None holds what an update changes: PostgreSQL then touches no index for it.
        indexes = [
            models.Index(fields=["-bucket", "-id"], name="rpc_call_time"),
            models.Index(fields=["outcome", "-bucket", "-id"], name="rpc_call_outcome"),
            models.Index(
                fields=["subject", "-bucket", "-id"],
                name="rpc_call_subject",
                opclasses=["varchar_pattern_ops", "timestamptz_ops", "int8_ops"],
            ),
            models.Index(
                fields=["destination", "-bucket", "-id"],
                name="rpc_call_destination",
                opclasses=["varchar_pattern_ops", "timestamptz_ops", "int8_ops"],
                condition=~Q(destination=""),
            ),
            models.Index(fields=["-bucket"], name="rpc_call_others", condition=Q(others=True)),
            models.Index(fields=["caller", "-bucket", "-id"], name="rpc_call_caller"),
            models.Index(
                fields=["caller"], name="rpc_call_let_in", condition=~Q(question="caller")
            ),
        ]

    def __str__(self) -> str:
        asked = " ".join(filter(None, (self.subject, self.command, self.destination)))
        reason = reasons().get(self.reason, self.reason)
        return f"{in_utc(self.bucket)} {asked}: {reason} × {self.count}"

    @property
    def why(self) -> str:
        """The reason in words, for staff: whom it is about, and whether the row is many."""
        # Django's `get_reason_display` translates the texts of all reasons, for each row of a page.
        text = str(reasons().get(self.reason, self.reason))
        if self.question == Question.CALLER:
            text = gettext("the caller was not let in: %(reason)s") % {"reason": text}
        return gettext("%(reason)s (others)") % {"reason": text} if self.others else text
