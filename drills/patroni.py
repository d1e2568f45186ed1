"""A drill with Patroni and etcd: who is promoted, and when, is theirs to decide."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
import yaml

from drills.nodes import family_of
from drills.probe import Probe, register
from drills.report import NotHere, Report, drill, need, running, wait_until
from drills.sites import revoke, site
from tests.support.postgres import free_port, prepare

UNPRIVILEGED = (
    "setpriv --reuid={user} --regid={group} --clear-groups "
    "--inh-caps=+dac_read_search --ambient-caps=+dac_read_search --"
)
CONFIG = Path(__file__).resolve().parent.parent / "deploy" / "patroni" / "patroni.yml"


class Member:
    """A node that Patroni looks after."""

    def __init__(self, root: Path, name: str, etcd: str, programs: Path, account: Any) -> None:
        self.name, self.port, self.rest = name, free_port(), free_port()
        # PostgreSQL refuses to be root, and its Patroni is who it runs as; an interpreter that only
        # root can reach stays within reach.
        self._prefix = UNPRIVILEGED.format(**account).split() if "user" in account else []
        config = yaml.safe_load(CONFIG.read_text())
        config |= {
            "name": name,
            "restapi": {
                "listen": f"127.0.0.1:{self.rest}",
                "connect_address": f"127.0.0.1:{self.rest}",
            },
            "etcd3": {"hosts": [etcd]},
        }
        del config["watchdog"]  # there is no device for it here
        config["bootstrap"]["dcs"] |= {"ttl": 20, "loop_wait": 2, "retry_timeout": 3}
        config["bootstrap"]["initdb"] = [{"encoding": "UTF8"}, {"auth": "trust"}]
        config["postgresql"] |= {
            "listen": f"127.0.0.1:{self.port}",
            "connect_address": f"127.0.0.1:{self.port}",
            "data_dir": str(root / name),
            "bin_dir": str(programs),
            "pgpass": str(root / f"{name}.pgpass"),
            "parameters": {"unix_socket_directories": str(root), "fsync": "off"},
            "pg_hba": [
                "local all all trust",
                "host all all 127.0.0.1/32 trust",
                "host replication all 127.0.0.1/32 trust",
            ],
        }
        self._config = root / f"{name}.yml"
        self._config.write_text(yaml.safe_dump(config))
        self._config.chmod(0o644)
        self.log = root / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._prefix, sys.executable, "-m", "patroni", str(self._config)],
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self._config.parent,
            )

    def status(self) -> dict[str, Any]:
        """Return what Patroni says of it; nothing while it does not answer."""
        try:
            return dict(httpx.get(f"http://127.0.0.1:{self.rest}/patroni", timeout=2).json())
        except (httpx.HTTPError, ValueError):
            return {}

    def is_primary(self) -> bool:
        return self.status().get("role") in {"primary", "master"}

    def kill(self) -> None:
        """End Patroni and its PostgreSQL as a power cut would."""
        postgres = self.status().get("postmaster_pid") or self._postmaster()
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        for pid in family_of(postgres) if postgres else []:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _postmaster(self) -> int | None:
        file = self._config.with_suffix("") / "postmaster.pid"
        try:
            return int(file.read_text().splitlines()[0])
        except (OSError, ValueError):
            return None


@contextmanager
def etcd(root: Path) -> Iterator[str]:
    """Yield the address of an etcd of one's own."""
    client, peer = free_port(), free_port()
    words = (
        *(need("etcd"), "--name", "drill", "--data-dir", str(root / "etcd")),
        *("--listen-client-urls", f"http://127.0.0.1:{client}"),
        *("--advertise-client-urls", f"http://127.0.0.1:{client}"),
        *("--listen-peer-urls", f"http://127.0.0.1:{peer}"),
        *("--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}"),
        *("--initial-cluster", f"drill=http://127.0.0.1:{peer}"),
    )
    with running(*words, log=root / "etcd.log"):
        time.sleep(1)
        yield f"127.0.0.1:{client}"


@drill("Patroni: the primary is killed", seconds=360)
def patroni(folder: Path, report: Report) -> None:
    """Kill the primary and its Patroni; the rest find a new one, which has lost nothing."""
    if importlib.util.find_spec("patroni") is None:
        raise NotHere("patroni is not installed")
    if os.geteuid() == 0:
        need("setpriv")
    root = folder / "patroni"
    root.mkdir()
    folder.chmod(0o755)
    programs, account = prepare(root)
    with etcd(folder) as address:
        members = [Member(root, f"db{number}", address, programs, account) for number in (1, 2, 3)]
        try:
            members[0].start()
            up = wait_until(members[0].is_primary, 60)
            report.must(up, members[0].log.read_text()[-2000:])
            for member in members[1:]:
                member.start()
            hosts = ",".join(f"127.0.0.1:{member.port}" for member in members)
            writes = "target_session_attrs=read-write"
            # Strict mode takes no write before a standby has joined.
            joined = wait_until(lambda: count_synchronous(members[0]) == 2, 60)
            report.must(joined, "not both standbys are synchronous")
            with psycopg.connect(
                f"postgres://postgres@{hosts}/postgres?{writes}", autocommit=True
            ) as connection:
                connection.execute("CREATE DATABASE authsite")
                connection.execute("CREATE TABLE drill (number bigint PRIMARY KEY)")
            fail_over(folder, report, members, f"{hosts}/authsite?{writes}")
        finally:
            for member in members:
                member.kill()


def count_synchronous(member: Member) -> int:
    """Return how many standbys a member says to be synchronous."""
    replicas = member.status().get("replication") or []
    return sum(replica.get("sync_state") in {"sync", "quorum"} for replica in replicas)


def fail_over(folder: Path, report: Report, members: list[Member], place: str) -> None:
    """Verify, write and revoke; kill the primary; count."""
    server = site(folder, f"postgres://postgres@{place}")
    server.manage("migrate", "--verbosity", "0")
    devices = register(server, 60)
    url = f"postgres://postgres@{place.replace('/authsite', '/postgres')}"
    acknowledged: list[int] = []
    with server, Probe([server], devices, clients=3) as probe:
        time.sleep(1)
        with psycopg.connect(server.database_url, autocommit=True) as connection:
            for known in devices[40:]:
                probe.unsure.add(known.identifier)
                revoke(connection, known.key)
                probe.revoked[known.identifier] = time.monotonic()
        with psycopg.connect(url, autocommit=True) as connection:
            for number in range(300):
                connection.execute("INSERT INTO drill VALUES (%s)", (number,))
                acknowledged.append(number)
        primary = next(member for member in members if member.is_primary())
        killed = time.monotonic()
        primary.kill()
        others = [member for member in members if member is not primary]
        wait_until(lambda: any(member.is_primary() for member in others), 90)
        promoted = time.monotonic() - killed
        back = probe.await_right(30)
        total = time.monotonic() - killed
    report.add(probe)
    report.must(back < 30, "no right answer after the failover")
    with psycopg.connect(url, autocommit=True) as connection:
        kept = {row[0] for row in connection.execute("SELECT number FROM drill")}
    report.lost = len(set(acknowledged) - kept)
    report.must(report.lost == 0, f"{report.lost} acknowledged writes were lost")
    report.say(f"a new primary after {promoted:.0f} s (ttl 20 s), right again after {total:.0f} s")
    report.must(report.refused, "nobody was refused: the primary was not needed")
    report.counter = f"{report.refused} were refused until then"
