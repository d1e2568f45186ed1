"""RTIO's other two questions: the hub configuration, and tokens for apps."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar

from django.conf import settings
from rest_framework.exceptions import NotAuthenticated

from acl.engine.decisions import Reason, Request, decide
from rpc import journal
from rpc.authentication import BackendCaller, Caller
from rpc.journal import Entry
from rpc.models import CallReason, DeviceServiceRoute, Endpoint, Question
from rpc.rtio import tokens
from rpc.rtio.models.route import crc32
from rpc.views import INVALID, Asked, Exchange, RtioView, query_of


class HubConfiger(RtioView):
    """RTIO's question, every 5 s, for the routes of device services. (contract: RTIO hub.)"""

    endpoint = Endpoint.HUB
    method = "getconfig"
    nothing: ClassVar[Mapping[str, object]] = {"config": "", "digest": 0}
    codes: ClassVar[Mapping[str, str]] = {
        "OK": "The routes, and the CRC-32 of their text.",
        "METHOD_NOT_ALLOWED": "`method` is not `getconfig`; with HTTP 405: not a POST.",
        **RtioView.failures,
    }

    def ask(self, content: Mapping[str, Any], exchange: Exchange) -> Asked:
        """Return the routes on record, made with one statement."""
        text = DeviceServiceRoute.objects.all().config()
        entry = Entry(Question.CALL, CallReason.ANSWERED)
        return Asked("OK", entry, {"config": text, "digest": crc32(text)})


class IdentifiedCaller(BackendCaller):
    """Lets backends in that show who they are: an address alone has no permissions."""

    def caller_by_address(self, meta: Mapping[str, Any]) -> Caller:
        """Raise NotAuthenticated, whatever the address."""
        raise NotAuthenticated


class JwtIssuer(RtioView):
    """An app's question for a token with which it may reach a device. (contract: RTIO tokens.)

    The rules decide: the caller needs one that allows it to send the command `/rtio/Jwt.Issue` to
    the device. `?key=ID` asks for another than the first of the configured keys.
    """

    endpoint = Endpoint.ISSUER
    method = "jwtissuer"
    authenticator = IdentifiedCaller()
    codes: ClassVar[Mapping[str, str]] = {
        "OK": "A token for the device.",
        "NOT_FOUND": "No such device, a disabled one, or an id that is not 30 to 40 characters.",
        "METHOD_NOT_ALLOWED": "`method` is not `jwtissuer`; with HTTP 405: not a POST.",
        "BAD_REQUEST": (
            "Not a JSON object; a field missing or of the wrong type; `id` or `expires` out of its "
            "range; no such key; with HTTP 401: the caller shows no credential of a backend; with "
            "403: no rule allows the caller `/rtio/Jwt.Issue` for the device; with 413: the body "
            "is too large."
        ),
        "INTERNAL_SERVER_ERROR": (
            "No key is configured to sign with; the database cannot be reached, or something "
            "unexpected."
        ),
    }
    expires_range = range(1, tokens.MAX_SECONDS + 1)

    def ask(self, content: Mapping[str, Any], exchange: Exchange) -> Asked:
        """Return a token, if the rules let the caller have one for the device."""
        identifier = content.get("deviceid")
        seconds = content.get("expires", tokens.MAX_SECONDS)
        if not isinstance(identifier, str):
            return Asked("BAD_REQUEST", INVALID)
        if type(seconds) is not int or seconds not in self.expires_range:
            return Asked("BAD_REQUEST", INVALID)
        keys = settings.JWT_SIGNING_KEYS  # the one in use first; none where the issuer is off
        if not keys:
            return Asked("INTERNAL_SERVER_ERROR", Entry(Question.CALL, CallReason.NO_SIGNING_KEY))
        key = query_of(exchange.meta).get("key", next(iter(keys)))
        if key not in keys:
            return Asked("BAD_REQUEST", INVALID)
        if len(identifier) not in self.deviceid_length:
            entry = Entry(Question.CALL, CallReason.IDENTIFIER_LENGTH, identifier)
            return Asked("NOT_FOUND", entry)
        asked = Request(exchange.backend or "", identifier, tokens.COMMAND)
        decision = decide(*asked)
        entry = journal.of_decision(asked, decision)
        if decision.reason in (Reason.UNKNOWN_DESTINATION, Reason.DISABLED_DESTINATION):
            return Asked("NOT_FOUND", entry)
        if not decision.allowed:
            return Asked("BAD_REQUEST", entry, status=HTTPStatus.FORBIDDEN)
        return Asked("OK", entry, {"jwt": tokens.issue(identifier, seconds, key=key)})
