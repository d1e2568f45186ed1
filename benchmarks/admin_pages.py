"""Measure the admin's pages at size: `python -m benchmarks.admin_pages [--devices N] [PATH…]`.

Fills a PostgreSQL of its own (or the empty one that DATABASE_URL names) with devices, keys,
groups, rules and a day of calls, serves it, and asks each page many times as a superuser. It
prints the median and the slowest answer in milliseconds; the first answer, which may have to count
what later ones remember for a minute, is shown apart. PATH adds pages, such as
`/admin/devices/device/?o=5`; `{pk}` and `{identifier}` stand for a device's.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psycopg

from tests.support.postgres import given, running
from tests.support.servers import Server

PAGES = [
    "/admin/",
    "/admin/devices/device/",
    "/admin/devices/device/?enabled__exact=0",
    "/admin/devices/device/?q={prefix}",
    "/admin/devices/device/{pk}/change/",
    "/admin/devices/presharedkey/",
    "/admin/rpc/callrecord/",
    "/admin/history/",
    "/admin/search/?q={prefix}",
    "/admin/search/?q=nothing-is-called-so",
]
PASSWORD = "only for the benchmark"
GROUPS = 200
RULES = 10_000

# One device in fifty is disabled, one in five was never seen, one in ten has no key; one key in
# twenty ends within a month, one in fifty has ended, one in a hundred is revoked.
SEED = """
SELECT setseed(0.17217);
INSERT INTO devices_device
       (identifier, kind, name, description, enabled, attributes, created, updated, last_seen)
SELECT md5(n::text)::uuid::text, 'device', 'Thermostat ' || n, '', n % 50 > 0, '{{}}',
       now() - random() * interval '900 days', now(),
       CASE WHEN n % 5 > 0 THEN now() - random() ^ 3 * interval '90 days' END
  FROM generate_series(1, {devices}) n;
INSERT INTO devices_presharedkey
       (device_id, label, scheme, digest, pepper, hint, created, last_used, revoked_at, revoked_by,
        revoked_reason, not_after)
SELECT id, '', 'hmac-sha256', md5(id::text), 'test-2', '', created, last_seen,
       CASE WHEN id % 100 = 1 THEN now() END, '', '',
       CASE WHEN id % 50 = 2 THEN now() - random() * interval '90 days'
            WHEN id % 20 = 3 THEN now() + random() * interval '30 days'
            WHEN id % 4 = 0 THEN now() + interval '31 days' + random() * interval '900 days' END
  FROM devices_device WHERE id % 10 > 0;
INSERT INTO devices_devicegroup (name, description)
SELECT 'site ' || n, '' FROM generate_series(1, {groups}) n;
INSERT INTO devices_device_groups (device_id, devicegroup_id)
SELECT id, 1 + id % {groups} FROM devices_device
 UNION SELECT id, 1 + (id / {groups}) % {groups} FROM devices_device;
INSERT INTO acl_commandpermission
       (effect, source_kind, source_device_id, destination_kind, destination_device_id, pattern,
        enabled, note, created, updated)
SELECT 'allow', 'device', a.id, 'device', a.id + 1, '/v1/Valve' || a.id % 100 || '.Open', true, '',
       now(), now()
  FROM devices_device a WHERE a.id <= {rules} AND a.id < {devices};
INSERT INTO rpc_callrecord
       (digest, bucket, endpoint, question, caller, subject, destination, command, outcome, reason,
        others, count, first, last)
SELECT md5('call' || n)::uuid, hour, 'verifier', 'credential', '10.0.0.' || n % 4,
       md5(n::text)::uuid::text, '', '', CASE WHEN n % 9 > 0 THEN 'allowed' ELSE 'refused' END,
       CASE WHEN n % 9 > 0 THEN 'verified' ELSE 'wrong-secret' END, false, 1 + n % 40, hour,
       hour + interval '59 minutes'
  FROM (SELECT n, date_trunc('hour', now()) - n % 48 * interval '1 hour' AS hour
          FROM generate_series(1, {devices}) n) calls;
ANALYZE;
"""


def fill(url: str, devices: int) -> dict[str, str]:
    """Fill an empty, migrated registry; return what the `{…}` of paths stand for."""
    statements = SEED.format(devices=devices, groups=GROUPS, rules=RULES).split(";\n")
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in filter(str.strip, statements):
            connection.execute(statement.encode())
        connection.execute("VACUUM ANALYZE")
        row = connection.execute(
            "SELECT id, identifier FROM devices_device ORDER BY id OFFSET %s LIMIT 1",
            [devices // 2],
        ).fetchone()
    assert row is not None
    return {"pk": str(row[0]), "identifier": row[1], "prefix": row[1][:6]}


def measure(server: Server, paths: list[str], times: int) -> None:
    """Ask each page, signed in, and print what it took."""
    with httpx.Client(base_url=server.url, follow_redirects=True, timeout=60) as client:
        client.get("/admin/login/")
        form = {"username": "bench", "password": PASSWORD, "next": "/admin/password_change/"}
        form["csrfmiddlewaretoken"] = client.cookies["csrftoken"]
        client.post("/admin/login/", data=form).raise_for_status()
        print(f"{'first':>8} {'median':>8} {'slowest':>8}  ms")
        for path in paths:
            took = []
            for _ in range(times + 1):
                started = time.perf_counter()
                answer = client.get(path)
                took.append((time.perf_counter() - started) * 1000)
                assert answer.status_code == 200, f"{path}: {answer.status_code}"
                assert "id_password" not in answer.text, "not signed in"
            first, *rest = took
            print(f"{first:8.0f} {statistics.median(rest):8.0f} {max(rest):8.0f}  {path}")


def run(url: str, arguments: argparse.Namespace) -> None:
    """Fill, serve, measure."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), url, DJANGO_SUPERUSER_PASSWORD=PASSWORD)
        server.manage("migrate", "--verbosity", "0")
        started = time.perf_counter()
        stand_for = fill(url, arguments.devices)
        print(f"{arguments.devices:,} devices in {time.perf_counter() - started:.0f} s")
        server.manage("createsuperuser", "--no-input", "--username=bench", "--email=")
        with server:
            paths = [path.format(**stand_for) for path in [*PAGES, *arguments.paths]]
            measure(server, paths, arguments.times)


def main() -> int:
    """Read the command line."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=15, help="requests of each page")
    parser.add_argument("paths", nargs="*", metavar="PATH")
    arguments = parser.parse_args()
    url = given()
    if url is not None:
        run(url, arguments)
        return 0
    with running() as url:
        run(url, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
