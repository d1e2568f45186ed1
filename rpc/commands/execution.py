"""Run the commands of a frame: each gets its result, one that fails leaves the others be."""

import logging
import time
from collections.abc import Sequence
from typing import Any, cast

import msgspec
from django.db import InterfaceError, OperationalError

from devices.credentials import throttle
from devices.database.outages import OutageLog
from devices.database.statements import MustWait
from rpc.commands import auth  # noqa: F401 - registers the commands
from rpc.commands.frames import (
    BAD_REQUEST,
    DEADLINE_EXCEEDED,
    INTERNAL_ERROR,
    NOT_FOUND,
    OK,
    UNAVAILABLE,
    Call,
    Result,
)
from rpc.commands.registry import (
    COMMANDS,
    Arguments,
    Command,
    InvalidArguments,
    Known,
    Questions,
    Wanted,
    is_number,
)
from rpc.journal import Entry
from rpc.models import CallReason, Question

# How long one frame may spend on checking secrets that may be weak: what is left of them then is
# answered as throttled.
GUESSING_SECONDS = 4.0

# Why a call has no answer, or none worth more than that.
REASONS = {
    OK: CallReason.ANSWERED,
    BAD_REQUEST: CallReason.INVALID_ARGUMENTS,
    NOT_FOUND: CallReason.UNKNOWN_COMMAND,
    INTERNAL_ERROR: CallReason.INTERNAL_ERROR,
    UNAVAILABLE: CallReason.UNAVAILABLE,
    DEADLINE_EXCEEDED: CallReason.DEADLINE_EXCEEDED,
}

log = logging.getLogger(__name__)
outages = OutageLog(log)


class Plan(msgspec.Struct, frozen=True):
    """The calls of a frame: what is refused of them already, and what can be run, by command."""

    results: list[Result | None]
    runnable: "dict[str, list[_Runnable]]"

    def questions(self) -> Questions | None:
        """Return all that the calls ask of the database; None where that cannot be said."""
        asked: dict[str, list[Any]] = {}
        for command_name, batch in self.runnable.items():
            command = COMMANDS[command_name]
            if not command.needs_database:
                continue
            for one in batch:
                one.question = command.question and command.question(one.arguments)
                if one.question is None:
                    return None
                name, question = one.question
                asked.setdefault(name, []).append(question)
        return asked


def plan(calls: Sequence[Call]) -> Plan:
    """Hold the calls against the definitions of their commands."""
    now = time.time()
    results: list[Result | None] = []
    runnable: dict[str, list[_Runnable]] = {}
    for position, call in enumerate(calls):
        try:
            command, arguments = _prepare(call, now)
        except _Refused as refusal:
            results.append(refusal.result)
            continue
        results.append(None)
        runnable.setdefault(command.name, []).append(_Runnable(position, arguments, call.deadline))
    return Plan(results, runnable)


def run(planned: Plan, known: Known | Exception | None = None) -> list[Result]:
    """Return the results of the calls, in their order.

    Calls of one command that can answer many at once are asked together, so that their cost in
    statements does not grow with their number. Nothing is asked where the answers are `known`, or
    why there are none; MustWait is raised where they are not enough.
    """
    if known is None:
        with throttle.within(GUESSING_SECONDS):
            _run(planned, known)
    else:  # what is answered by what is known hashes nothing
        _run(planned, known)
    return [result for result in planned.results if result is not None]


def _run(planned: Plan, known: Known | Exception | None) -> None:
    """Put the answers to what can be run among the results."""
    for name, batch in planned.runnable.items():
        answers = _answers(COMMANDS[name], batch, known)
        for one, answer in zip(batch, answers, strict=True):
            planned.results[one.position] = answer


def need_database(calls: Sequence[Call]) -> bool:
    return any(call.name in COMMANDS and COMMANDS[call.name].needs_database for call in calls)


def entry_of(call: Call, result: Result) -> Entry:
    return result.entry or Entry(Question.CALL, REASONS[result.status], command=call.name)


class _Runnable(msgspec.Struct):
    """A call that may be run: its place in the frame, its arguments, its deadline if it has one.

    `question` is what it asks, once that was looked at.
    """

    position: int
    arguments: Arguments
    deadline: float | None
    question: Wanted | None = None

    def is_late(self) -> bool:
        """Whether the deadline has passed, while those before it in the frame were run."""
        return self.deadline is not None and self.deadline < time.time()


class _Refused(Exception):
    """A call that is not run; `result` says why."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(status)
        self.result = Result.failure(status, message)


def _prepare(call: Call, now: float) -> tuple[Command, Arguments]:
    """Return the command that a call names and its validated arguments; raises _Refused."""
    if call.deadline is not None:
        if not is_number(call.deadline):
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


def _answers(
    command: Command, batch: Sequence[_Runnable], known: Known | Exception | None
) -> list[Result]:
    """Return the answers: asked for together where the command can; if that fails, singly."""
    if not command.many or (len(batch) == 1 and known is None):
        return [_answer(command, one) for one in batch]
    late = [one.is_late() for one in batch]
    in_time = batch
    if True in late:
        in_time = [one for one, is_late in zip(batch, late, strict=True) if not is_late]
    results = _guarded(command, in_time, known)
    if results and results[0].status == INTERNAL_ERROR:  # so have all
        if known is not None:
            raise MustWait
        return [_answer(command, one) for one in batch]
    if in_time is batch:
        return results
    answers = iter(results)
    return [Result.failure(DEADLINE_EXCEEDED) if is_late else next(answers) for is_late in late]


def _answer(command: Command, one: _Runnable) -> Result:
    return Result.failure(DEADLINE_EXCEEDED) if one.is_late() else _guarded(command, [one])[0]


def _values(
    command: Command, batch: Sequence[_Runnable], known: Known | Exception | None
) -> Sequence[Any]:
    """Run a command; of one that cannot answer many calls there is one in the batch."""
    if isinstance(known, Exception):
        raise known
    arguments = [one.arguments for one in batch]
    if not command.many:
        return [command.run(**arguments[0])]
    if known is None:
        return cast("Sequence[Any]", command.run(arguments))
    asked = [one.question for one in batch if one.question is not None]
    found = [(question, known[name].get(question)) for name, question in asked]
    return cast("Sequence[Any]", command.run(arguments, found))


def _guarded(
    command: Command, batch: Sequence[_Runnable], known: Known | Exception | None = None
) -> list[Result]:
    """Return the answers as results; a failure is logged whole and told without detail."""
    expected = len(batch)
    try:
        values = _values(command, batch, known)
        return [value if isinstance(value, Result) else Result(OK, value) for value in values]
    except InvalidArguments as error:
        return [Result.failure(BAD_REQUEST, str(error))] * expected
    except MustWait:
        raise
    except (OperationalError, InterfaceError) as error:
        outages.note(f"{command.name} failed", error)
        return [Result.failure(UNAVAILABLE)] * expected
    except Exception:
        log.exception("%s failed", command.name)
        return [Result.failure(INTERNAL_ERROR)] * expected
