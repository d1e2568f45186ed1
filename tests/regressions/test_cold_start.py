"""After a restart, devices with right chosen secrets were refused for minutes.

A server that was just started remembers nobody, so that each device costs a memory-hard hash; what
is refused comes back every 2 s, for ever (RTIO's Go SDK), or never (its C SDK).

A public report of this kind: https://github.com/vernemq/vernemq/issues/579.
"""

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import storm
from benchmarks.rtio import Fleet
from tests.support.servers import Server, empty_registry

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.once(on="sqlite")]

DEVICES = [(f"device-{number:029d}", f"chosen secret {number}") for number in range(5)]


def test_right_chosen_secrets_are_admitted_at_once(tmp_path: Path) -> None:
    with empty_registry(tmp_path) as url:
        registry = Server(tmp_path, url)
        table = "".join(f"{identifier};{secret}\n" for identifier, secret in DEVICES)
        (tmp_path / "fleet.csv").write_text(f"identifier;secret\n{table}")
        registry.manage("import_devices", str(tmp_path / "fleet.csv"))
        caller = ("--kind", "backend", "--secret", storm.CALLERS_SECRET)
        registry.manage("add_device", storm.CALLER, *caller)
        with Server(tmp_path, url) as server:
            time.sleep(1)
            assert asyncio.run(ask_at_once(server.port)) == Counter(OK=8 * len(DEVICES))
            # 60 connections with one right secret; then guesses of both kinds beside a right one.
            assert "60 × 200" in asyncio.run(storm.one_caller(server.port, 60))
        with Server(tmp_path, url) as server:
            line = asyncio.run(storm.both_kinds(server.port, DEVICES[:1], 2, 5))
            answers = line.partition("(")[2].partition(")")[0]
            assert answers.endswith("× OK")
            assert "," not in answers  # and nothing else


async def ask_at_once(port: int) -> Counter[str]:
    """Ask for all devices, eight times over at the same moment; count the answers."""
    group = Fleet()
    answers = await asyncio.gather(
        *(group.ask(port, *one) for one in DEVICES for _again in range(8))
    )
    return Counter(answers)
