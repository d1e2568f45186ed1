"""Where the apps that build on this one add to its pages; each does so in `AppConfig.ready()`.

Imports go one way, `rpc → acl → devices`, so a device's page cannot ask for its rules and calls by
name: it calls what stands in these lists, in their order.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from django.http import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

    from devices.models import Device, DeviceGroup, Job


class Place(IntEnum):
    """Where a section of a page stands: what staff come for most is first."""

    CREDENTIALS = 1
    CALLS = 2
    RULES = 3
    SESSIONS = 4
    CHANGES = 5


@dataclass(frozen=True, slots=True)
class Panel:
    """A section of a device's or a group's page.

    `template` is rendered with `context` as `panel.context`.
    """

    title: str
    template: str
    context: Mapping[str, Any] = field(default_factory=dict)
    place: Place = Place.CALLS


class Fact(NamedTuple):
    """What the head of a page says: a name and a value, as text or as HTML."""

    name: str
    value: str


View = Callable[[], HttpResponse]

# Sections of a device's page, of a group's page; None where there is nothing that this user may
# see. From devices: the history; from acl: the rules; from rpc: calls, and sessions at RTIO.
PANELS: list[Callable[[HttpRequest, "Device"], Panel | None]] = []
GROUP_PANELS: list[Callable[[HttpRequest, "DeviceGroup"], Panel | None]] = []

# What the head of a device's page says beside its state. From rpc: who let it in last.
FACTS: list[Callable[[HttpRequest, "Device"], Fact | None]] = []


class Snippet(NamedTuple):
    """A text to paste into a device, a terminal or a configuration; it holds a secret."""

    name: str
    text: str


# Ways to hand a new secret on, shown beside it. From rpc: what RTIO and Cesanta devices take.
SNIPPETS: list[Callable[[HttpRequest, "Device", str], Iterable[Snippet]]] = []

# Called around each view of an admin that may change something: a guard answers with what the view
# answers, or in its place. From acl: the check whether a change breaks an assertion.
GUARDS: list[Callable[["ModelAdmin[Any]", HttpRequest, View], HttpResponse]] = []


# What is checked of a row that is set back to what it said before, beside its own rules; by model.
# From acl: whether an assertion names what is still there.
RESTORED_CHECKS: "dict[type[Any], Callable[[Any], object]]" = {}


# Models of rows that hold a digest and, in `pepper`, the id of what it was made with; their manager
# has `live_at(now)`. By what people call such rows. From authsite: the tokens of the API.
PEPPERED: "dict[str, type[Any]]" = {}


# What deletes the rows of a table that nobody may ask for any more at a moment, by what they are
# called; it returns how many. From devices: events, jobs, answers of the API. From authsite:
# sessions, uses of tokens.
FORGETS: dict[str, Callable[[datetime], int]] = {}


# Whether what a job was asked for with may still ask for it, at a moment; one that says no refuses.
# From authsite: the tokens of the API.
JOB_CHECKS: "list[Callable[[Job, datetime], bool]]" = []


class Ending(NamedTuple):
    """Something that ends soon: what it is, what it is called, and when."""

    what: str
    name: str
    ends: datetime


# What ends between two moments, besides credentials. From authsite: the tokens of the API.
ENDINGS: list[Callable[[datetime, datetime], Iterable[Ending]]] = []


class Consequences(Protocol):
    """What follows from a change: other decisions about commands, and broken assertions."""

    @property
    def broken(self) -> Sequence[object]:
        """The assertions that no longer hold: such a change must be confirmed first."""

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""


class Watch(Protocol):
    """Looks at what a change may alter."""

    def __call__(self, *, only_assertions: bool = False) -> Callable[[], Consequences]:
        """Look before the change; return what is called after it, and says what has changed.

        With `only_assertions` no decisions are compared but those that an assertion is about.
        """


# Called within the transaction of a change of the API, a job or a command, before it. From acl:
# what the guard of the admin asks, too.
WATCHES: list[Watch] = []


class AccessEnd(StrEnum):
    """Why devices may not connect any more, or not with what they connected with."""

    DISABLED = "disabled"
    DELETED = "deleted"
    REVOKED = "revoked"  # a credential was; another one may still be usable
    ROTATED = "rotated"  # keys were replaced at once


# Called in the transaction of a change that ends access, before devices are deleted. From rpc: the
# sessions of these devices are ended at RTIO servers.
ACCESS_ENDED: list[Callable[[Iterable["Device"], AccessEnd], None]] = []


def end_access(devices: Iterable["Device"], why: AccessEnd) -> None:
    """Tell whoever listens that access of these devices ends."""
    for listener in ACCESS_ENDED:
        listener(devices, why)
