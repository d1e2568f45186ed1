"""Measure decisions: 100, 10,000 and 1,000,000 rules over 100,000 devices, beside a peer.

    python -m benchmarks.decisions [--kind PostgreSQL] [--sizes 100,10000,1000000]

On a SQLite file or a PostgreSQL of its own, which is gone afterwards. Prints a Markdown table.
DECISIONS_DEVICES and DECISIONS_QUESTIONS make it smaller, to see that it works. How many decisions
a second a server makes over HTTP is in `benchmarks.compare`.
"""

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

from benchmarks.registries import DATABASES, empty, set_up
from benchmarks.report import table

DEVICES = int(os.environ.get("DECISIONS_DEVICES", "100000"))
GROUPS = 1_000
QUESTIONS = int(os.environ.get("DECISIONS_QUESTIONS", "3000"))
FRAME = 100
CHUNK = 5_000
SERVICES = [
    f"/v1/{name}" for name in ("Config", "Sys", "Led", "Motor", "Log", "Vars", "Wifi", "OTA")
]
METHODS = ["Get", "Set", "List", "Reset", "Info"]
HEAD = (
    *("engine", "rules", "load s", "median ms", "p99 ms", "in frames of 100, ms each"),
    *("asked", "allowed"),
)
Ask = Callable[[int, int, str], bool]  # whether one device may send another a command


class Rule(NamedTuple):
    """A rule in plain values: ends are `device N`, `group N` or `everyone 0`."""

    effect: str
    source: tuple[str, int]
    destination: tuple[str, int]
    pattern: str


class Figures(NamedTuple):
    """What one engine needed with one number of rules; moments in milliseconds."""

    engine: str
    rules: int
    load: float
    median: float
    p99: float
    asked: int
    allowed: int
    batched: float | None = None

    def row(self) -> list[str]:
        return [
            self.engine,
            f"{self.rules:,}",
            f"{self.load:.1f}",
            f"{self.median:.3f}",
            f"{self.p99:.3f}",
            "" if self.batched is None else f"{self.batched:.3f}",
            f"{self.asked:,}",
            f"{self.allowed:,}",
        ]


def device_name(number: int) -> str:
    return f"//devices.example.com/{number:06d}"


def group_of(number: int) -> int:
    """Return the group that a device is in; groups of 0..99 hold those above them by hundreds."""
    return number % GROUPS


def parent_of(group: int) -> int | None:
    return group % 100 if group >= 100 else None


def population(size: int) -> Iterator[Rule]:
    """Yield the same rules at each run: mostly about devices, a sixth about groups."""
    draw = random.Random(size)

    def end() -> tuple[str, int]:
        kind = draw.random()
        if kind < 0.82:
            return "device", draw.randrange(DEVICES)
        if kind < 0.99:
            return "group", draw.randrange(GROUPS)
        return "everyone", 0

    for _ in range(size):
        source, destination = end(), end()
        if source[0] == destination[0] == "everyone":
            source = ("device", draw.randrange(DEVICES))
        service = draw.choice(SERVICES)
        method = draw.choice([*METHODS, "*"])
        yield Rule(
            "deny" if draw.random() < 0.05 else "allow", source, destination, f"{service}.{method}"
        )


def questions(size: int) -> list[tuple[int, int, str]]:
    """Return requests, half of them about what some rule is about."""
    draw = random.Random(size + 1)
    rules = list(islice(population(size), QUESTIONS))

    def member(end: tuple[str, int]) -> int:
        kind, number = end
        if kind == "device":
            return number
        if kind == "group":
            return number + GROUPS * draw.randrange(DEVICES // GROUPS)
        return draw.randrange(DEVICES)

    asked = []
    for position in range(QUESTIONS):
        command = f"{draw.choice(SERVICES)}.{draw.choice(METHODS)}"
        if position % 2:
            asked.append((draw.randrange(DEVICES), draw.randrange(DEVICES), command))
        else:
            rule = draw.choice(rules)
            command = rule.pattern.replace("*", draw.choice(METHODS))
            asked.append((member(rule.source), member(rule.destination), command))
    return asked


def timed(
    ask: Ask, asked: Sequence[tuple[int, int, str]], seconds: float = 60
) -> tuple[float, float, int, int]:
    """Return median and p99 in milliseconds, how many were asked, and how many were allowed."""
    moments: list[float] = []
    allowed = 0
    ends = time.monotonic() + seconds
    for question in asked[: len(asked) // 10]:
        ask(*question)
        if time.monotonic() > ends:
            break
    for question in asked:
        began = time.perf_counter()
        answer = ask(*question)
        moments.append((time.perf_counter() - began) * 1000)
        allowed += answer
        if time.monotonic() > ends:
            break
    moments.sort()
    return statistics.median(moments), moments[int(len(moments) * 0.99)], len(moments), allowed


def add_ends() -> dict[str, list[int]]:
    """Create the devices, and the groups that they are in; return their keys by kind."""
    from devices.models import Device, DeviceGroup

    groups = DeviceGroup.objects.bulk_create(DeviceGroup(name=f"g{n}") for n in range(GROUPS))
    for number, group in enumerate(groups):
        if (parent := parent_of(number)) is not None:
            group.parent = groups[parent]
    DeviceGroup.objects.bulk_update(groups, ["parent"], batch_size=500)
    devices = Device.objects.bulk_create(
        (Device(identifier=device_name(n)) for n in range(DEVICES)), batch_size=CHUNK
    )
    Device.groups.through.objects.bulk_create(
        (
            Device.groups.through(device_id=device.pk, devicegroup_id=groups[group_of(number)].pk)
            for number, device in enumerate(devices)
        ),
        batch_size=CHUNK,
    )
    return {"device": [one.pk for one in devices], "group": [one.pk for one in groups]}


def measure_ours(sizes: Sequence[int]) -> Iterator[Figures]:
    """Load and measure in the empty registry that this process works on."""
    from django.db import connection, transaction

    from acl.engine.decisions import decide, decide_many
    from acl.models import CommandPermission

    keys = add_ends()

    def row(rule: Rule) -> CommandPermission:
        fields: dict[str, Any] = {}
        for end, (kind, number) in (("source", rule.source), ("destination", rule.destination)):
            fields[f"{end}_kind"] = kind
            if kind != "everyone":
                fields[f"{end}_{kind}_id"] = keys[kind][number]
        return CommandPermission(effect=rule.effect, pattern=rule.pattern, **fields)

    for size in sizes:
        CommandPermission.objects.all().delete()
        began = time.monotonic()
        with page_cache(connection, 256), transaction.atomic():
            rules = population(size)
            while chunk := list(islice(rules, CHUNK)):
                CommandPermission.objects.bulk_create(map(row, chunk))
        load = time.monotonic() - began
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        asked = questions(size)
        singly = timed(lambda s, d, c: decide(device_name(s), device_name(d), c).allowed, asked)
        frames = [asked[start : start + FRAME] for start in range(0, QUESTIONS, FRAME)]
        began = time.perf_counter()
        for frame in frames:
            decide_many((device_name(s), device_name(d), c) for s, d, c in frame)
        batched = (time.perf_counter() - began) * 1000 / QUESTIONS
        name = f"Authsite, {connection.vendor}"
        yield Figures(name, size, load, *singly, batched)


@contextmanager
def page_cache(connection: Any, mebibytes: int) -> Iterator[None]:
    """Let SQLite keep that much in memory for a while: an index is filled in no order."""
    if connection.vendor != "sqlite":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA cache_size = {-1024 * mebibytes}")
        yield
        cursor.execute("PRAGMA cache_size = -2000")


def measure_peer(sizes: Sequence[int], seconds: float) -> Iterator[Figures]:
    """Measure another engine, as far as it gets in the time."""
    ends = time.monotonic() + seconds
    for size in sizes:
        began = time.monotonic()
        asked = questions(size)
        ask = cedar_with(size, {number for question in asked for number in question[:2]})
        loaded = time.monotonic() - began
        left = ends - time.monotonic()
        if left <= 0:
            return
        figures = timed(ask, asked, left / 2 if size != sizes[-1] else left)
        yield Figures("cedarpy", size, loaded, *figures)
        if loaded * 100 > ends - time.monotonic():
            return


def cedar_with(size: int, devices: set[int]) -> Ask:
    """Return cedarpy with so many policies, and the entities of these devices, parsed."""
    import cedarpy

    def scope(variable: str, end: tuple[str, int]) -> str:
        kind, number = end
        if kind == "everyone":
            return variable
        return (
            f'{variable} == Device::"{number}"'
            if kind == "device"
            else f'{variable} in Group::"{number}"'
        )

    def entity(kind: str, number: int, group: int | None) -> dict[str, Any]:
        parents = [] if group is None else [{"type": "Group", "id": str(group)}]
        return {"uid": {"type": kind, "id": str(number)}, "attrs": {}, "parents": parents}

    entities = [entity("Device", n, group_of(n)) for n in devices]
    entities += [entity("Group", n, parent_of(n)) for n in range(GROUPS)]
    graph = cedarpy.Entities.from_json_str(json.dumps(entities))
    policies = cedarpy.PolicySet.from_str(
        "\n".join(
            f"{'permit' if rule.effect == 'allow' else 'forbid'}"
            f"({scope('principal', rule.source)}, action,"
            f" {scope('resource', rule.destination)})"
            f' when {{ context.cmd like "{rule.pattern}" }};'
            for rule in population(size)
        )
    )

    def ask(source: int, destination: int, command: str) -> bool:
        request = {
            "principal": {"type": "Device", "id": str(source)},
            "action": {"type": "Action", "id": "send"},
            "resource": {"type": "Device", "id": str(destination)},
            "context": {"cmd": command},
        }
        answer = cedarpy.is_authorized(request, policies, graph)
        return bool(answer.decision == cedarpy.Decision.Allow)

    return ask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="100,10000,1000000")
    parser.add_argument(
        "--peer", type=float, default=120, metavar="SECONDS", help="for the peer; 0: none"
    )
    parser.add_argument("--kind", choices=DATABASES, default="SQLite", help="of database")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    with empty(options.kind) as registry:
        set_up(registry.url)
        measured = list(measure_ours(sizes))
    if options.peer:
        measured += measure_peer(sizes, options.peer)
    print(table(HEAD, [figures.row() for figures in measured]))


if __name__ == "__main__":
    main()
