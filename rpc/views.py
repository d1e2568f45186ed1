"""The two machine endpoints: parse, ask, answer; every failure is answered in one hook."""

import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import APIException, MethodNotAllowed
from rest_framework.views import APIView

from devices.authentication import authenticate
from devices.verdicts import Outcome
from rpc import frames, journal
from rpc.authentication import CLAIM, BackendCaller, Caller, Claim, claimed, source_address
from rpc.codec import (
    BodyCutOff,
    BodyTooLarge,
    JsonReply,
    NoReply,
    NotJson,
    body_of,
    decode,
    encode,
)
from rpc.commands import execution
from rpc.frames import Frame, InvalidFrame, Result
from rpc.journal import Entry
from rpc.models import CallReason, Endpoint, Question

log = logging.getLogger(__name__)

UNREADABLE = BodyTooLarge | BodyCutOff | NotJson | InvalidFrame


class MachineView(APIView):
    """A view that only the backend may call, and that answers nothing but its protocol's JSON.

    Of REST framework it takes dispatch, authentication and the hook for failures. Nothing is
    negotiated: machines send no headers for it, or wrong ones (`rpc.codec`).
    """

    authentication_classes = [BackendCaller]
    authenticators = (BackendCaller(),)
    http_method_names = ["post"]
    endpoint: Endpoint  # as the journal calls it
    body_limit: int  # bytes

    caller: Caller | None = None  # who was let in

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Let in, ask, answer: REST framework's order without its wrapper around the request.

        That would parse, negotiate and authenticate lazily, none of which has a use here.
        """
        self.headers: dict[str, str] = {}
        try:
            self.initial(request)
            if request.method != "POST":
                raise MethodNotAllowed(request.method or "")  # noqa: TRY301
            response: HttpResponse = self.post(request)
        except Exception as error:  # noqa: BLE001 - answered in the protocol's shape
            response = self.handle_exception(error)
        for name, value in self.headers.items():
            response.headers[name] = value
        return response

    def initial(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        """Let in only the backend; whoever else asks raises here, and is answered alike."""
        self.perform_authentication(request)

    def perform_authentication(self, request: HttpRequest) -> None:
        """Remember who is let in; raises where nobody is."""
        self.caller, _ = self.authenticators[0].authenticate(request)

    def post(self, request: HttpRequest) -> HttpResponse:
        """Return the answer for a caller who was let in."""
        raise NotImplementedError

    def claim(self) -> Claim:
        """Return what the body says of its sender; nothing, unless a protocol has such a thing."""
        return Claim()

    def failure(self, error: Exception) -> HttpResponse:
        """Return the protocol's answer to whatever went wrong."""
        raise NotImplementedError

    def handle_exception(self, exc: Exception) -> HttpResponse:  # type: ignore[override]
        """Answer any failure in the protocol's shape; the unexpected ones leave a log line."""
        if isinstance(exc, MethodNotAllowed):
            self.headers["Allow"] = "POST"
        elif isinstance(exc, APIException):
            auth_header = self.get_authenticate_header(self.request)
            if exc.status_code == frames.UNAUTHORIZED and auth_header:
                self.headers["WWW-Authenticate"] = auth_header
        elif not isinstance(exc, BodyTooLarge | BodyCutOff | NotJson | InvalidFrame):
            log.error("%s failed", type(self).__name__, exc_info=exc)
        self.note(self.entry_of(exc))
        return self.failure(exc)

    def note(self, entry: Entry) -> None:
        """Have the journal count a question."""
        caller = self.caller.name if self.caller else source_address(self.request.META)
        journal.journal.note(self.endpoint, caller or "", entry)

    def entry_of(self, error: Exception) -> Entry:
        """Return what the journal keeps of a call that failed: nothing of its body."""
        reason = reason_of(error)
        if self.caller is not None:
            return Entry(Question.CALL, reason)
        return Entry(Question.CALLER, reason, claimed(self.request.META, self.claim()))


def reason_of(error: Exception) -> str:
    """Return the journal's reason for a failure."""
    if isinstance(error, APIException):  # its code, which Django writes with underscores
        return str(error.get_codes()).replace("_", "-")
    for kinds, reason in (
        (BodyTooLarge, CallReason.TOO_LARGE),
        (BodyCutOff, CallReason.CUT_OFF),
        ((NotJson, InvalidFrame), CallReason.INVALID_BODY),
        ((OperationalError, InterfaceError), CallReason.UNAVAILABLE),
    ):
        if isinstance(error, kinds):
            return reason
    return CallReason.INTERNAL_ERROR


class DeviceVerifier(MachineView):
    """RTIO's question about each device that connects. (contract: RTIO device verifier.)

    RTIO admits a device on `"code":"OK"` alone, whatever the status: no other answer may hold it.
    """

    endpoint = Endpoint.VERIFIER
    codes: Mapping[str, str] = {
        "OK": "The device is registered, enabled, and the secret is one of its keys now.",
        "NOT_FOUND": "No such device, or an id that is not 30 to 40 characters long.",
        "VERIFICATION_FAILED": (
            "Wrong, expired, revoked or not yet valid secret, no secret on record, disabled "
            "device, too many failures, or a secret that is not 3 to 128 characters long."
        ),
        "METHOD_NOT_ALLOWED": "`method` is not `verify`; with HTTP 405: not a POST.",
        "BAD_REQUEST": (
            "Not a JSON object; a field missing or of the wrong type; `id` out of its range; with "
            "HTTP 401, 403 or 413: the caller is not allowed, or the body is too large."
        ),
        "INTERNAL_SERVER_ERROR": "The database cannot be reached, or something unexpected.",
    }
    body_limit = 64 * 1024
    id_limit = 2**32
    deviceid_length = range(30, 41)  # characters
    devicesecret_length = range(3, 129)

    request_id = 0
    entry = Entry(Question.CALL, CallReason.INVALID_BODY)

    def post(self, request: HttpRequest) -> HttpResponse:
        """Answer `{"id":…,"code":…}`."""
        content = decode(body_of(request.META, limit=self.body_limit))
        code = self.code_for(content)
        self.note(self.entry)
        return self.answer(code)

    def code_for(self, content: Any) -> str:
        """Return the code that a decoded body is answered with."""
        if not isinstance(content, dict):
            return "BAD_REQUEST"
        request_id = content.get("id")
        if type(request_id) is not int or not 0 <= request_id < self.id_limit:
            return "BAD_REQUEST"
        self.request_id = request_id
        method = content.get("method")
        if not isinstance(method, str):
            return "BAD_REQUEST"
        if method != "verify":
            self.entry = Entry(Question.CALL, CallReason.UNKNOWN_METHOD)
            return "METHOD_NOT_ALLOWED"
        identifier, secret = content.get("deviceid"), content.get("devicesecret")
        if not isinstance(identifier, str) or not isinstance(secret, str):
            return "BAD_REQUEST"
        if len(identifier) not in self.deviceid_length:
            self.entry = Entry(Question.CREDENTIAL, CallReason.IDENTIFIER_LENGTH, identifier)
            return "NOT_FOUND"
        if len(secret) not in self.devicesecret_length:
            self.entry = Entry(Question.CREDENTIAL, CallReason.SECRET_LENGTH, identifier)
            return "VERIFICATION_FAILED"
        verdict = authenticate(identifier, secret=secret)
        self.entry = journal.of_verdict(identifier, verdict)
        return self.code_of(verdict.outcome)

    @staticmethod
    def code_of(outcome: Outcome) -> str:
        """Return RTIO's code for an outcome."""
        if outcome is Outcome.VERIFIED:
            return "OK"
        return "NOT_FOUND" if outcome is Outcome.UNKNOWN_DEVICE else "VERIFICATION_FAILED"

    def answer(self, code: str, *, status: int = 200) -> HttpResponse:
        """Return the one shape that this path ever answers in."""
        return JsonReply(b'{"id":%d,"code":"%s"}' % (self.request_id, code.encode()), status)

    def failure(self, error: Exception) -> HttpResponse:
        """Return the code for a failure; the HTTP status is only there for people."""
        if isinstance(error, MethodNotAllowed):
            return self.answer("METHOD_NOT_ALLOWED", status=405)
        if isinstance(error, APIException):
            return self.answer("BAD_REQUEST", status=error.status_code)
        if isinstance(error, BodyTooLarge):
            return self.answer("BAD_REQUEST", status=413)
        if isinstance(error, NotJson | BodyCutOff):
            return self.answer("BAD_REQUEST")
        return self.answer("INTERNAL_SERVER_ERROR")


class CommandEndpoint(MachineView):
    """The Cesanta cloud's question frames. (contract: Cesanta command endpoint.)"""

    endpoint = Endpoint.FRAMES
    body_limit = 256 * 1024

    frame: Frame | None = None

    def initial(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        """Read the frame before anything else: it says who sends it."""
        if request.method != "POST":
            raise MethodNotAllowed(request.method or "")
        self.frame = frames.parse(decode(body_of(request.META, limit=self.body_limit)))
        request.META[CLAIM] = self.claim()
        super().initial(request, *args, **kwargs)

    def claim(self) -> Claim:
        """Return the frame's `src` and `key`."""
        return Claim(self.frame.src, self.frame.key) if self.frame else Claim()

    def post(self, request: HttpRequest) -> HttpResponse:
        """Answer with a reply frame: a result for each command, in order."""
        frame = self.frame
        if frame is None:  # pragma: no cover - `initial` reads it or raises
            raise InvalidFrame("missing")
        results = execution.run(frame.calls)
        for call, result in zip(frame.calls, results, strict=True):
            self.note(execution.entry_of(call, result))
        return self.reply(frame, results)

    def reply(self, frame: Frame, results: list[Result], *, status: int = 200) -> HttpResponse:
        """Return the reply frame; as an array for clients that ask for one."""
        if frame.no_reply and status == 200:  # noqa: PLR2004
            return NoReply()
        reply: Any = frame.reply(results)
        if self.query().get("reply") == "array":
            reply = [reply]
        return JsonReply(encode(reply), status)

    def query(self) -> dict[str, str]:
        """Return the parts of the query; of duplicates the last one."""
        # Django refuses a query of more than a thousand parts, in HTML where a refusal is answered.
        return dict(parse_qsl(self.request.META.get("QUERY_STRING", "")))

    def failure(self, error: Exception) -> HttpResponse:
        """Return the refusal of a readable frame, or an error object for what is none."""
        if isinstance(error, MethodNotAllowed):
            return self.error(405, "only POST is answered here")
        if isinstance(error, OperationalError | InterfaceError):
            return self.error(503, frames.MESSAGES[frames.UNAVAILABLE])
        if self.frame is not None and isinstance(error, APIException):
            status = error.status_code
            refusals = [Result.failure(status)] * len(self.frame.calls)
            return self.reply(self.frame, refusals, status=status)
        if isinstance(error, BodyTooLarge):
            return self.error(413, f"invalid frame: larger than {self.body_limit} bytes")
        if isinstance(error, NotJson | InvalidFrame):
            return self.error(400, f"invalid frame: {error}")
        if isinstance(error, BodyCutOff):
            return self.error(400, "invalid frame: cut off")
        return self.error(500, frames.MESSAGES[frames.INTERNAL_ERROR])

    @staticmethod
    def error(status: int, message: str) -> HttpResponse:
        """Return the answer to what was no frame."""
        return JsonReply(encode({"error": {"code": status, "message": message}}), status)


class CommandPath(CommandEndpoint):
    """One command at a path of its own, the REST form: the body holds its arguments.

    Answered as a version 2 frame without `src` and `dst`. (contract: Cesanta command endpoint.)
    """

    endpoint = Endpoint.REST

    def initial(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        """Read what the path and the query say; whoever asks shows it in the headers."""
        if request.method != "POST":
            raise MethodNotAllowed(request.method or "")
        self.frame = frames.of_rest(request.path_info, self.query().get("id"))
        self.perform_authentication(request)

    def post(self, request: HttpRequest) -> HttpResponse:
        """Read the arguments and answer; without a body there are none."""
        body = body_of(request.META, limit=self.body_limit)
        if body and self.frame is not None:
            self.frame = self.frame.with_arguments(decode(body))
        return super().post(request)
