"""Drills of what replication promises: no stale answer, no lost change, an outage that ends."""

import json
import os
import re
import signal
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg

from drills.nodes import Node, Nodes
from drills.probe import Client, Known, Probe, register
from drills.report import Report, drill, wait_until
from drills.sites import migrated, revoke, site
from drills.staff import Staff
from tests.support.servers import Server

REVOCATIONS = 100  # on an idle machine, and as many on a busy one
STALE = 5


@drill("revocations on standbys", seconds=300)
def revocations(folder: Path, report: Report) -> None:
    """Revoke keys; ask every standby's site at the very next moment; none may say OK."""
    with migrated(folder) as (nodes, writer), ExitStack() as stack:
        devices = register(writer, 2 * REVOCATIONS + 2 * STALE + 8)
        nodes.be_strict()
        readers = [
            stack.enter_context(answering_from(folder, nodes, node)) for node in nodes.standbys
        ]
        clients = [Client(reader) for reader in readers]
        primary = stack.enter_context(nodes.primary.connect())
        missed = {"idle": 0, "busy": 0}
        waits: dict[str, list[float]] = {"idle": [], "busy": []}

        def revoke_some(load: str) -> None:
            for _ in range(REVOCATIONS):
                known = devices.pop()
                report.must(clients[0].ask(known).code == "OK", "a good device was refused")
                began = time.monotonic()
                revoke(primary, known.key)
                waits[load].append(time.monotonic() - began)
                answers = [client.ask(known).code for client in clients]
                report.asked += len(answers) + 1
                missed[load] += sum(code == "OK" for code in answers)

        revoke_some("idle")
        with Probe(readers, devices[:8], clients=2) as probe:
            revoke_some("busy")
        report.add(probe)
        report.wrong += sum(missed.values())
        report.must(not sum(missed.values()), f"{missed} answers were stale")
        shares = [answers_by(reader) for reader in readers]
        asked = [share["standby"] / sum(share.values()) for share in shares]
        report.must(
            min(asked) > 0.9, f"only {min(asked):.0%} of the questions were put to a standby"
        )
        report.lost = 0
        for load, seconds in waits.items():
            median = sorted(seconds)[len(seconds) // 2] * 1000
            report.say(f"{REVOCATIONS} {load}: missed {missed[load]}, commit {median:.1f} ms")

        # Counter-test: with ANY 1 of two, the one that does not replay answers from the past.
        nodes.be_strict("ANY 1 (*)")
        replay = nodes.standbys[1].process_called("startup")
        stale = 0
        with suppress(ProcessLookupError):
            os.kill(replay, signal.SIGSTOP)
            for _ in range(STALE):
                known = devices.pop()
                revoke(primary, known.key)
                stale += clients[1].ask(known).code == "OK"
            os.kill(replay, signal.SIGCONT)
        report.must(stale, "ANY 1 missed nothing: the drill could not have failed")
        report.counter = f"ANY 1: {stale} of {STALE} stale"


def answering_from(folder: Path, nodes: Nodes, standby: Node, lease: int = 2) -> Server:
    """Return a site on the primary that asks a standby what machines ask."""
    return site(
        folder,
        nodes.url(),
        ANSWERS_URL=standby.url(),
        ANSWERS_LEASE=str(lease),
        METRICS_NETWORKS="127.0.0.1/32",
    )


def answers_by(server: Server) -> dict[str, float]:
    """Return how many statements a site put to each of its databases."""
    text = server.ask("GET", "/metrics").body.decode()
    found = re.findall(r'authsite_answers_total{source="(\w+)"} (\S+)', text)
    return {source: float(count) for source, count in found}


@drill("a standby is cut off and dropped", seconds=240)
def standby_cut_off(folder: Path, report: Report) -> None:
    """Cut a standby off and drop it: its site asks the primary, and is never stale."""
    with migrated(folder) as (nodes, manager), ExitStack() as stack:
        devices = register(manager, 40)
        nodes.be_strict()
        leased = answering_from(folder, nodes, nodes.standbys[1])
        naive = answering_from(folder, nodes, nodes.standbys[1], lease=3600)
        for each in (leased, naive):
            stack.enter_context(each)
        primary = stack.enter_context(nodes.primary.connect())
        with Probe([leased], devices[:8], clients=2) as probe:
            time.sleep(2)
            nodes.relays[1].cut()
            cut = time.monotonic()
            # What Patroni does once its time to live is over, which is longer than the lease.
            time.sleep(3)
            nodes.primary.configure("synchronous_standby_names", "FIRST 1 (standby1)")
            time.sleep(0.5)
            clients = Client(leased), Client(naive)
            stale = [0, 0]
            for known in devices[8:28]:
                revoke(primary, known.key)
                probe.revoked[known.identifier] = time.monotonic()
                for number, client in enumerate(clients):
                    stale[number] += client.ask(known).code == "OK"
                report.asked += 2
            dropped = time.monotonic() - cut
            nodes.relays[1].mend()
            time.sleep(1)
            before = answers_by(leased)["standby"]
            back = wait_until(lambda: answers_by(leased)["standby"] > before + 20, 20)
            report.must(back, "the standby was not asked again once it followed")
        report.add(probe)
        report.wrong += stale[0]
        report.must(not stale[0], f"{stale[0]} answers were stale")
        report.must(not report.refused, "verifications were refused")
        report.must(stale[1], "a standby without a lease was not stale")
        report.say(f"cut off for {dropped:.0f} s, 20 revocations meanwhile")
        report.counter = f"without a lease: {stale[1]} of 20 stale"


@drill("a change that is not confirmed", seconds=240)
def unconfirmed(folder: Path, report: Report) -> None:
    """Freeze a standby and revoke: staff are told, verifications go on, it is confirmed later."""
    with migrated(folder) as (nodes, server):
        seeded = json.loads(server.manage("seed_demo", "--staff-user", "admin", "--json"))
        devices = register(server, 20)
        nodes.be_strict()
        with server, Probe([server], devices[:8]) as probe:
            staff = Staff(server)
            staff.sign_in("admin", seeded["password"])
            known = devices[8]
            nodes.standbys[0].pause()
            began = time.monotonic()
            page = staff.disable(known.device)
            took = time.monotonic() - began
            probe.revoked[known.identifier] = time.monotonic()
            report.must("not confirmed by every standby" in page, "staff were not told")
            # A process that nobody told finds by itself that something is not confirmed.
            with site(folder, nodes.url(), ANSWERS_URL=nodes.standbys[1].url()) as later:
                found = wait_until(lambda: "not confirmed by every standby for" in later.log, 20)
            report.must(found, "a process that began later did not follow it up")
            report.must(Client(server).ask(known).code != "OK", "it is not in force at the primary")
            report.must(took < 10, f"staff waited for {took:.1f} s")
            nodes.standbys[0].resume()
            confirmed = wait_until(lambda: "all changes are confirmed" in server.log, 40)
            report.must(confirmed, "it was not confirmed once the standby went on")
            began = time.monotonic()
            page = staff.disable(devices[9].device)
            report.must("not confirmed" not in page, "staff were told of what was confirmed")
            quick = time.monotonic() - began
        report.add(probe)
        report.must(not report.refused, "verifications were refused")
        report.must(probe.slowest() < 1, f"a verification took {probe.slowest():.2f} s")
        report.say(
            f"staff answered after {took:.1f} s, told; slowest verification {probe.slowest():.2f} s"
        )
        report.counter = f"with both standbys: {quick:.1f} s, nothing told"


def write_until(
    over: threading.Event, url: str, probe: Probe, devices: list[Known], acknowledged: list[int]
) -> None:
    """Write numbers, and note those that were acknowledged; revoke a key with each fourth."""
    number, connection = 0, None
    while not over.is_set():
        number += 1
        try:
            if connection is None:
                connection = psycopg.connect(url, autocommit=True, connect_timeout=2)
            connection.execute("INSERT INTO drill VALUES (%s)", (number,))
            acknowledged.append(number)
            known = devices[number % len(devices)]
            if number % 4 == 0 and known.identifier not in probe.revoked:
                probe.unsure.add(known.identifier)
                revoke(connection, known.key)
                probe.revoked[known.identifier] = time.monotonic()
        except psycopg.Error:
            connection = None
            time.sleep(0.05)


@drill("the primary is killed", seconds=240)
def primary_killed(folder: Path, report: Report) -> None:
    """Kill the primary under load, promote a standby: nothing acknowledged is lost."""
    with migrated(folder) as (nodes, server):
        devices = register(server, 400)
        nodes.primary.execute("CREATE TABLE drill (number bigint PRIMARY KEY)")
        nodes.be_strict()
        url = nodes.url()
        acknowledged: list[int] = []
        over = threading.Event()
        pinned = nodes.primary.url()
        with server, Probe([server], devices[:310]) as probe:
            writer = threading.Thread(
                target=write_until, args=(over, url, probe, devices[10:310], acknowledged)
            )
            writer.start()
            time.sleep(4)
            nodes.primary.kill()
            killed = time.monotonic()
            revoked_before = [known for known in devices if known.identifier in probe.revoked]
            time.sleep(2)  # what it takes to notice
            nodes.standbys[0].promote()
            promoted = time.monotonic() - killed
            back = probe.await_right()
            report.must(back < 5, f"no right answer within {back:.1f} s of the promotion")
            time.sleep(2)
            over.set()
            writer.join(10)
        report.add(probe)
        kept = {row[0] for row in nodes.standbys[0].execute("SELECT number FROM drill")}
        report.lost = len(set(acknowledged) - kept)
        report.must(report.lost == 0, f"{report.lost} acknowledged writes were lost")
        report.say(
            f"{len(acknowledged)} writes acknowledged, {len(probe.revoked)} revocations; promoted "
            f"after {promoted:.1f} s, right again {back:.1f} s later"
        )
        # Counter-test: the old primary, started again unfenced, answers from the past.
        late = [known for known in devices[310:] if known.identifier not in probe.revoked][:8]
        with psycopg.connect(nodes.standbys[0].url(), autocommit=True) as connection:
            for known in late:
                revoke(connection, known.key)
        nodes.primary.configure_file("synchronous_standby_names", "")
        nodes.primary.start()
        with site(folder, pinned) as unfenced:
            client = Client(unfenced)
            stale = sum(client.ask(known).code == "OK" for known in late)
            report.must(
                all(client.ask(known).code != "OK" for known in revoked_before[:20]),
                "the old primary forgot a revocation",
            )
        report.must(stale, "the old primary knew what it cannot know")
        report.counter = f"old primary unfenced: {stale} of {len(late)} stale"


@drill("the primary freezes", seconds=240)
def primary_frozen(folder: Path, report: Report) -> None:
    """Freeze the primary's processes: the site gives its connections up and finds the next one."""
    with migrated(folder) as (nodes, server):
        devices = register(server, 10)
        nodes.be_strict()
        waiting = nodes.primary.connect()
        leased = answering_from(folder, nodes, nodes.standbys[1])
        with server, leased, Probe([server], devices) as probe, Probe([leased], devices) as beside:
            time.sleep(2)
            nodes.primary.pause()
            frozen = time.monotonic()
            hung: list[float] = []

            def hang() -> None:
                with suppress(psycopg.Error):
                    waiting.execute("SELECT 1")
                hung.append(time.monotonic() - frozen)

            threading.Thread(target=hang, daemon=True).start()
            time.sleep(4)
            promoting = time.monotonic()
            nodes.standbys[0].promote()
            # Fenced, as the watchdog does: a frozen one that wakes up must not go on.
            promoted = time.monotonic()
            back = max(each.await_right(15) for each in (probe, beside))
            report.must(back < 3, f"no right answer within {back:.1f} s of the promotion")
            report.must(not hung, "a connection without a deadline failed by itself")
            report.counter = (
                f"a connection without deadline hung for {time.monotonic() - frozen:.0f} s"
            )
            nodes.primary.kill()
            time.sleep(1)
        report.add(probe)
        report.say(
            f"promoted after {promoted - frozen:.1f} s, right again {back:.1f} s later; slowest "
            f"answer {max(probe.slowest(), beside.slowest()):.1f} s"
        )
        # Answers from a standby hold for as long as the lease, and end with it.
        report.add(beside)
        lasted = max(
            answer.asked - frozen
            for answer in beside.answers
            if answer.code == "OK" and answer.answered < promoting
        )
        report.must(lasted > 1, "a site with a standby refused at once")
        report.must(lasted < 2.5, f"a standby was believed {lasted:.1f} s after the last heartbeat")
        report.say(
            f"with ANSWERS_URL right for {lasted:.1f} s, refused for {beside.outage():.1f} s"
        )
        for each in (probe, beside):
            report.must(each.slowest() < 5, "RTIO waits 5 s, and an answer took longer")
