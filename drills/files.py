"""Drills of copies and logs: backup and restore, what an outage writes."""

import os
import time
from pathlib import Path

from drills.probe import Client, Probe, register
from drills.report import Report, drill, wait_until
from drills.sites import migrated, site
from tests.support.servers import Server

REFUSALS = 400
BYTES = 200  # of log a refusal, at most


@drill("an outage's log", seconds=240)
def outage(folder: Path, report: Report) -> None:
    """Stop the database and ask on: the log grows by little, and by something."""
    with migrated(folder, standbys=0) as (nodes, server):
        devices = register(server, 4)
        with server:
            client = Client(server)
            report.must(client.ask(devices[0]).code == "OK", "a good device was refused")
            before = server.log_path.stat().st_size
            nodes.primary.kill()
            answers = [client.ask(devices[number % 4]) for number in range(REFUSALS)]
            report.asked, report.refused = len(answers) + 1, len(answers)
            codes = {answer.code for answer in answers}
            report.must(codes == {"INTERNAL_SERVER_ERROR"}, f"it answered {codes}")
            grown = server.log_path.stat().st_size - before
            slowest = max(answer.answered - answer.asked for answer in answers)
            nodes.primary.start()
            began = time.monotonic()
            wait_until(lambda: client.ask(devices[0]).code == "OK", 10)
            back = time.monotonic() - began
        report.outage = answers[-1].answered - answers[0].asked + back
        report.must(grown / REFUSALS <= BYTES, f"{grown / REFUSALS:.0f} bytes a refusal")
        report.must(grown > 0, "nothing was logged: the drill could not have failed")
        report.counter = f"{grown:,} bytes were logged"
        report.say(
            f"{grown / REFUSALS:.0f} bytes of log a refusal, slowest {slowest:.2f} s, right again "
            f"{back:.2f} s after the database"
        )


@drill("backup and restore", seconds=400)
def backup(folder: Path, report: Report) -> None:
    """Back both databases up under load, restore each elsewhere, and run the self-test there."""
    with migrated(folder, standbys=0) as (nodes, on_postgres):
        path = f"{nodes.programs}{os.pathsep}{on_postgres.environment['PATH']}"
        on_postgres.environment["PATH"] = path
        nodes.primary.execute("CREATE DATABASE restored", "postgres")
        copy_in(folder, report, on_postgres, nodes.primary.url("restored"), "PostgreSQL")
    on_sqlite = site(folder, f"sqlite:///{folder / 'registry.sqlite3'}")
    on_sqlite.manage("migrate", "--verbosity", "0")
    copy_in(folder, report, on_sqlite, f"sqlite:///{folder / 'restored.sqlite3'}", "SQLite")


def copy_in(folder: Path, report: Report, server: Server, target: str, kind: str) -> None:
    """Back a registry up while it answers, restore it into `target`, and ask the copy."""
    server.manage("seed_demo", "--json")
    devices = register(server, 20)
    file = folder / f"{kind}.backup"
    with server, Probe([server], devices[:8], clients=2) as probe:
        time.sleep(1)
        server.manage("backup", str(file))
    report.add(probe)
    report.must(not probe.refused(), "verifications were refused during the backup")
    copy = site(folder, target)
    copy.environment["PATH"] = server.environment["PATH"]
    copy.manage("restore", str(file))
    with copy:
        client = Client(copy)
        codes = [client.ask(known).code for known in devices]
        report.asked += len(codes)
        report.wrong += sum(code != "OK" for code in codes)
        copy.manage("selftest", "--url", copy.url)
    report.must(set(codes) == {"OK"}, f"the copy answered {set(codes)}")
    report.say(f"{kind}: {file.stat().st_size:,} bytes, {len(codes)} devices OK, selftest passed")
    # Counter-test: a backup that was cut short.
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    name = target.rpartition("/")[2]
    refused = copy.attempt("manage.py", "restore", "--replace", name, str(file))
    report.must(refused.returncode, "a backup that was cut short was restored")
    report.must("Traceback" not in refused.stderr, refused.stderr)
    report.counter = "a backup that was cut short is refused, on both"
