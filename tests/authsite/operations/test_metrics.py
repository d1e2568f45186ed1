"""What is counted in bulk is what prometheus-client would have counted one by one."""

import threading

import pytest
from prometheus_client import CollectorRegistry, Histogram

from authsite.operations import metrics
from authsite.operations.metrics import BulkHistogram, Metrics

BUCKETS = metrics.CALL_BUCKETS
OBSERVED = (0.0, 0.0005, 0.00051, 0.03, 5.0, 5.1, 100.0)


def samples(kind: type[Histogram]) -> tuple[Histogram, CollectorRegistry]:
    registry = CollectorRegistry()
    made = kind("seconds", "How long.", ["endpoint"], buckets=BUCKETS, registry=registry)
    return made, registry


def shown(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("le", "")): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


def test_times_in_bulk_are_those_observed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    bulk, of_bulk = samples(BulkHistogram)
    single, of_single = samples(Histogram)
    monkeypatch.setattr(metrics, "CALL_SECONDS", bulk)
    counted = Metrics()
    for seconds in OBSERVED:
        counted.timed("verifier", seconds)
        single.labels("verifier").observe(seconds)
    counted.publish()
    counted.publish()
    assert shown(of_bulk) == shown(of_single)
    assert shown(of_bulk)["seconds_count", ""] == len(OBSERVED)


def test_no_call_of_many_threads_is_lost() -> None:
    counted = Metrics()

    def count() -> None:
        for _ in range(2_000):
            counted.called("verifier", "credential", "threads-of-a-test")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        counted.publish()
    counted.publish()
    found = {
        sample.value
        for metric in metrics.CALLS.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.labels["reason"] == "threads-of-a-test"
    }
    assert found == {8_000}
