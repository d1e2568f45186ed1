"""Where the changes of the running code come from, who makes them and why."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from devices.telemetry import request_id
from devices.values.text import MAX_QUOTED, storable

MAX_REASON_LENGTH = 255


class Origin(models.TextChoices):
    ADMIN = "admin", _("Admin")
    API = "api", _("API")
    COMMAND = "command", _("Command")
    IMPORT = "import", _("Import")
    SHELL = "shell", _("Shell or script")
    REGISTRY = "registry", _("The registry itself")


class ReasonTooLong(ValidationError):
    """A reason, with what the registry puts before it, does not fit into the history."""

    def __init__(self, reason: str) -> None:
        text = _("“%(begin)s…” has %(n)d characters; a reason has at most %(most)d. Shorten it.")
        given = {"begin": reason[:MAX_QUOTED], "n": len(reason), "most": MAX_REASON_LENGTH}
        super().__init__(text, code="too-long", params=given)


def check_reason(reason: str) -> None:
    """Raise ReasonTooLong where a reason is longer than what keeps it."""
    if len(reason) > MAX_REASON_LENGTH:
        raise ReasonTooLong(reason)


def because(cause: str, typed: str) -> str:
    """Return the reason that is kept: what made a change, and what somebody typed, if anything."""
    return ": ".join(filter(None, (cause, typed)))


class Source(NamedTuple):
    """Where changes come from, who makes them (an account or a name) and why.

    `reason` is a text, or a function that is asked for it when a change is written.
    """

    origin: Origin = Origin.SHELL
    user: object = ""
    reason: str | Callable[[], str] = ""
    batch: UUID | None = None


_source: ContextVar[Source] = ContextVar("source", default=Source())  # noqa: B039 (immutable)


@contextmanager
def origin(
    name: str, *, user: object = None, reason: str | Callable[[], str] = ""
) -> Iterator[None]:
    """Say where the changes within come from; what is not given stays as it is around it.

    `user` is a name or an account, which is asked for its name when a change is written, as is a
    function for the `reason`. What is changed within the outermost of these contexts is one batch:
    a request of staff or of a script, a command, an import. Raises ValueError where `name` is no
    Origin, and ReasonTooLong: what somebody typed is not cut.
    """
    if isinstance(reason, str):
        check_reason(reason)
    around = _source.get()
    token = _source.set(
        Source(
            Origin(name),
            around.user if user is None else user,
            reason or around.reason,
            around.batch or uuid4(),
        )
    )
    try:
        yield
    finally:
        _source.reset(token)


@contextmanager
def by_itself() -> Iterator[None]:
    """Say that the registry makes the changes within by itself; they are a batch of their own.

    Nobody asked for them: neither whoever runs `deliver`, say, nor for the reason of that.
    """
    token = _source.set(Source(Origin.REGISTRY, batch=uuid4()))
    try:
        yield
    finally:
        _source.reset(token)


def current_origin() -> str:
    """Return where a change made now comes from. Migrations name this function."""
    return _source.get().origin.value


def current_batch() -> UUID | None:
    """Return the batch that changes belong to now; None where nobody said where they come from.

    Migrations name this function.
    """
    return _source.get().batch


def current_reason() -> str:
    """Return why changes are made now; raises ReasonTooLong."""
    said = _source.get().reason
    reason = said() if callable(said) else said
    check_reason(reason)
    return storable(reason)


def current_request() -> str:
    """Return the id of the request that changes are made in; else empty. Migrations name this."""
    return request_id.get()


def current_user(**_hints: Any) -> str:
    """Return the name of who makes changes now; empty where nobody is known."""
    user = _source.get().user
    return str(user) if getattr(user, "is_authenticated", True) else ""


def circumstances() -> dict[str, Any]:
    """Return who changes something now, from where, why, in which request and batch; by name."""
    return {
        "origin": current_origin(),
        "by": current_user(),
        "reason": current_reason(),
        "request": current_request(),
        "batch": current_batch(),
    }
