"""Running the commands of a frame: each gets its result, one that fails leaves the others be."""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from django.db import InterfaceError, OperationalError

from devices import throttle
from rpc import commands  # noqa: F401 - registers the commands
from rpc.definitions import COMMANDS, Arguments, Command, InvalidArguments
from rpc.frames import (
    BAD_REQUEST,
    DEADLINE_EXCEEDED,
    INTERNAL_ERROR,
    NOT_FOUND,
    OK,
    UNAVAILABLE,
    Call,
    Result,
)

# How long one frame may spend on checking secrets that may be weak: what is left of them then is
# answered as throttled.
GUESSING_SECONDS = 2.0

log = logging.getLogger(__name__)


def run(calls: Sequence[Call]) -> list[Result]:
    """Return the results of the calls, in their order.

    Calls of one command that can answer many at once are asked together, so that their cost in
    statements does not grow with their number.
    """
    now = time.time()
    results: list[Result | None] = []
    runnable: dict[str, list[tuple[int, Arguments]]] = {}
    for position, call in enumerate(calls):
        try:
            command, arguments = _prepare(call, now)
        except _Refused as refusal:
            results.append(refusal.result)
            continue
        results.append(None)
        runnable.setdefault(command.name, []).append((position, arguments))
    with throttle.within(GUESSING_SECONDS):
        for name, batch in runnable.items():
            answers = _answers(COMMANDS[name], [arguments for _, arguments in batch])
            for (position, _), answer in zip(batch, answers, strict=True):
                results[position] = answer
    return [result for result in results if result is not None]


class _Refused(Exception):
    """A call that is not run; `result` says why."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(status)
        self.result = Result.failure(status, message)


def _prepare(call: Call, now: float) -> tuple[Command, Arguments]:
    """Return the command that a call names and its validated arguments; raises _Refused."""
    if call.deadline is not None:
        if type(call.deadline) not in (int, float):
            raise _Refused(BAD_REQUEST, "deadline must be a number of Unix seconds")
        if call.deadline < now:
            raise _Refused(DEADLINE_EXCEEDED)
    command = COMMANDS.get(call.name)
    if command is None:
        raise _Refused(NOT_FOUND, f"No handler for {call.name}")
    try:
        return command, command.arguments(call.args)
    except InvalidArguments as error:
        raise _Refused(BAD_REQUEST, str(error)) from error


def _answers(command: Command, batch: Sequence[Arguments]) -> list[Result]:
    if command.run_many is None or len(batch) == 1:
        return [_guarded(command, partial(_one, command, item), 1)[0] for item in batch]
    return _guarded(command, partial(command.run_many, batch), len(batch))


def _one(command: Command, arguments: Arguments) -> list[Any]:
    return [command.run(**arguments)]


def _guarded(command: Command, answer: Callable[[], Sequence[Any]], expected: int) -> list[Result]:
    """Return the answers as results; a failure is logged whole and told without detail."""
    try:
        return [Result(OK, value) for value in answer()]
    except InvalidArguments as error:
        return [Result.failure(BAD_REQUEST, str(error))] * expected
    except (OperationalError, InterfaceError):
        log.exception("%s: the database cannot be reached", command.name)
        return [Result.failure(UNAVAILABLE)] * expected
    except Exception:
        log.exception("%s failed", command.name)
        return [Result.failure(INTERNAL_ERROR)] * expected
