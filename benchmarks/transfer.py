"""How long imports and exports take, and how much memory: `python -m benchmarks.transfer`.

On a PostgreSQL of its own: a CSV of 100,000 devices in two groups each is imported with generated
secrets, then again unchanged; then a million devices are exported in every format, and a tenth of
them by a filter. On SQLite the import once more, while another process tries to write: what it
waits longest is how long the import holds the lock. Each figure is of one `manage.py` process: wall
clock, CPU and maximum resident set.
"""

import argparse
import csv
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import NamedTuple

import psycopg

from benchmarks import machine
from benchmarks.registries import empty, environment

IMPORT_TARGET = 60  # seconds, for 100,000 devices
EXPORT_TARGET = 200  # MiB, for 1,000,000
FORMATS = ("csv", "json", "ndjson")
SEED = """
INSERT INTO devices_device
(identifier, kind, name, description, enabled, attributes, created, updated)
SELECT gen_random_uuid(), 'device', 'Lamp ' || n, '', n %% 10 > 0, '{"floor": 3}', now(), now()
FROM generate_series(1, %s) AS n;
INSERT INTO devices_device_groups (device_id, devicegroup_id)
SELECT d.id, g.id FROM devices_device d
JOIN LATERAL (SELECT id FROM devices_devicegroup ORDER BY id LIMIT 1 OFFSET d.id %% 50) g ON true
ON CONFLICT DO NOTHING;
"""
dice = random.Random(17217)


class Cost(NamedTuple):
    """What a process used."""

    seconds: float
    cpu: float
    mebibytes: float


def manage(url: str, *words: str) -> Cost:
    before = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "manage.py", *words],
        env=environment(url),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _pid, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words}: exit code {process.returncode}")
    seconds = time.monotonic() - before
    return Cost(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def show(what: str, cost: Cost, note: str = "") -> None:
    print(
        f"| {what} | {cost.seconds:.1f} | {cost.cpu:.1f} | {cost.mebibytes:.0f} | {note} |",
        flush=True,
    )


def write_devices(path: Path, count: int) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["identifier", "kind", "name", "groups", "enabled", "secret"])
        for number in range(count):
            identifier = uuid.UUID(int=dice.getrandbits(128), version=4)
            groups = f"Site {number % 50}|Type {number % 7}"
            rows.writerow([identifier, "device", f"Lamp {number}", groups, "true", ""])


def imports(url: str, folder: Path, name: str) -> None:
    path, out = folder / "devices.csv", folder / f"secrets-{name}.csv"
    cost = manage(
        url, "import_devices", str(path), "--create-groups", "--generate-secrets", str(out)
    )
    missed = "" if name != "PostgreSQL" or cost.seconds < IMPORT_TARGET else ": MISSED"
    show(f"{name}: import, generated secrets", cost, f"target {IMPORT_TARGET} s{missed}")
    show(f"{name}: import again, unchanged", manage(url, "import_devices", str(path)))


def exports(url: str, folder: Path) -> None:
    for kind in FORMATS:
        path = folder / f"exported.{kind}"
        cost = manage(url, "export_devices", "--output", str(path))
        missed = "" if cost.mebibytes < EXPORT_TARGET else ": MISSED"
        size = path.stat().st_size / 1024**2
        show(f"export, {kind}", cost, f"{size:.0f} MiB; target {EXPORT_TARGET} MiB{missed}")
        path.unlink()
    cost = manage(url, "export_devices", "--filter", "enabled=false", "--output", os.devnull,
                  "--format", "csv")  # fmt: skip
    show("export of a tenth, csv", cost)


class OtherWriter(threading.Thread):
    """Writes to a SQLite database over and over; `longest` is what it waited at most."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path, self.longest, self.done = path, 0.0, threading.Event()

    def run(self) -> None:
        connection = sqlite3.connect(self.path, timeout=600, isolation_level=None)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("CREATE TABLE other_writer (n INTEGER)")
        while not self.done.wait(0.1):
            before = time.monotonic()
            connection.execute("INSERT INTO other_writer VALUES (1)")
            self.longest = max(self.longest, time.monotonic() - before)
        connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imported", type=int, default=100_000)
    parser.add_argument("--exported", type=int, default=1_000_000)
    options = parser.parse_args()
    sizes = f"{options.imported:,} imported, {options.exported:,} exported"
    print(f"{sizes}, {machine.description()}\n")
    print("| what | seconds | CPU seconds | MiB at most | |\n|---|---:|---:|---:|---|")
    with empty("PostgreSQL") as registry:
        folder, url = registry.folder, registry.url
        write_devices(folder / "devices.csv", options.imported)
        imports(url, folder, "PostgreSQL")
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = psycopg.ClientCursor(connection)
            cursor.execute(SEED, [max(0, options.exported - options.imported)])
            cursor.execute("VACUUM ANALYZE")
        exports(url, folder)
        with empty("SQLite") as other:
            writer = OtherWriter(Path(other.url.removeprefix("sqlite:///")))
            writer.start()
            imports(other.url, folder, "SQLite")
            writer.done.set()
            writer.join()
        print(f"\nSQLite: another writer waited {writer.longest:.1f} s at most.")


if __name__ == "__main__":
    main()
