"""The commands that this registry answers. (specification: Auth service.)"""

from collections.abc import Sequence

from acl.decisions import Decision, Request
from acl.models import CommandPermission
from devices.addresses import AddressError, entity_id
from devices.models import Device
from rpc import journal
from rpc.definitions import Answer, Arguments, InvalidArguments, command

NOBODY = ""  # no entity has this ID: what an address that names nothing reduces to

AUTHORIZE_COMMAND = {
    "doc": "AuthorizeCommand returns true if `src` is allowed to send a given command to `dst`.",
    "args": {
        "src": {"doc": "ID of the command sender.", "type": "string"},
        "dst": {"doc": "ID of the command recipient.", "type": "string"},
        "cmd": {"doc": "Command name.", "type": "string"},
    },
    "required_args": ["src", "dst", "cmd"],
    "result": {
        "doc": "`true` if the command is allowed, `false` otherwise.",
        "type": "boolean",
    },
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

HELLO = {"doc": "Hello does nothing; clients greet with it.", "args": {}, "required_args": []}


def _entity(address: str) -> str:
    try:
        return entity_id(address)
    except AddressError:
        return NOBODY


@command("/v1/Auth.AuthorizeCommand", definition=AUTHORIZE_COMMAND)
def authorize_command(src: str, dst: str, cmd: str) -> Answer:
    """Whether `src` may send `cmd` to `dst`; unknown entities may nothing."""
    decision = CommandPermission.objects.decide(_entity(src), _entity(dst), cmd)
    return _decided(src, dst, cmd, decision)


@authorize_command.batch
def authorize_commands(calls: Sequence[Arguments]) -> list[Answer]:
    """Answer many calls of AuthorizeCommand with as many statements as one."""
    decisions = CommandPermission.objects.decide_many(
        [(_entity(call["src"]), _entity(call["dst"]), call["cmd"]) for call in calls]
    )
    return [
        _decided(**call, decision=decision) for call, decision in zip(calls, decisions, strict=True)
    ]


def _decided(src: str, dst: str, cmd: str, decision: Decision) -> Answer:
    request = Request(_entity(src) or src, _entity(dst) or dst, cmd)
    return Answer(decision.allowed, journal.of_decision(request, decision))


@command("/v1/Auth.Authenticate", definition=AUTHENTICATE)
def authenticate(id: str, credentials: Arguments) -> Answer:  # noqa: A002 - the protocol's name
    """Whether `id` holds each of the credentials presented."""
    if not credentials:
        raise InvalidArguments("invalid args for Authenticate: credentials must have psk or cert")
    verdict = Device.objects.authenticate(
        _entity(id), secret=credentials.get("psk"), certificate=credentials.get("cert")
    )
    return Answer(verdict.verified, journal.of_verdict(_entity(id) or id, verdict))


@command("/v1/Hello", "/v1/Dispatcher.Hello", definition=HELLO)
def hello() -> None:
    """Return nothing: the greeting itself is the answer."""
