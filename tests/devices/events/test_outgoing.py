"""One request to a host that behaves badly: bounded in time and size, and never led elsewhere."""

import asyncio
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import pytest

from devices.events import outgoing
from devices.events.outgoing import Answer, post
from tests.support.receiver import Receiver, receiver

pytestmark = pytest.mark.once(on="sqlite")


@pytest.fixture(scope="module")
def host() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture(autouse=True)
def _near(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.WEBHOOK_HTTP = True
    settings.WEBHOOK_NETWORKS = (ip_network("127.0.0.0/8"),)
    monkeypatch.setattr(outgoing, "TOTAL_SECONDS", 1.0)
    monkeypatch.setattr(outgoing, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(outgoing, "BODY_SECONDS", 0.2)


def send(url: str, body: bytes = b"{}") -> Answer:
    began = time.monotonic()
    answer = asyncio.run(post(url, body, {"X-Test": "1"}))
    assert time.monotonic() - began < 2.5
    return answer


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [
        ("/ok", 204, ""),
        ("/500", 500, "HTTP 500"),
        ("/redirect", 302, "not followed"),
        ("/busy", 503, "HTTP 503"),
        ("/half", 200, ""),
        ("/endless-body", 200, ""),
        ("/hanging-body", 200, ""),
        ("/close", None, "disconnected"),
        ("/reset", None, "Connection reset by peer"),
        ("/garbage", None, "Protocol"),
        ("/endless-headers", None, "Protocol"),
        ("/endless-interim", None, "Protocol"),
        ("/interim", 200, ""),
        ("/dripping-headers", None, "no answer within"),
        ("/hang", None, "no answer within"),
    ],
)
def test_what_hosts_do(host: Receiver, path: str, code: int | None, said: str) -> None:
    before = host.count()
    answer = send(host.url(path))
    assert (answer.code, answer.is_success) == (code, code in {200, 204})
    assert said in answer.problem
    assert bool(answer.problem) is not answer.is_success
    assert len(answer.text) <= outgoing.MAX_BODY
    assert "\x00" not in answer.text
    assert host.count() == before + 1, "asked once, and nobody else was asked"


def test_a_host_says_when_to_come_again(host: Receiver) -> None:
    assert send(host.url("/busy")).retry_after == 120
    until = send(host.url("/busy-until")).retry_after
    assert until is not None
    assert abs(until - (datetime(2100, 1, 1, tzinfo=UTC).timestamp() - time.time())) < 60


def test_what_is_sent(host: Receiver) -> None:
    send(host.url("/ok?a=b"), b'{"x":1}')
    path, headers, body = host.requests[-1]
    assert (path, body) == ("/ok?a=b", b'{"x":1}')
    assert headers["host"] == f"127.0.0.1:{host.port}"
    assert headers["x-test"] == "1"
    assert headers["content-length"] == "7"


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert "ConnectError" in send(f"http://127.0.0.1:{port}/").problem


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Let names resolve to these addresses, one list a question; return who is asked about."""
    asked: list[str] = []
    waiting = list(answers)

    async def getaddrinfo(_loop: Any, host: str, port: int, **_hints: Any) -> Any:
        asked.append(host)
        found = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return [(2, 1, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return asked


def test_a_name_is_resolved_once_and_that_address_is_connected_to(
    host: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = resolving(monkeypatch, ["127.0.0.1"], ["10.0.0.1"])
    assert send(f"http://rebinding.example:{host.port}/ok").code == 204
    assert asked == ["rebinding.example"]
    assert host.requests[-1][1]["host"] == f"rebinding.example:{host.port}"


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fe80::1%eth0", "0.0.0.0"]
)
def test_a_name_of_an_inner_address_is_refused(
    address: str, host: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, [address])
    before = host.count()
    answer = send(f"http://inner.example:{host.port}/ok")
    assert (answer.code, "not on the internet" in answer.problem) == (None, True)
    assert host.count() == before


def test_of_several_addresses_only_permitted_ones_are_tried(
    host: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, ["10.0.0.1", "127.0.0.99", "127.0.0.1"])
    assert send(f"http://many.example:{host.port}/ok").code == 204


def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, [])
    assert "no address" in send("http://nowhere.example/").problem


def test_a_host_is_no_more_called_once_the_settings_leave_it_out(
    host: Receiver, settings: Any
) -> None:
    settings.WEBHOOK_HOSTS = ["example.com"]
    before = host.count()
    assert "WEBHOOK_HOSTS" in send(host.url("/ok")).problem
    assert host.count() == before


def test_proxies_of_the_environment_are_not_used(
    host: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    assert send(host.url("/ok")).code == 204
