"""Health, metrics and an orderly stop, of a real server."""

import http.client
import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import free_port
from tests.support.servers import Server, empty_registry, own_database

pytestmark = [pytest.mark.e2e, pytest.mark.once(on="sqlite")]

UNKNOWN: dict[str, str | int] = {
    "id": 1,
    "method": "verify",
    "deviceid": "00000000-0000-4000-8000-000000000000",
    "devicesecret": "a secret that nobody has",
}
SAMPLE = re.compile(r"^(authsite_\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


def scrape(port: int) -> dict[tuple[str, str], float]:
    """Return the samples by name and labels."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return {(name, labels): float(value) for name, labels, value in SAMPLE.findall(text)}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server of two processes with metrics on a port of their own."""
    folder = tmp_path_factory.mktemp("watched")
    names = {
        "WORKERS": "2",
        "METRICS_PORT": str(free_port()),
        "METRICS_NETWORKS": "10.9.9.0/24",
        "LOG_FORMAT": "json",
    }
    with own_database(folder) as url, Server(folder, url, **names) as server:
        assert server.ask("GET", "/livez").status == 200
        assert server.ask("GET", "/readyz").status == 503, "nothing is migrated"
    assert "not ready: " in server.log
    with empty_registry(folder) as url, Server(folder, url, **names) as server:
        yield server


def test_health_is_told_in_two_words(watched: Server) -> None:
    for path in ("/livez", "/readyz"):
        answer = watched.ask("GET", path)
        assert (answer.status, answer.body) == (200, b"ok\n")
        assert "X-Request-Id" not in answer.headers
        assert watched.ask("HEAD", path).body == b""
        assert watched.ask("POST", path, b"{}").status == 405


def test_readiness_takes_milliseconds(watched: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", watched.port, timeout=10)
    seconds = []
    for _ in range(50):
        began = time.monotonic()
        connection.request("GET", "/readyz")
        assert connection.getresponse().read() == b"ok\n"
        seconds.append(time.monotonic() - began)
    connection.close()
    assert sorted(seconds)[5] < 0.005  # what else the machine does only adds to it


def test_calls_of_all_processes_are_counted(watched: Server) -> None:
    port = int(watched.environment["METRICS_PORT"])
    reason = "identifier-length"
    labels = f'endpoint="verifier",outcome="refused",question="credential",reason="{reason}"'
    calls = "authsite_calls_total", labels
    body = json.dumps(UNKNOWN | {"deviceid": "too-short-an-id"}).encode()
    for _ in range(20):  # a connection each, so that both processes have some
        watched.ask("POST", "/deviceverifier", body)
    deadline = time.monotonic() + 5  # the process that is not asked publishes every second
    while (samples := scrape(port)).get(calls, 0) < 20 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert samples[calls] == 20
    assert samples["authsite_call_seconds_count", 'endpoint="verifier"'] >= 20
    assert samples["authsite_credentials_ending", 'days="7",kind="keys"'] == 0
    assert not any("too-short-an-id" in words for _name, words in samples)


def test_metrics_are_no_page_for_strangers(watched: Server) -> None:
    assert watched.ask("GET", "/metrics").status == 404


def test_each_answer_names_its_request(watched: Server) -> None:
    def asked(**headers: str) -> str | None:
        body = json.dumps(UNKNOWN).encode()
        answer = watched.ask("POST", "/deviceverifier", body, headers)
        return answer.headers["X-Request-Id"]

    first, second = asked(), asked()
    assert first
    assert first != second
    assert asked(**{"X-Request-Id": "forged"}) != "forged", "no proxy is configured"


def test_a_server_that_stops_says_so_first(watched: Server, tmp_path: Path) -> None:
    server = Server(
        tmp_path,
        watched.database_url,
        DRAIN_SECONDS="2",
        TRUSTED_PROXIES="127.0.0.1/32",
        BACKEND_NETWORKS="10.0.0.0/8",
    )
    with server:
        assert server.ask("GET", "/readyz").status == 200
        body = json.dumps(UNKNOWN).encode()
        headers = {"X-Forwarded-For": "10.0.0.1", "X-Request-Id": "given-1"}
        assert server.ask("POST", "/", body, headers).headers["X-Request-Id"] == "given-1"
        server.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 1
        while server.ask("GET", "/readyz").status != 503:
            assert time.monotonic() < deadline, "it does not say that it stops"
        assert server.ask("GET", "/livez").status == 200
        assert b"NOT_FOUND" in server.ask("POST", "/deviceverifier", body, headers).body
        assert server.process.wait(15) == 0
    assert "the server was told to stop" in server.log
