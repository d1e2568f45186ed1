"""Answer the commands of the Auth service, and the greetings. (specification: Auth service.)"""

from collections.abc import Iterable, Sequence
from typing import Any

from acl.engine.decisions import Decision, Request, decide, decide_many
from devices.authentication import Attempt, authenticate_many
from devices.credentials.pre_shared_keys import StoredKey
from devices.values.addresses import AddressError, entity_id, is_storable
from rpc import journal
from rpc.commands.frames import OK, Result
from rpc.commands.registry import (
    DECISIONS,
    KEYS,
    SERVICES,
    Arguments,
    InvalidArguments,
    Wanted,
    command,
    services,
)

NOBODY = ""  # no entity has this ID: what an address that names nothing reduces to

SERVICES.update(
    {
        "/v1": "What every entity answers.",
        "/v1/Auth": (
            "Auth service performs authentication and authorization of devices and commands. "
            "Can only be used by the cloud backend."
        ),
        "/v1/Dispatcher": "What clients greet the dispatcher with.",
        "/v1/Services": "Services service tells which commands there are.",
    }
)

AUTHORIZE_COMMAND = {
    "doc": "AuthorizeCommand returns true if `src` is allowed to send a given command to `dst`.",
    "args": {
        "src": {"doc": "ID of the command sender.", "type": "string"},
        "dst": {"doc": "ID of the command recipient.", "type": "string"},
        "cmd": {"doc": "Command name.", "type": "string"},
    },
    "required_args": ["src", "dst", "cmd"],
    "result": {"doc": "`true` if the command is allowed, `false` otherwise.", "type": "boolean"},
}

AUTHENTICATE = {
    "doc": "Authenticate returns true if `id` is verified to have valid credentials.",
    "args": {
        "credentials": {
            "doc": (
                "Credentials presented by the entity. At least one of `psk` or `cert` must be "
                "present."
            ),
            "type": "object",
            "properties": {"psk": {"type": "string"}, "cert": {"type": "string"}},
        },
        "id": {"doc": "ID of an entity to authenticate.", "type": "string"},
    },
    "required_args": ["id", "credentials"],
    "result": {"doc": "`true` if credentials are valid, `false` otherwise.", "type": "boolean"},
}

GET_SERVICES = {
    "doc": "Get returns the definitions of all commands, by service.",
    "args": {},
    "required_args": [],
    "result": {"doc": "Services by their full names.", "type": "object"},
}

HELLO = {"doc": "Hello does nothing; clients greet with it.", "args": {}, "required_args": []}


def _entity(address: str) -> str:
    try:
        return entity_id(address)
    except AddressError:
        return NOBODY


def _request(arguments: Arguments) -> Request:
    return Request(_entity(arguments["src"]), _entity(arguments["dst"]), arguments["cmd"])


def _decision(arguments: Arguments) -> Wanted:
    return DECISIONS, _request(arguments)


@command("/v1/Auth.AuthorizeCommand", definition=AUTHORIZE_COMMAND, many=True, question=_decision)
def authorize_commands(
    calls: Sequence[Arguments], found: Iterable[tuple[Request, Decision]] | None = None
) -> list[Result]:
    """Whether each `src` may send `cmd` to `dst`; unknown entities may nothing.

    Many calls take as many statements as one, which other threads may share.
    """
    if found is None:
        requests = list(map(_request, calls))
        is_one = len(requests) == 1
        decisions = [decide(*requests[0])] if is_one else decide_many(requests)
        found = zip(requests, decisions, strict=True)
    return [_decided(call, *pair) for call, pair in zip(calls, found, strict=True)]


def _decided(arguments: Arguments, request: Request, decision: Decision) -> Result:
    if not request.source or not request.destination:  # named as it was asked
        request = Request(
            request.source or arguments["src"], request.destination or arguments["dst"], request[2]
        )
    return Result(OK, decision.allowed, entry=journal.of_decision(request, decision))


def _check_credentials(arguments: Arguments) -> None:
    """Refuse an Authenticate that presents nothing."""
    if not arguments["credentials"]:
        raise InvalidArguments("credentials must have psk or cert")


def _attempt(arguments: Arguments) -> Attempt:
    credentials = arguments["credentials"]
    return Attempt(_entity(arguments["id"]), credentials.get("psk"), credentials.get("cert"))


def _keys(arguments: Arguments) -> Wanted | None:
    """Return what Authenticate asks; None of a certificate, and of what no database takes."""
    identifier = _entity(arguments["id"])
    if "cert" in arguments["credentials"] or not is_storable(identifier):
        return None
    return KEYS, identifier


@command(
    "/v1/Auth.Authenticate",
    definition=AUTHENTICATE,
    many=True,
    check=_check_credentials,
    question=_keys,
)
def authenticate(
    calls: Sequence[Arguments],
    found: Iterable[tuple[str, Sequence[StoredKey] | None]] | None = None,
) -> list[Result]:
    """Whether each `id` holds each of the credentials presented; many calls cost one statement."""
    stored = None if found is None else {identifier: keys or () for identifier, keys in found}
    verdicts = authenticate_many(list(map(_attempt, calls)), stored=stored)
    return [
        Result(
            OK,
            verdict.verified,
            entry=journal.of_verdict(_entity(call["id"]) or call["id"], verdict),
        )
        for call, verdict in zip(calls, verdicts, strict=True)
    ]


@command("/v1/Hello", "/v1/Dispatcher.Hello", definition=HELLO, needs_database=False)
def hello() -> None:
    """Return nothing: the greeting itself is the answer."""


@command("/v1/Services.Get", "/v1/Services.List", definition=GET_SERVICES, needs_database=False)
def get_services() -> dict[str, Any]:
    """Return the very definitions that arguments are held against."""
    return services()
