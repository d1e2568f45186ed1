"""Metrics for Prometheus, of all processes of a server together.

Counters and histograms lie in files that the processes share (prometheus-client's multi-process
mode); whichever process is asked adds them up. A call is counted in plain numbers first, which
costs a tenth of that; each process adds them to its file every SAMPLE_EVERY seconds, before it
answers a scrape, and as it ends. What the database knows is read at most once in READ_EVERY
seconds. No label holds an identifier: an authority appears by its number.
"""

import logging
import os
import socket
import socketserver
import threading
import time
from bisect import bisect_left
from collections import Counter as Counts, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from multiprocessing.util import Finalize
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import Count, Min, Q
from django.utils import timezone
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    make_wsgi_app,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from authsite.accounts.tokens import last_used as token_uses
from devices.credentials import hashing
from devices.database import answers, confirmation, last_used
from devices.events.models import DeliveryState, Webhook, WebhookState
from devices.extension_points import PEPPERED
from devices.models import Certificate, PreSharedKey, RevocationList
from devices.telemetry import Source, Telemetry, Wait, watch
from rpc.journal import journal
from rpc.models import ALLOWING, CallReason

FILES = "PROMETHEUS_MULTIPROC_DIR"  # read by prometheus-client when it is imported
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # of what `exposition` returns
READ_EVERY = 60.0  # seconds
SAMPLE_EVERY = 1.0  # seconds between two looks at what a process has waiting
CALL_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
WAIT_BUCKETS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
ENDING_DAYS = (7, 30)
FAILED = frozenset({CallReason.UNAVAILABLE, CallReason.INTERNAL_ERROR, CallReason.BUSY})

log = logging.getLogger(__name__)


class BulkHistogram(Histogram):
    """A histogram that takes what was observed in bulk.

    `_sum` and `_buckets` are no documented names of prometheus-client's:
    tests/authsite/operations/test_metrics.py fails when one of them changes.
    """

    def add(self, counts: Sequence[int], total: float) -> None:
        """Add so many observations for each bucket, the last one without a bound, and their sum."""
        self._sum.inc(total)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


CALLS = Counter(
    "authsite_calls",
    "Questions that machines asked, by how each was answered.",
    ["endpoint", "question", "outcome", "reason"],
)
CALL_SECONDS = BulkHistogram(
    "authsite_call_seconds",
    "How long requests of machines took, their bodies included.",
    ["endpoint"],
    buckets=CALL_BUCKETS,
)
WAIT_SECONDS = Histogram(
    "authsite_wait_seconds",
    "How long requests waited for a slot, and guesses for the turn of their hash.",
    ["kind"],
    buckets=WAIT_BUCKETS,
)
WAIT_REFUSALS = Counter(
    "authsite_wait_refusals", "Requests that were refused after such a wait.", ["kind"]
)
DATABASE_FAILURES = Counter(
    "authsite_database_failures", "Questions that a database did not answer.", ["database"]
)
ANSWERS = Counter(
    "authsite_answers", "Questions by the database that they were put to.", ["source"]
)
BACKLOG = Gauge(
    "authsite_backlog_rows",
    "Rows that wait in memory to be written.",
    ["writer"],
    multiprocess_mode="livesum",
)
LEASE_AGE = Gauge(
    "authsite_lease_age_seconds",
    "Age of the heartbeat that the standby shows; the primary is asked beyond ANSWERS_LEASE.",
    multiprocess_mode="livemax",
)
UNCONFIRMED = Gauge(
    "authsite_unconfirmed_changes",
    "Changes that are committed and that not every standby has confirmed.",
    multiprocess_mode="livemax",
)
METRICS: tuple[Collector, ...] = (
    *(CALLS, CALL_SECONDS, WAIT_SECONDS, WAIT_REFUSALS, DATABASE_FAILURES),
    *(ANSWERS, BACKLOG, LEASE_AGE, UNCONFIRMED),
)


class Times:
    """How long requests took: how many for each bucket, and all together."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(CALL_BUCKETS) + 1)
        self.total = 0.0


class Metrics(Telemetry):
    """Counts what the machine paths report. What each call reports waits here to be published."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: Counts[tuple[str, str, str]] = Counts()
        self._seconds: defaultdict[str, Times] = defaultdict(Times)
        self._answers: Counts[Source] = Counts()

    def called(self, endpoint: str, question: str, reason: str) -> None:
        """Count a question; all three come from the code's own lists."""
        with self._lock:
            self._calls[endpoint, question, reason] += 1

    def timed(self, endpoint: str, seconds: float) -> None:
        with self._lock:
            times = self._seconds[endpoint]
            times.counts[bisect_left(CALL_BUCKETS, seconds)] += 1
            times.total += seconds

    def answered_by(self, source: Source) -> None:
        with self._lock:
            self._answers[source] += 1

    def publish(self) -> None:
        """Add what was counted since the last time to what scrapes see."""
        with self._lock:
            calls, self._calls = self._calls, Counts()
            seconds, self._seconds = self._seconds, defaultdict(Times)
            sources, self._answers = self._answers, Counts()
        for (endpoint, question, reason), count in calls.items():
            outcome = (
                "accepted" if reason in ALLOWING else "failed" if reason in FAILED else "refused"
            )
            CALLS.labels(str(endpoint), str(question), outcome, str(reason)).inc(count)
        for endpoint, times in seconds.items():
            CALL_SECONDS.labels(str(endpoint)).add(times.counts, times.total)
        for source, count in sources.items():
            ANSWERS.labels(source).inc(count)

    def waited(self, kind: Wait, seconds: float) -> None:
        WAIT_SECONDS.labels(kind).observe(seconds)

    def turned_away(self, kind: Wait) -> None:
        WAIT_REFUSALS.labels(kind).inc()

    def database_failed(self, alias: str) -> None:
        DATABASE_FAILURES.labels(alias).inc()


counted = Metrics()


class RegistryCollector(Collector):
    """What the database knows; read at most once in READ_EVERY, by the process that is asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = 0.0
        self._read: list[Metric] = []

    def describe(self) -> list[Metric]:
        """Return nothing: what is registered needs no database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the figures; the last known ones while the database does not answer."""
        with self._lock:
            if time.monotonic() >= self._until:
                try:
                    self._read = [ending(), *lists(), keys(), beside_keys(), *webhooks()]
                except DatabaseError as error:
                    log.warning("metrics: %s", str(error).partition("\n")[0])
                finally:
                    connection.close()
                self._until = time.monotonic() + READ_EVERY
            yield from self._read


def gauge(name: str, text: str, labels: Sequence[str], rows: Iterable[Sequence[Any]]) -> Metric:
    """Return a figure for each row: the values of the labels, and the figure at its end."""
    metric = GaugeMetricFamily(name, text, labels=labels)
    for *values, figure in rows:
        metric.add_metric([str(value) for value in values], figure)
    return metric


def ending() -> Metric:
    """Return how many live credentials of enabled devices end within days."""
    now = timezone.now()
    within = {
        days: Count("pk", filter=Q(not_after__lte=now + timedelta(days=days)))
        for days in ENDING_DAYS
    }
    rows = []
    for kind, model in (("keys", PreSharedKey), ("certificates", Certificate)):
        live = model._default_manager.filter(
            revoked_at=None, device__enabled=True, not_after__gt=now
        )
        counted = live.aggregate(**{str(days): count for days, count in within.items()})
        rows += [(kind, days, count) for days, count in counted.items()]
    text = "Live credentials of enabled devices that end within so many days."
    return gauge("authsite_credentials_ending", text, ["kind", "days"], rows)


def lists() -> list[Metric]:
    """Return how old each revocation list is, and how long it has been overdue."""
    now = timezone.now()
    kept = RevocationList.objects.filter(authority__enabled=True)
    found = list(kept.values_list("authority_id", "this_update", "next_update"))
    return [
        gauge(
            "authsite_revocation_list_age_seconds",
            "Age of the revocation list of a trust anchor, by the anchor's number.",
            ["authority"],
            [(authority, (now - made).total_seconds()) for authority, made, _due in found],
        ),
        gauge(
            "authsite_revocation_list_overdue_seconds",
            "Time since a revocation list should have been renewed; negative until then.",
            ["authority"],
            [(authority, (now - due).total_seconds()) for authority, _made, due in found],
        ),
    ]


def keys() -> Metric:
    """Return how many live keys need each pepper, and whether this process has it."""
    text = "Live keys by the pepper that they need, and whether the instance has it."
    return gauge("authsite_keys", text, ["pepper", "known"], by_pepper(PreSharedKey))


def beside_keys() -> Metric:
    """Return how many live tokens and webhooks need each pepper, likewise."""
    text = "Live tokens and signing secrets of webhooks, as authsite_keys has it for keys."
    rows = [(kind, *row) for kind, model in PEPPERED.items() for row in by_pepper(model)]
    return gauge("authsite_peppered", text, ["kind", "pepper", "known"], rows)


def by_pepper(model: type[Any]) -> Iterator[tuple[str, str, int]]:
    """Yield each pepper, whether this process has it, and how many live rows need it."""
    live = model.objects.live_at(timezone.now()).order_by()
    found = dict(live.values_list("pepper").annotate(Count("pk")))
    for pepper in {*found, *hashing.peppers()}:
        yield pepper, "yes" if pepper in hashing.peppers() else "no", found.get(pepper, 0)


def webhooks() -> list[Metric]:
    """Return what waits for each webhook that is called, by its number, and which are off."""
    now, waits = timezone.now(), Q(deliveries__state=DeliveryState.WAITING)
    called = Webhook.objects.exclude(state=WebhookState.OFF).order_by()
    waiting = called.annotate(
        waiting=Count("deliveries", filter=waits),
        oldest=Min("deliveries__event__moment", filter=waits),
    ).values_list("pk", "waiting", "oldest")
    found = [(pk, n, (now - oldest).total_seconds() if oldest else 0) for pk, n, oldest in waiting]
    off = Webhook.objects.filter(state=WebhookState.OFF).exclude(off_because="").count()
    return [
        gauge(
            "authsite_webhook_deliveries_waiting",
            "Events that wait to be sent to a webhook, by its number.",
            ["webhook"],
            [(pk, count) for pk, count, _age in found],
        ),
        gauge(
            "authsite_webhook_waiting_seconds",
            "Time since the oldest event happened that waits to be sent, by the webhook's number.",
            ["webhook"],
            [(pk, age) for pk, _count, age in found],
        ),
        gauge(
            "authsite_webhooks_switched_off",
            "Webhooks that were switched off after failures.",
            [],
            [(off,)],
        ),
    ]


def registry() -> CollectorRegistry:
    """Return what one answer is made of: the processes' files, and what the database knows."""
    counted.publish()
    made = CollectorRegistry()
    if os.environ.get(FILES):
        MultiProcessCollector(made)  # type: ignore[no-untyped-call]
    else:  # one process, such as a development server
        for metric in METRICS:
            made.register(metric)
    made.register(_collector)
    return made


_collector = RegistryCollector()


def exposition() -> bytes:
    """Return the metrics of all processes of this server, in the text format of Prometheus."""
    return generate_latest(registry())


def start() -> None:
    """Count, and answer scrapes, where the settings ask for metrics."""
    if not settings.METRICS_PORT and not settings.METRICS_NETWORKS:
        return
    for kind in ("slot", "hash"):  # shown before there is any
        WAIT_SECONDS.labels(kind)
        WAIT_REFUSALS.labels(kind)
    for source in ("primary", "standby"):
        ANSWERS.labels(source)
    watch(counted)
    Finalize(None, counted.publish, exitpriority=0)  # unlike atexit, in forked workers, too
    threading.Thread(target=_sample, name="metrics-samples", daemon=True).start()
    if settings.METRICS_PORT:
        serve(settings.METRICS_HOST, settings.METRICS_PORT)


def _sample() -> None:
    """Look at what this process has waiting, every SAMPLE_EVERY seconds."""
    while True:
        counted.publish()
        for worker in (journal, last_used.worker, token_uses.worker):
            BACKLOG.labels(worker.name).set(worker.waiting())
        UNCONFIRMED.set(confirmation.pending())
        if answers.standby is not None:
            LEASE_AGE.set(answers.standby.age)
        time.sleep(SAMPLE_EVERY)


class _Handler(WSGIRequestHandler):
    """Logs no scrape, and gives up on whoever sends nothing."""

    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
        """Say nothing."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """One of the processes' servers on METRICS_PORT, which they share: any of them answers."""

    daemon_threads = True
    allow_reuse_port = True


def serve(host: str, port: int) -> None:
    """Answer scrapes on a port of their own, in a thread of this process."""

    def app(environ: Any, start_response: Any) -> Any:
        return make_wsgi_app(registry())(environ, start_response)

    if ":" in host:
        _Server.address_family = socket.AF_INET6
    server = make_server(host, port, app, server_class=_Server, handler_class=_Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
