"""Measure the admin's pages at size: `python -m benchmarks.admin_pages [--devices N] [PATH…]`.

Fills a PostgreSQL of its own with devices, keys, certificates, groups, rules, histories, events and
a month of calls, serves it, and asks each page several times as a superuser. Where DATABASE_URL
names one, that is filled, or asked as it is where it has devices: minutes of filling come once.
The pages are read from the admin's own URLs; of each list, it asks the first choices of every
filter, every order, several searches and the last page, as the page itself offers them. The first
answer, which may have to count what later ones remember for a minute, is shown apart from the
median. PATH asks these pages alone, such as
`/admin/devices/device/?o=5`. With `--write` the tables go to docs/performance.md.
"""

import argparse
import json
import os
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from html import unescape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urljoin

import httpx
import psycopg

from benchmarks.machine import description
from benchmarks.report import parsed, publish, table
from tests.support import pki
from tests.support.postgres import available
from tests.support.servers import Server

PASSWORD = "only for the benchmark"
ASKED = 400  # milliseconds: what a page may take
GROUPS = 200
RULES = 10_000
CALLS = 3  # rows of the journal for each device
EVENTS = 2  # for each device
MAX_CHOICES = 6  # of one filter that are asked
ABANDONED = 0.5  # seconds in which the server ends a download that nobody reads any more

# One device in fifty is disabled, one in five was never seen, one in ten has no key; one key in
# twenty ends within a month, one in fifty has ended, one in a hundred is revoked. Half of all are
# in the first group. One in ten has a pinned certificate.
SEED = Path(__file__).with_name("admin_pages.sql")


# To insert into a million rows' indexes takes longer than to make them afterwards.
INDEXES = """
SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
  JOIN pg_class ON pg_class.oid = indrelid AND relnamespace = current_schema()::regnamespace
 WHERE NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid)"""
# Rows refer to rows that were inserted before them: no need to look each of them up.
UNCHECKED = """
SELECT set_config('session_replication_role', 'replica', false) FROM pg_roles
 WHERE rolname = current_user AND rolsuper"""


class Timing(NamedTuple):
    """How long a page took, in milliseconds."""

    path: str
    first: float
    median: float
    slowest: float


def fill(url: str, devices: int) -> dict[str, str]:
    """Fill a migrated registry that has no devices; return what names one of them."""
    given = {"devices": devices, "groups": GROUPS, "rules": RULES}
    given |= {"calls": CALLS * devices, "events": EVENTS * devices}
    statements = SEED.read_text().format(**given).split(";\n")
    started = time.perf_counter()
    with psycopg.connect(url, autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM devices_device LIMIT 1").fetchone():
            connection.execute(UNCHECKED)
            connection.execute("SET maintenance_work_mem = '256MB'")
            indexes = connection.execute(INDEXES).fetchall()
            dropped = [f"DROP INDEX {name}" for name, _definition in indexes]
            made = [definition for _name, definition in indexes]
            for statement in (*dropped, *filter(str.strip, statements), *made, "VACUUM ANALYZE"):
                connection.execute(statement.encode())
            pem = pki.issue("Thermostat 1").pem
            connection.execute("UPDATE devices_certificate SET pem = %s WHERE id < 10", [pem])
            print(f"{devices:,} devices in {time.perf_counter() - started:.0f} s", flush=True)
        row = connection.execute("SELECT id, identifier FROM devices_device ORDER BY id LIMIT 1")
        pk, identifier = row.fetchone()  # type: ignore[misc]
    return {"pk": str(pk), "identifier": identifier, "prefix": identifier[:6]}


def sign_in(server: Server) -> httpx.Client:
    client = httpx.Client(base_url=server.url, follow_redirects=True, timeout=120)
    client.get("/admin/login/")
    form = {"username": "bench", "password": PASSWORD, "next": "/admin/password_change/"}
    form["csrfmiddlewaretoken"] = client.cookies["csrftoken"]
    client.post("/admin/login/", data=form).raise_for_status()
    return client


def measure(client: httpx.Client, path: str, times: int) -> Timing:
    """Ask for a page, or a list of the API; for a file, until it begins to come."""
    took = []
    for _ in range(times + 1):
        started = time.perf_counter()
        with client.stream("GET", path) as answer:
            is_file = "content-disposition" in answer.headers
            content = next(answer.iter_bytes(), b"") if is_file else answer.read()
            took.append((time.perf_counter() - started) * 1000)
        if is_file:
            time.sleep(ABANDONED)
        if answer.status_code != 200:
            print(f"{path}: {answer.status_code}", flush=True)
            return Timing(path, 0, 0, 0)
        assert b'id="login-form"' not in content, "not signed in"
    first, *rest = took
    timing = Timing(path, first, statistics.median(rest), max(rest))
    mark = "!" if timing.median > ASKED else " "
    print(f"{mark}{first:8.0f} {timing.median:8.0f} {timing.slowest:8.0f}  {path}", flush=True)
    return timing


FILTERS = re.compile(r'id="changelist-filter".*?</nav>', re.DOTALL)
HEADS = re.compile(r"<thead>.*?</thead>", re.DOTALL)
PAGES = re.compile(r'class="paginator".*?</p>', re.DOTALL)
LINK = re.compile(r'<a[^>]*? href="(\?[^"]*)"|<a href="(\?[^"]*)"')


def ways(page: str, path: str) -> Iterator[tuple[str, str]]:
    """Yield what a list offers, each as its sort and its address."""
    seen = Counter[str]()
    for name, part in (("filter", FILTERS), ("order", HEADS), ("page", PAGES)):
        found = part.search(page)
        links = LINK.findall(found[0]) if found else []
        addresses = list(dict.fromkeys(unescape(one or other) for one, other in links))
        if name == "page":
            addresses = addresses[-1:]
        for address in addresses:
            parameter = f"{name} {address.partition('=')[0]}"
            seen[parameter] += 1
            many = name == "filter" and seen[parameter] > MAX_CHOICES
            if address not in ("?", "?_facets=True") and not many:
                yield name, urljoin(path, address)


def searches(prefix: str) -> list[str]:
    """Return what is searched for: beginnings, parts, what is a million times there, nothing."""
    return [prefix, "Thermostat 99999", "*mostat 1234", "thermostat", "no-such-thing", "/v1/Val"]


def run(url: str, arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), url, DJANGO_SUPERUSER_PASSWORD=PASSWORD)
        server.manage("migrate", "--verbosity", "0")
        prefix = fill(url, arguments.devices)["prefix"]
        with psycopg.connect(url) as connection:
            if not connection.execute("SELECT 1 FROM auth_user WHERE username='bench'").fetchone():
                server.manage("createsuperuser", "--no-input", "--username=bench", "--email=")
        known = json.loads(server.run("-m", "tests.support.admin_pages"))
        with server, closing(sign_in(server)) as client:
            print(f"{'first':>9} {'median':>8} {'slowest':>8}  ms", flush=True)
            if arguments.paths:
                for path in arguments.paths:
                    measure(client, path, arguments.times)
                return
            report(client, known, prefix, arguments)


def report(
    client: httpx.Client, known: dict[str, object], prefix: str, arguments: argparse.Namespace
) -> None:
    """Measure everything; print and write the tables."""
    times = arguments.times
    pages: dict[str, str] = known["pages"]  # type: ignore[assignment]
    rows, others, slow = [], [], []
    for name, path in pages.items():
        timing = measure(client, path, times)
        every = [timing]
        if name.endswith("_changelist"):
            page = client.get(path).text
            found: dict[str, list[Timing]] = {"filter": [], "order": [], "search": [], "page": []}
            for sort, address in ways(page, path):
                found[sort].append(measure(client, address, times))
            if 'id="searchbar"' in page:
                for text in searches(prefix):
                    address = f"{path}?q={quote(text)}"
                    found["search"].append(measure(client, address, times))
            rows.append([path.removeprefix("/admin/"), f"{timing.first:,.0f}", shown([timing])])
            rows[-1] += [shown(found[sort]) for sort in ("filter", "order", "search", "page")]
            every += [one for timings in found.values() for one in timings]
        else:
            others.append(timing)
        slow += [one for one in every if one.median > ASKED]
    for address in known["autocompletes"]:  # type: ignore[attr-defined]
        others += [measure(client, f"{address}&term={term}", times) for term in ("", "Therm", "zz")]
    others += [measure(client, path, times) for path in MORE]
    slow += [one for one in others if one.median > ASKED and one not in slow]
    write(rows, others, slow, arguments)


MORE = [
    "/admin/?",  # as it is while its counts are remembered
    "/admin/search/?q=a",
    "/admin/search/?q=Thermostat",
    "/admin/search/?q=no-such-thing",
    "/admin/devices/device/suggestions/?term=Therm",
    "/admin/devices/device/export/?format=csv",
    "/admin/devices/device/export/?format=csv&credentials=unusable",
    "/admin/rpc/callrecord/export/?period=1h&format=ndjson",
    "/admin/acl/commandpermission/commands/?term=/v1/",
    "/admin/history/?model=devices.device&origin=admin",
    "/admin/history/?user=import",
    "/admin/history/export/?since=2100-01-01",
]


def shown(timings: list[Timing]) -> str:
    return f"{max(one.median for one in timings):,.0f}" if timings else "–"


def write(
    rows: list[list[str]], others: list[Timing], slow: list[Timing], arguments: argparse.Namespace
) -> None:
    """Print the tables; write them where that is asked for."""
    head = ["list", "first answer", "median", "slowest filter", "slowest order"]
    lists = table([*head, "slowest search", "last page"], sorted(rows))
    beside = sorted(others, key=lambda one: -one.median)[: arguments.shown]
    pages = table(
        ["page", "first answer", "median", "slowest"],
        [
            [f"`{one.path}`", *(f"{took:,.0f}" for took in (one.first, one.median, one.slowest))]
            for one in beside
        ],
    )
    missed = "\n".join(f"- `{one.path}`: {one.median:,.0f} ms" for one in slow)
    measured = (
        f"{arguments.devices:,} devices; {description()}; median of {arguments.times}, in ms."
    )
    text = [
        f"{measured} {len(slow)} of all addresses took more than {ASKED} ms.",
        lists,
        f"The {len(beside)} slowest of the {len(others)} pages that are no lists:",
        pages,
        *([f"More than {ASKED} ms:", missed] if slow else []),
    ]
    publish("admin pages", "\n\n".join(text), write=arguments.write)


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=5, help="requests of each page, after one")
    parser.add_argument("--shown", type=int, default=20, help="pages that the tables name")
    parser.add_argument("paths", nargs="*", metavar="PATH")
    options = parsed(parser)
    with available() as url:
        run(url, options)


if __name__ == "__main__":
    main()
