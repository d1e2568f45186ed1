"""Drills of what changes while it runs: poolers, releases, migrations, peppers."""

import base64
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import psycopg
from django.conf import settings

from drills.nodes import Node
from drills.probe import Client, Probe, register
from drills.report import NotHere, Report, drill, need, running
from drills.sites import migrated, site
from drills.staff import Staff
from tests.support.postgres import free_port
from tests.support.servers import PEPPERS, Server

EARLIER = "39c6791505e334379839d58e540fee6e2b5bcb09"  # whose code must work on today's schema
# Django reads the choices of its form through a cursor.
PAGE_WITH_CURSOR = "/admin/authsite/serviceaccount/add/"
PAGES = 150  # of staff's, at most

PGBOUNCER = """
[databases]
authsite = host=127.0.0.1 port={port} dbname=authsite user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 200
server_login_retry = 1
query_wait_timeout = 5
ignore_startup_parameters = extra_float_digits, options
unix_socket_dir =
"""


@contextmanager
def pooler(folder: Path, node: Node) -> Iterator[str]:
    """Yield the URL of a PgBouncer in transaction mode before a node."""
    program, listen = need("pgbouncer"), free_port()
    home = folder / f"pooler-{listen}"
    home.mkdir()
    for place in (home, folder):
        place.chmod(0o755)
    config = home / "pgbouncer.ini"
    config.write_text(PGBOUNCER.format(port=node.port, listen=listen))
    account = ["-u", "nobody"] if os.geteuid() == 0 else []
    with running(program, *account, str(config), log=home / "log"):
        time.sleep(1)
        yield f"postgres://postgres@127.0.0.1:{listen}/authsite"


COMMANDS = (
    ("pepper_status",),
    ("expiring",),
    ("export_devices",),
    ("export_permissions",),
    ("lint_permissions",),
    ("check_permissions",),
    ("prune_journal", "--older-than", "365d"),
    ("prune_history", "--older-than", "365d"),
)


def failure(server: Server, *words: str) -> str:
    """Run a command; return "" or the last line of its traceback, or of how it is used."""
    done = server.attempt("manage.py", *words)
    has_failed = "Traceback" in done.stderr or done.returncode > 1
    return done.stderr.strip().splitlines()[-1] if has_failed else ""


def fails(staff: Staff, path: str) -> bool:
    """Whether a page fails, or is cut off.

    psycopg reads what a cursor brings by what it has described. Where that was another server's
    connection the columns may be others, and reading them can end the server's process.
    """
    try:
        return staff.get(path)[0] >= 500
    except httpx.TransportError:
        return True


@drill("behind a transaction pooler", seconds=480)
def pooled(folder: Path, report: Report) -> None:
    """Use every page of staff's and every command behind PgBouncer in transaction mode."""
    with migrated(folder, standbys=0) as (nodes, direct):
        seeded = json.loads(direct.manage("seed_demo", "--staff-user", "admin", "--json"))
        direct.furnish()
        devices = register(direct, 8)
        with pooler(folder, nodes.primary) as url:
            server = site(folder, url, DATABASE_POOLER="on")
            with server, Probe([server], devices, clients=3) as probe:
                staff = Staff(server)
                staff.sign_in("admin", seeded["password"])
                pages = staff.crawl(PAGES)
                bad = {path: status for path, status in pages.items() if status >= 400}
                report.must(not bad, f"pages failed: {bad}")
                failures = {words[0]: failure(server, *words) for words in COMMANDS}
                said = {name: text for name, text in failures.items() if text}
                report.must(not said, f"commands failed: {said}")
                # Its search path would be handed on to whoever has the connection next.
                refused = server.attempt("manage.py", "backup", str(folder / "backup"))
                report.must("leads to a pooler" in refused.stderr, "a backup was tried there")
            report.add(probe)
            report.must(not report.refused, "verifications were refused")
            report.say(f"{len(pages)} pages, {len(COMMANDS)} commands, 0 failed")
            # Counter-test: the same with server-side cursors, as without a pooler.
            naive = site(folder, url, DATABASE_POOLER="off", PREPARED_STATEMENTS="on")
            with naive, Probe([naive], devices, clients=6):
                staff = Staff(naive)
                staff.sign_in("admin", seeded["password"])
                failed = sum(fails(staff, PAGE_WITH_CURSOR) for _ in range(20))
            for name in ("DATABASE_POOLER=on", "PREPARED_STATEMENTS=off"):
                report.must(name in naive.log, f"the start did not say {name}")
                report.must(name not in server.log, f"the start asked for {name} in vain")
            report.must(failed, "nothing failed without the setting")
            report.counter = f"DATABASE_POOLER=off: {failed} of 20 pages of service accounts failed"


def earlier_code() -> bytes:
    """Return the earlier release as a tar file; a shallow clone asks its origin for that commit."""

    def git(*words: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            ["git", "-C", str(settings.BASE_DIR), *words], capture_output=True, check=False
        )

    need("git")
    has_it = ("cat-file", "-e", f"{EARLIER}^{{commit}}")
    if git(*has_it).returncode:
        git("fetch", "--quiet", "--depth", "1", "origin", EARLIER)
        if git(*has_it).returncode:
            raise NotHere(
                f"this clone has no commit {EARLIER[:7]}, and its origin gave none: clone it "
                "whole, or run git fetch --unshallow"
            )
    return git("archive", EARLIER).stdout


@drill("the earlier release on today's schema", seconds=300)
def earlier_release(folder: Path, report: Report) -> None:
    """Run yesterday's code on the migrated database, as during an upgrade one by one."""
    checkout = folder / "earlier"
    checkout.mkdir()
    subprocess.run(["tar", "-x", "-C", str(checkout)], input=earlier_code(), check=True)
    with migrated(folder, standbys=0) as (nodes, today):
        seeded = json.loads(today.manage("seed_demo", "--staff-user", "admin", "--json"))
        devices = register(today, 12)
        old = site(folder, today.database_url)
        old.base = checkout
        with today, old, Probe([today, old], devices[:8]) as probe:
            time.sleep(2)
            staff = Staff(old)
            staff.sign_in("admin", seeded["password"])
            pages = staff.crawl(40)
            bad = {path: status for path, status in pages.items() if status >= 400}
            report.must(not bad, f"the earlier release's pages failed: {bad}")
            status = staff.submit(f"/admin/devices/device/{devices[8].device}/disable/")
            report.must(status == 200, f"disabling a device there answered {status}")
            known, client = devices[8], Client(today)
            report.must(
                client.ask(known).code == "VERIFICATION_FAILED",
                "what the earlier release disabled is admitted by today's",
            )
        report.add(probe)
        report.must(not report.refused, "verifications were refused")
        report.say(f"{len(pages)} pages of {EARLIER[:7]}, a device disabled there, refused here")
        # Counter-test: a column that the earlier release reads is gone.
        nodes.primary.execute("ALTER TABLE devices_presharedkey RENAME COLUMN hint TO hint_gone")
        nodes.primary.execute("ALTER TABLE devices_presharedkey RENAME COLUMN pepper TO gone")
        with old:
            code = Client(old).ask(devices[0]).code
        report.must(code == "INTERNAL_SERVER_ERROR", f"it answered {code} without the column")
        report.counter = f"a column renamed: {code}"


@drill("a migration meets an open transaction", seconds=240)
def migration(folder: Path, report: Report) -> None:
    """Migrate while a transaction reads the same tables: verifications go on."""
    with migrated(folder, standbys=0) as (nodes, server):
        devices = register(server, 8)
        server.manage("migrate", "devices", "0007", "--verbosity", "0")
        with server, Probe([server], devices) as probe:
            time.sleep(1)
            with nodes.primary.connect() as reader, reader.transaction():
                reader.execute("SELECT count(*) FROM devices_presharedkey")
                reader.execute("SELECT count(*) FROM devices_device")
                began = time.monotonic()
                done: list[float] = []

                def migrate() -> None:
                    server.manage("migrate", "--verbosity", "0")
                    done.append(time.monotonic() - began)

                migrator = threading.Thread(target=migrate)
                migrator.start()
                time.sleep(8)
                report.must(not done, "the migration did not meet the transaction")
            migrator.join(60)
            report.must(done, "the migration did not end")
        report.add(probe)
        report.must(probe.slowest() < 2, f"a verification took {probe.slowest():.1f} s")
        report.say(
            f"open for 8 s; migrated after {done[0] if done else 0:.0f} s; slowest verification "
            f"{probe.slowest():.1f} s"
        )
        # Counter-test: the same lock, asked for without a limit.
        with server, Probe([server], devices) as stopped:
            time.sleep(1)
            with nodes.primary.connect() as reader, reader.transaction():
                reader.execute("SELECT count(*) FROM devices_presharedkey")

                def alter() -> None:
                    with suppress(psycopg.Error):
                        nodes.primary.execute(
                            "ALTER TABLE devices_presharedkey ADD COLUMN drill integer"
                        )

                alterer = threading.Thread(target=alter)
                alterer.start()
                time.sleep(5)
            alterer.join(20)
        report.must(stopped.outage() > 3, "an ALTER TABLE without lock_timeout stopped nobody")
        report.counter = f"without lock_timeout: no answer for {stopped.outage():.1f} s"


def pepper(name: str, byte: int) -> str:
    return f"{name}:{base64.urlsafe_b64encode(bytes([byte]) * 32).decode()}"


@drill("a pepper is rotated on two sites", seconds=300)
def rotation(folder: Path, report: Report) -> None:
    """Make a new pepper known on both sites first, then put it first: no right secret fails."""
    new = pepper("new", 7)
    with migrated(folder, standbys=0) as (nodes, server):
        url = server.database_url
        devices = register(server, 30)

        def verify(peppers: tuple[str, str], some: list[int]) -> list[str]:
            """Verify devices on the first site, then on the second; return the second's codes."""
            with ExitStack() as stack:
                sites = [stack.enter_context(site(folder, url, PEPPERS=words)) for words in peppers]
                clients = [Client(each) for each in sites]
                first = [clients[0].ask(devices[number]).code for number in some]
                report.must(set(first) == {"OK"}, f"the first site answered {set(first)}")
                time.sleep(2.5)  # digests are replaced behind the requests
                second = [clients[1].ask(devices[number]).code for number in some]
                report.asked += len(first) + len(second)
                return second

        known, put_first = f"{PEPPERS},{new}", f"{new},{PEPPERS}"
        for step in ((known, PEPPERS), (known, known), (put_first, known), (put_first, put_first)):
            codes = verify(step, list(range(10)))
            report.wrong += sum(code != "OK" for code in codes)
        report.must(not report.wrong, f"{report.wrong} right secrets were refused")
        left = nodes.primary.execute(
            "SELECT count(*) FROM devices_presharedkey WHERE pepper = 'new'"
        )[0][0]
        report.must(left == 10, f"{left} of 10 keys hang on the new pepper")
        report.say("4 steps, 10 devices on both sites at each")
        # Counter-test: rotated in one step, site after site.
        refused = sum(code != "OK" for code in verify((put_first, PEPPERS), list(range(10, 20))))
        report.must(refused, "one step refused nobody")
        report.counter = f"in one step: {refused} of 10 right secrets refused"


@drill("two sites on one primary", seconds=300)
def two_sites(folder: Path, report: Report) -> None:
    """Change things on one site; the other one knows at the next request."""
    with migrated(folder, standbys=0) as (_nodes, manager), ExitStack() as stack:
        url = manager.database_url
        seeded = json.loads(manager.manage("seed_demo", "--staff-user", "admin", "--json"))
        devices = register(manager, 20)
        cache = stack.enter_context(redis(folder))
        first, second = (
            stack.enter_context(site(folder, url, CACHE_URL=cache, STAFF_LOGIN_FAILURES="4"))
            for _ in range(2)
        )
        staff = Staff(first)
        staff.sign_in("admin", seeded["password"])
        there = Staff(second, staff.client.cookies)
        status, page = there.get("/admin/devices/device/")
        report.must(status == 200 and "drill" in page, "a session of one site is none of the other")
        clients = Client(first), Client(second)
        for known in devices[:5]:
            there.submit(f"/admin/devices/device/{known.device}/disable/")
            codes = [client.ask(known).code for client in clients]
            report.asked += 2
            report.wrong += codes.count("OK")
        report.must(not report.wrong, "a disabled device was admitted")
        # Lock-outs: two failures here, two there.
        for each in (first, second, first, second):
            Staff(each).sign_in("admin", "a wrong password")
        locked = Staff(second)
        locked.sign_in("admin", seeded["password"])
        report.must(locked.get("/admin/devices/device/")[1].count("drill") == 0, "not locked out")
        # Guesses at a chosen secret, counted in one place.
        right = devices[0]._replace(
            identifier="chosen-device-0000000000000000001", secret="a chosen secret, long"
        )
        manager.manage("add_device", right.identifier, "--secret-stdin", stdin=right.secret)
        for number in range(6):
            clients[number % 2].ask(right._replace(secret=f"guess {number}"))
            report.asked += 1
        code = clients[1].ask(right).code
        report.must(code == "VERIFICATION_FAILED", "guesses on two sites were not added up")
        report.say("session, lock-out, guesses and revocations hold on both")
        apart = stack.enter_context(site(folder, url))
        code = Client(apart).ask(right).code
        report.must(code == "OK", f"a site with a cache of its own answered {code}")
        report.counter = "with a cache of its own the sixth guess is taken"


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Yield the CACHE_URL of a Redis or Valkey of one's own."""
    program, port = need("valkey-server", "redis-server"), free_port()
    words = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
    with running(program, *words, log=folder / "redis.log"):
        time.sleep(0.5)
        yield f"rediscache://127.0.0.1:{port}/0"
