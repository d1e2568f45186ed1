"""The machine endpoints: read, let in, ask, answer; every failure is answered in one hook."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from time import perf_counter
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qsl

import msgspec
from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import APIException, MethodNotAllowed
from rest_framework.views import APIView

from devices import telemetry
from devices.authentication import authenticate
from devices.credentials.pre_shared_keys import StoredKey
from devices.database.outages import OutageLog
from devices.database.slots import SLOTS, NoSlotError
from devices.database.statements import MustWait
from devices.verdicts import Outcome
from rpc import journal
from rpc.authentication import NO_CLAIM, BackendCaller, Caller, Claim, claimed, source_address
from rpc.codec import BodyCutOff, BodyTooLarge, NotJson, Reply, decode, encode, read_body
from rpc.commands import execution, frames
from rpc.commands.execution import Plan
from rpc.commands.frames import Frame, InvalidFrame, Result
from rpc.commands.registry import KEYS, Known, Questions
from rpc.journal import Entry
from rpc.models import CallReason, Endpoint, Question
from rpc.rtio import one_time_secrets

log = logging.getLogger(__name__)
outages = OutageLog(log)

UNREADABLE = (MethodNotAllowed, BodyTooLarge, BodyCutOff, NotJson, InvalidFrame)
UNREACHABLE = (OperationalError, InterfaceError)
INVALID = Entry(Question.CALL, CallReason.INVALID_BODY)
NO_SLOT = nullcontext()
BEGAN = "authsite.began"  # where in a request's environment is when it came, if it waited since

# Why a call failed, as the journal has it; the first that fits.
REASONS = (
    (BodyTooLarge, CallReason.TOO_LARGE),
    (BodyCutOff, CallReason.CUT_OFF),
    ((NotJson, InvalidFrame), CallReason.INVALID_BODY),
    (NoSlotError, CallReason.BUSY),
    (UNREACHABLE, CallReason.UNAVAILABLE),
    (Exception, CallReason.INTERNAL_ERROR),
)


class Exchange(msgspec.Struct):
    """One request and what became of it so far: read, let in, answered."""

    meta: Mapping[str, Any]
    began: float = 0.0
    content: Any = None  # the JSON value or the Frame that the body is
    failure: Exception | None = None  # why there is none
    claim: Claim = NO_CLAIM  # what the body says of its sender, if its protocol has that
    caller: Caller | None = None
    plan: Plan | None = None  # of the calls of a Frame
    # What the database answered, or why it did not, where it was asked beforehand.
    known: Known | Exception | None = None

    def __post_init__(self) -> None:
        self.began = self.meta.get(BEGAN) or perf_counter()

    @property
    def backend(self) -> str | None:
        """The backend that calls; None of a caller that is known by its address alone."""
        return self.caller.identifier if self.caller is not None else None


class MachineView(APIView):
    """A view that only the backend may call, and that answers nothing but its protocol's JSON.

    `dispatch` answers Django; a server that knows `respond` calls it with the WSGI environment,
    since Django's request and response objects cost as much as the check itself. Of REST framework
    stay APIView, exceptions and the hook for failures. Nothing is negotiated: machines send no
    headers for it, or wrong ones (`rpc.codec`).

    A subclass says how a request is read (`read`), answered (`answer`) and refused (`refuse`), and
    keeps nothing of it: one instance answers all, and what is known of a request is in its
    Exchange.
    """

    authenticator = BackendCaller()
    endpoint: Endpoint  # as the journal calls it
    body_limit: int  # bytes
    asks_caller_first = True  # before what is wrong with the request is told

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        reply = self.respond(request.META)
        response = HttpResponse(reply.body, status=reply.status, headers=dict(reply.headers))
        if not reply.body:
            del response.headers["Content-Type"]
        return response

    def respond(self, meta: Mapping[str, Any]) -> Reply:
        """Read, let in, answer.

        The body is read before a slot is held: whoever sends it slowly holds nothing.
        """
        exchange = Exchange(meta)
        try:
            try:
                exchange.content = self.read(exchange)
            except UNREADABLE as error:
                if not self.asks_caller_first:
                    raise
                exchange.failure = error
            slots = exchange.meta.get(SLOTS) if self.needs_slot(exchange) else None
            with slots or NO_SLOT:
                exchange.caller = self.authenticator.caller_of(meta, exchange.claim)
                if exchange.failure is not None:
                    raise exchange.failure  # noqa: TRY301
                reply, entries = self.answer(exchange)
        except Exception as error:  # noqa: BLE001 - answered in the protocol's shape
            return self.handle_exception(error, exchange)
        return self.answered(exchange, reply, entries)

    def begin(self, meta: Mapping[str, Any]) -> tuple[Exchange, Questions] | None:
        """Return a request as far as it goes without a wait, and what to ask the database next.

        None where there is more to it than that: `respond` answers then, and may wait.
        """
        exchange = Exchange(meta)
        try:
            exchange.content = self.read(exchange)
            if exchange.failure is not None:
                return None
            if self.authenticator.needs_database(meta, exchange.claim):
                return None
            exchange.caller = self.authenticator.caller_by_address(meta)
            questions = self.questions(exchange)
        except Exception:  # noqa: BLE001 - `respond` meets it again, and answers
            return None
        return None if questions is None else (exchange, questions)

    def questions(self, exchange: Exchange) -> Questions | None:
        """Return all that the answer is asked of the database; None where that cannot be said."""
        return None

    def finish(self, exchange: Exchange, known: Known | Exception) -> Reply:
        """Answer by what the database said; raises MustWait where that is not enough."""
        exchange.known = known
        try:
            reply, entries = self.answer(exchange)
        except MustWait:
            raise
        except Exception as error:  # noqa: BLE001 - answered in the protocol's shape
            return self.handle_exception(error, exchange)
        return self.answered(exchange, reply, entries)

    def answered(self, exchange: Exchange, reply: Reply, entries: Iterable[Entry]) -> Reply:
        """Count what was answered, and return it."""
        caller = exchange.caller or Caller(None, source_address(exchange.meta))
        journal.journal.record(self.endpoint, caller.identifier or caller.address or "", entries)
        if telemetry.listener is not telemetry.NOBODY:
            telemetry.listener.timed(self.endpoint, perf_counter() - exchange.began)
        return reply

    def read(self, exchange: Exchange) -> Any:
        """Return what the body holds, without asking the database; raises one of UNREADABLE."""
        if (method := exchange.meta["REQUEST_METHOD"]) != "POST":
            raise MethodNotAllowed(method)
        return decode(read_body(exchange.meta, limit=self.body_limit))

    def needs_slot(self, exchange: Exchange) -> bool:
        """Whether the answer is asked of the database, or may be."""
        return True

    def answer(self, exchange: Exchange) -> tuple[Reply, Iterable[Entry]]:
        """Return the answer for a caller who was let in, and what the journal keeps of it."""
        raise NotImplementedError

    def refuse(self, error: Exception, exchange: Exchange) -> Reply:
        """Return the protocol's answer to whatever went wrong."""
        raise NotImplementedError

    def handle_exception(self, exc: Exception, exchange: Exchange) -> Reply:  # type: ignore[override]
        """Answer any failure in the protocol's shape; the unexpected ones leave a log line."""
        reply = self.refuse(exc, exchange)
        if isinstance(exc, MethodNotAllowed):
            reply = reply._replace(more=(("Allow", "POST"),))
        elif isinstance(exc, APIException):
            if exc.status_code == frames.UNAUTHORIZED:
                more = (("WWW-Authenticate", self.authenticator.challenge),)
                reply = reply._replace(more=more)
        elif isinstance(exc, UNREACHABLE):
            outages.note(f"{type(self).__name__} failed", exc)
            if not isinstance(exc, NoSlotError):
                telemetry.listener.database_failed(DEFAULT_DB_ALIAS)
        elif not isinstance(exc, UNREADABLE):
            log.error("%s failed", type(self).__name__, exc_info=exc)
        return self.answered(exchange, reply, [self.entry_of(exc, exchange)])

    def entry_of(self, error: Exception, exchange: Exchange) -> Entry:
        """Return what the journal keeps of a call that failed: nothing of its body."""
        if isinstance(error, APIException):  # its code, which Django writes with underscores
            reason = str(error.get_codes()).replace("_", "-")
        else:
            reason = next(reason for kinds, reason in REASONS if isinstance(error, kinds))
        if exchange.caller is not None:
            return Entry(Question.CALL, reason)
        return Entry(Question.CALLER, reason, claimed(exchange.meta, exchange.claim))


class Asked(NamedTuple):
    """What one of RTIO's questions is answered with; `more` stands beside its `id` and `code`."""

    code: str
    entry: Entry
    more: Mapping[str, object] | None = None
    status: int = 200


class RtioView(MachineView):
    """One of RTIO's questions: `{"id":…,"method":…,…}`. (contract: RTIO device verifier.)

    RTIO takes `"code":"OK"` alone for a success, whatever the status: no other answer may hold it.
    A subclass says what `method` is and answers the rest (`ask`).
    """

    method: str
    codes: ClassVar[Mapping[str, str]]  # what each says
    failures: ClassVar[Mapping[str, str]] = {  # the codes that say the same of most questions
        "BAD_REQUEST": (
            "Not a JSON object; a field missing or of the wrong type; `id` out of its range; with "
            "HTTP 401, 403 or 413: the caller is not allowed, or the body is too large."
        ),
        "INTERNAL_SERVER_ERROR": "The database cannot be reached, or something unexpected.",
    }
    nothing: ClassVar[Mapping[str, object] | None] = None  # beside a code that is no success
    deviceid_length = range(30, 41)  # characters
    body_limit = 64 * 1024
    id_limit = 2**32

    def answer(self, exchange: Exchange) -> tuple[Reply, Iterable[Entry]]:
        """Hold a body against what every question of RTIO's has, then ask."""
        content = exchange.content
        request_id = self.id_of(content)
        method = None if request_id is None else content.get("method")
        if not isinstance(method, str):
            asked = Asked("BAD_REQUEST", INVALID)
        elif method != self.method:
            unknown = Entry(Question.CALL, CallReason.UNKNOWN_METHOD)
            asked = Asked("METHOD_NOT_ALLOWED", unknown)
        else:
            asked = self.ask(content, exchange)
        reply = self.reply(request_id or 0, asked.code, more=asked.more, status=asked.status)
        return reply, (asked.entry,)

    def ask(self, content: Mapping[str, Any], exchange: Exchange) -> Asked:
        """Return the answer to a question whose `id` and `method` are right."""
        raise NotImplementedError

    def id_of(self, content: Any) -> int | None:
        """Return the `id` that a body has, None where it has none that is valid."""
        request_id = content.get("id") if isinstance(content, dict) else None
        if type(request_id) is not int or not 0 <= request_id < self.id_limit:
            return None
        return request_id

    def reply(
        self,
        request_id: int,
        code: str,
        *,
        more: Mapping[str, object] | None = None,
        status: int = 200,
    ) -> Reply:
        """Return the one shape that the path ever answers in."""
        more = more or self.nothing
        if more is not None:
            return Reply(encode({"id": request_id, "code": code, **more}), status)
        return Reply(b'{"id":%d,"code":"%s"}' % (request_id, code.encode()), status)

    def refuse(self, error: Exception, exchange: Exchange) -> Reply:
        """Return the code for a failure; the HTTP status is only there for people."""
        if isinstance(error, MethodNotAllowed):
            return self.reply(0, "METHOD_NOT_ALLOWED", status=405)
        if isinstance(error, APIException):
            return self.reply(0, "BAD_REQUEST", status=error.status_code)
        if isinstance(error, BodyTooLarge):
            return self.reply(0, "BAD_REQUEST", status=413)
        if isinstance(error, NotJson | BodyCutOff):
            return self.reply(0, "BAD_REQUEST")
        return self.reply(self.id_of(exchange.content) or 0, "INTERNAL_SERVER_ERROR")


class DeviceVerifier(RtioView):
    """RTIO's question about each device that connects. (contract: RTIO device verifier.)"""

    endpoint = Endpoint.VERIFIER
    method = "verify"
    codes: ClassVar[Mapping[str, str]] = {
        "OK": "The device is registered, enabled, and the secret is one of its keys now.",
        "NOT_FOUND": "No such device, or an id that is not 30 to 40 characters long.",
        "VERIFICATION_FAILED": (
            "Wrong, expired, revoked or not yet valid secret, no secret on record, disabled "
            "device, too many failures, or a secret that is not 3 to 128 characters long."
        ),
        "METHOD_NOT_ALLOWED": "`method` is not `verify`; with HTTP 405: not a POST.",
        **RtioView.failures,
    }
    devicesecret_length = range(3, 129)

    def ask(self, content: Mapping[str, Any], exchange: Exchange) -> Asked:
        """Return the code for a device and its secret."""
        identifier, secret = content.get("deviceid"), content.get("devicesecret")
        if not isinstance(identifier, str) or not isinstance(secret, str):
            return Asked("BAD_REQUEST", INVALID)
        if len(identifier) not in self.deviceid_length:
            entry = Entry(Question.CREDENTIAL, CallReason.IDENTIFIER_LENGTH, identifier)
            return Asked("NOT_FOUND", entry)
        if len(secret) not in self.devicesecret_length:
            entry = Entry(Question.CREDENTIAL, CallReason.SECRET_LENGTH, identifier)
            return Asked("VERIFICATION_FAILED", entry)
        stored: Sequence[StoredKey] | None = None
        if isinstance(exchange.known, Exception):
            raise exchange.known
        if exchange.known is not None:
            stored = exchange.known[KEYS].get(identifier, ())
        elif one_time_secrets.is_one_time(secret):
            accepted = one_time_secrets.use(identifier, secret, exchange.backend)
            if accepted is not None:  # else it is a secret like any other, of the same form
                return self.ended(identifier, accepted=accepted)
        verdict = authenticate(identifier, secret=secret, stored=stored)
        if verdict.outcome is Outcome.VERIFIED:
            code = "OK"
        elif verdict.outcome is Outcome.UNKNOWN_DEVICE:
            code = "NOT_FOUND"
        else:
            code = "VERIFICATION_FAILED"
        return Asked(code, journal.of_verdict(identifier, verdict))

    def questions(self, exchange: Exchange) -> Questions | None:
        """Return whose keys to ask for; a secret that may end a session is another matter."""
        content = exchange.content
        identifier, secret = content["deviceid"], content["devicesecret"]
        if (
            len(identifier) in self.deviceid_length
            and identifier.isprintable()  # else it may be what no database takes
            and not secret.startswith(one_time_secrets.PREFIX)
        ):
            return {KEYS: [identifier]}
        return None

    @staticmethod
    def ended(identifier: str, *, accepted: bool) -> Asked:
        """Return the answer to a secret that ends a session: no evidence of the device."""
        reason = CallReason.SESSION_ENDED if accepted else CallReason.ENDING_REFUSED
        entry = Entry(Question.CALL, reason, identifier, known=True)
        return Asked("OK" if accepted else "VERIFICATION_FAILED", entry)


class CommandEndpoint(MachineView):
    """The Cesanta cloud's question frames. (contract: Cesanta command endpoint.)"""

    endpoint = Endpoint.FRAMES
    body_limit = 256 * 1024
    asks_caller_first = False  # a frame says who sends it
    as_array = False  # whether replies come in an array, without being asked for by the query

    def read(self, exchange: Exchange) -> Frame:
        frame = frames.parse(super().read(exchange))
        exchange.claim = Claim(frame.src, frame.key)
        return frame

    def needs_slot(self, exchange: Exchange) -> bool:
        """Whether any command is asked of the database, or the caller shows a credential."""
        return self.authenticator.needs_database(
            exchange.meta, exchange.claim
        ) or execution.need_database(exchange.content.calls)

    def questions(self, exchange: Exchange) -> Questions | None:
        """Return what the commands ask, where the loop may take so many."""
        exchange.plan = execution.plan(exchange.content.calls)
        return exchange.plan.questions()

    def answer(self, exchange: Exchange) -> tuple[Reply, Iterable[Entry]]:
        """Answer with a reply frame: a result for each command, in order."""
        frame: Frame = exchange.content
        plan = exchange.plan or execution.plan(frame.calls)
        results = execution.run(plan, exchange.known)
        entries = map(execution.entry_of, frame.calls, results)
        return self.reply(exchange, results), entries

    def reply(self, exchange: Exchange, results: list[Result], *, status: int = 200) -> Reply:
        """Return the reply frame; as an array for clients that ask for one."""
        frame: Frame = exchange.content
        if frame.no_reply and status == 200:  # noqa: PLR2004
            return Reply(b"", 204)
        reply: Any = frame.reply(results)
        if self.as_array or query_of(exchange.meta).get("reply") == "array":
            reply = [reply]
        return Reply(encode(reply), status)

    def refuse(self, error: Exception, exchange: Exchange) -> Reply:
        """Return the refusal of a readable frame, or an error object for what is none."""
        if isinstance(error, MethodNotAllowed):
            return self.error(405, "only POST is answered here")
        if isinstance(error, UNREACHABLE):
            return self.error(503, frames.MESSAGES[frames.UNAVAILABLE])
        if exchange.content is not None and isinstance(error, APIException):
            status = error.status_code
            refusals = [Result.failure(status)] * len(exchange.content.calls)
            return self.reply(exchange, refusals, status=status)
        if isinstance(error, BodyTooLarge):
            return self.error(413, f"invalid frame: larger than {self.body_limit} bytes")
        if isinstance(error, NotJson | InvalidFrame):
            return self.error(400, f"invalid frame: {error}")
        if isinstance(error, BodyCutOff):
            return self.error(400, "invalid frame: cut off")
        return self.error(500, frames.MESSAGES[frames.INTERNAL_ERROR])

    @staticmethod
    def error(status: int, message: str) -> Reply:
        """Return the answer to what was no frame."""
        return Reply(encode({"error": {"code": status, "message": message}}), status)


class CommandPath(CommandEndpoint):
    """One command at a path of its own, the REST form: the body holds its arguments.

    Answered as a version 2 frame without `src` and `dst`. (contract: Cesanta command endpoint.)
    """

    endpoint = Endpoint.REST

    def read(self, exchange: Exchange) -> Frame:
        """Return the frame that path, query and body stand for; without a body, no arguments."""
        if (method := exchange.meta["REQUEST_METHOD"]) != "POST":
            raise MethodNotAllowed(method)
        name = exchange.meta["PATH_INFO"].encode("latin-1").decode(errors="replace")
        frame = frames.from_rest(name, query_of(exchange.meta).get("id"))
        try:
            body = read_body(exchange.meta, limit=self.body_limit)
            return frame.with_arguments(decode(body)) if body else frame
        except (BodyTooLarge, BodyCutOff, NotJson) as error:
            exchange.failure = error  # told to who is let in
            return frame


def query_of(meta: Mapping[str, Any]) -> dict[str, str]:
    """Return the parts of the query; of duplicates the last one."""
    # Django refuses a query of more than a thousand parts, in HTML where a refusal is answered.
    query = meta.get("QUERY_STRING")
    return dict(parse_qsl(query, keep_blank_values=True)) if query else {}
