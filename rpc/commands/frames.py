"""Read and write frames of the Cesanta protocol.

(contract: Cesanta command endpoint, "Version 1" and "Version 2".)
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec.structs import replace

from rpc.journal import Entry

MAX_COMMANDS = 1000
MAX_ID = 2**63 - 1
NOTHING: Mapping[str, Any] = MappingProxyType({})

OK = 0
BAD_REQUEST = 400
UNAUTHORIZED = 401
FORBIDDEN = 403
NOT_FOUND = 404
INTERNAL_ERROR = 500
UNAVAILABLE = 503
DEADLINE_EXCEEDED = 504

MESSAGES = {
    UNAUTHORIZED: "authentication required",
    FORBIDDEN: "not allowed",
    INTERNAL_ERROR: "internal error",
    UNAVAILABLE: "service unavailable",
    DEADLINE_EXCEEDED: "deadline exceeded",
}


class InvalidFrame(ValueError):
    """The body is no frame; the text says why."""


class Call(msgspec.Struct, frozen=True):
    """One command of a frame as it stands there. `id` is None where it is missing."""

    name: str
    id: int | None
    args: Any
    deadline: Any


class Result(msgspec.Struct, frozen=True):
    """What became of one call: a status, and a value (None for none) or a message.

    `entry` is what the journal keeps of a question that was answered.
    """

    status: int
    value: Any = None
    message: str = ""
    entry: Entry | None = None

    @classmethod
    def failure(cls, status: int, message: str = "") -> "Result":
        """Return a failure, with the status's own message unless another is given."""
        return cls(status, message=message or MESSAGES[status])


class Frame(msgspec.Struct, frozen=True):
    """A request frame. `src` and `dst` are addresses, None where they are missing.

    `echoed` are the members that the reply repeats as they are.
    """

    version: int
    src: str | None
    dst: str | None
    key: Any
    calls: Sequence[Call]
    no_reply: bool = False
    echoed: Mapping[str, Any] = NOTHING

    def with_arguments(self, arguments: Any) -> "Frame":
        return replace(self, calls=[replace(self.calls[0], args=arguments)])

    def reply(self, results: Sequence[Result]) -> dict[str, Any]:
        """Return the reply frame that carries the results, one a call and in their order."""
        reply: dict[str, Any] = {"v": self.version}
        if self.dst is not None:
            reply["src"] = self.dst
        if self.src is not None:
            reply["dst"] = self.src
        if self.version == 1:
            reply["resp"] = [
                _item(call, result) for call, result in zip(self.calls, results, strict=True)
            ]
        else:
            reply |= _outcome(self.calls[0], results[0])
        if self.echoed:
            reply |= self.echoed
        return reply


def _item(call: Call, result: Result) -> dict[str, Any]:
    """Return an item of a version 1 reply. The Java client fails at keys beside these."""
    item: dict[str, Any] = {"id": call.id or 0, "status": result.status}
    if result.status != OK:
        item["status_msg"] = result.message
    elif result.value is not None:
        item["resp"] = result.value
    return item


def _outcome(call: Call, result: Result) -> dict[str, Any]:
    outcome: dict[str, Any] = {} if call.id is None else {"id": call.id}
    if result.status != OK:
        outcome["error"] = {"code": result.status, "message": result.message}
    elif result.value is not None:
        outcome["result"] = result.value
    return outcome


def parse(content: Any) -> Frame:
    """Return the frame that a JSON value is; raises InvalidFrame."""
    if not isinstance(content, dict):
        raise InvalidFrame("not an object")
    version = _version(content)
    if version == 1:
        calls = _calls(content["cmds"])
    else:
        call = _call(content, content["method"], "method")
        calls = [replace(call, args=content["params"]) if "params" in content else call]
    return Frame(
        version,
        src=_address(content, "src"),
        dst=_address(content, "dst"),
        key=content.get("key"),
        calls=calls,
        no_reply=version != 1 and content.get("nr") is True,
        echoed={"tag": content["tag"]} if version != 1 and "tag" in content else NOTHING,
    )


def from_rest(name: str, call_id: str | None) -> Frame:
    """Return the frame that a command's own path stands for, its arguments still to come.

    `call_id` is the text of `?id=`. Raises InvalidFrame.
    """
    if call_id is None:
        number = None
    elif call_id.isascii() and call_id.isdigit() and len(call_id) <= len(str(MAX_ID)):
        number = int(call_id)
    else:
        number = -1
    call = {"args": {}} if number is None else {"args": {}, "id": number}
    return Frame(2, src=None, dst=None, key=None, calls=[_call(call, name, "method")])


def _version(content: dict[str, Any]) -> int:
    """Return the version that a frame is of: what it says, else what its members show."""
    if "cmds" not in content and "method" not in content:
        raise InvalidFrame("neither cmds nor method")
    version = content.get("v", 1 if "cmds" in content else 2)
    if type(version) is not int or version not in (1, 2):
        raise InvalidFrame("v must be 1 or 2")
    member = "cmds" if version == 1 else "method"
    if member not in content:
        raise InvalidFrame(f"{member} is required in version {version}")
    return version


def _address(content: dict[str, Any], member: str) -> str | None:
    address = content.get(member)
    if address is not None and not isinstance(address, str):
        raise InvalidFrame(f"{member} must be a string")
    return address


def _calls(cmds: Any) -> list[Call]:
    if not isinstance(cmds, list):
        raise InvalidFrame("cmds must be an array")
    if len(cmds) > MAX_COMMANDS:
        raise InvalidFrame(f"more than {MAX_COMMANDS} commands")
    calls = []
    for item in cmds:
        if not isinstance(item, dict):
            raise InvalidFrame("cmds must be an array of objects")
        calls.append(_call(item, item.get("cmd"), "cmd"))
    return calls


def _call(item: dict[str, Any], name: Any, member: str) -> Call:
    if not isinstance(name, str):
        raise InvalidFrame(f"{member} must be a string")
    call_id = item.get("id")
    if "id" in item and (type(call_id) is not int or not 0 <= call_id <= MAX_ID):
        raise InvalidFrame("id must be an integer from 0 to 2^63-1")
    return Call(name, call_id, item.get("args", {}), item.get("deadline"))
