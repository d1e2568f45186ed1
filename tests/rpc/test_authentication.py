"""Who may ask: credentials, networks, proxies."""

import base64
import json
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import Client

from devices.authentication import authenticate
from devices.models import Device, PreSharedKey
from rpc.authentication import RequestIds, source_address

pytestmark = pytest.mark.once(on="sqlite")

BACKEND = "//api.cesanta.com/cloud"
SECRET = "cloud-backend-key-0123456789"

LOCAL = tuple(map(ip_network, ("127.0.0.1/32", "::1/128")))


def basic(name: str, secret: str) -> dict[str, str]:
    token = base64.b64encode(f"{name}:{secret}".encode()).decode()
    return {"authorization": f"Basic {token}"}


@pytest.fixture(autouse=True)
def registry(make_device: Callable[..., Device]) -> None:
    for identifier, kind, enabled in (
        (BACKEND, "backend", True),
        ("//api.cesanta.com/retired", "backend", False),
        ("//api.cesanta.com/device_123", "device", True),
    ):
        device = make_device(identifier, kind=kind, enabled=enabled)
        PreSharedKey.objects.register(device=device, secret=SECRET, random=True)


@pytest.fixture
def ask(client: Client) -> Callable[..., Any]:
    def post(address: str = "203.0.113.9", **headers: str) -> Any:
        return client.generic(
            "POST", "/deviceverifier", b"{}", content_type="", headers=headers, REMOTE_ADDR=address
        )

    return post


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (basic(BACKEND, SECRET), 200),
        (basic("//api.cesanta.com/cloud.rtio", SECRET), 200),
        (basic(BACKEND, "wrong"), 401),
        (basic(BACKEND, ""), 401),
        (basic("", ""), 401),
        (basic("//api.cesanta.com/a.b.c", SECRET), 401),
        (basic("//api.cesanta.com/nobody", SECRET), 401),
        (basic("//api.cesanta.com/retired", SECRET), 401),
        (basic("//api.cesanta.com/device_123", SECRET), 403),
        ({"authorization": "Basic"}, 401),
        ({"authorization": "Basic !!!"}, 401),
        ({"authorization": "Basic " + base64.b64encode(b"nocolon").decode()}, 401),
        ({"authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()}, 401),
        ({"authorization": "Bearer abc"}, 401),
        ({"authorization": "Bearer " + basic(BACKEND, SECRET)["authorization"][6:]}, 401),
        ({"authorization": "basic " + basic(BACKEND, SECRET)["authorization"][6:]}, 200),
    ],
)
def test_outside_the_networks_a_backend_shows_its_secret(
    ask: Callable[..., Any], headers: dict[str, str], status: int
) -> None:
    response = ask(**headers)
    assert response.status_code == status
    assert json.loads(response.content) == {"id": 0, "code": "BAD_REQUEST"}
    assert response.headers.get("WWW-Authenticate", "").startswith("Basic ") is (status == 401)


def test_a_wrong_credential_is_refused_even_from_a_backend_network(
    ask: Callable[..., Any],
) -> None:
    assert ask("127.0.0.1").status_code == 200
    assert ask("127.0.0.1", **basic(BACKEND, "wrong")).status_code == 401
    assert ask("127.0.0.1", authorization="Bearer x").status_code == 401


def test_strangers_do_not_use_up_the_guesses_at_a_device(
    ask: Callable[..., Any], make_device: Callable[..., Device]
) -> None:
    device = make_device("//api.cesanta.com/lamp")
    PreSharedKey.objects.register(device=device, secret="a chosen secret")
    for number in range(7):
        assert ask(**basic(device.identifier, f"guess {number}")).status_code == 401
    assert authenticate(device.identifier, secret="a chosen secret").verified


def test_who_is_refused_learns_nothing(client: Client) -> None:
    def answer(method: str, body: bytes) -> tuple[int, bytes]:
        response = client.generic(
            method, "/deviceverifier", body, content_type="", REMOTE_ADDR="203.0.113.9"
        )
        return response.status_code, response.content

    known = json.dumps({"id": 1, "method": "verify", "deviceid": "x" * 30, "devicesecret": "abc"})
    answers = {
        answer("POST", known.encode()),
        answer("POST", b"not json"),
        answer("POST", b"x" * 100_000),
        answer("GET", b""),
    }
    assert answers == {(401, b'{"id":0,"code":"BAD_REQUEST"}')}


@pytest.mark.parametrize(
    ("meta", "proxies", "address"),
    [
        ({"REMOTE_ADDR": "127.0.0.1"}, (), "127.0.0.1"),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "10.1.1.1"}, (), None),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_FORWARDED": "for=127.0.0.1"}, (), None),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_REAL_IP": "127.0.0.1"}, (), None),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_VIA": "1.1 proxy"}, (), None),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "10.1.1.1"}, LOCAL, "10.1.1.1"),
        ({"REMOTE_ADDR": "127.0.0.1"}, LOCAL, None),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": ""}, LOCAL, None),
        (
            {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "127.0.0.1, 198.51.100.7"},
            LOCAL,
            "198.51.100.7",
        ),
        (
            {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "198.51.100.7, 127.0.0.1"},
            LOCAL,
            "198.51.100.7",
        ),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "127.0.0.1"}, LOCAL, None),
        ({"REMOTE_ADDR": "10.9.9.9", "HTTP_X_FORWARDED_FOR": "127.0.0.1"}, LOCAL, None),
        ({"REMOTE_ADDR": ""}, (), None),
        ({}, (), None),
    ],
)
def test_the_source_is_what_a_configured_proxy_says_or_nothing(
    settings: Any, meta: dict[str, str], proxies: Any, address: str | None
) -> None:
    settings.TRUSTED_PROXIES = proxies
    assert source_address(meta) == address


@pytest.mark.parametrize(
    "header",
    [
        "CF-Connecting-IP",
        "Fastly-Client-IP",
        "Fly-Client-IP",
        "Forwarded",
        "Forwarded-For",
        "True-Client-IP",
        "Via",
        "X-Client-IP",
        "X-Cluster-Client-IP",
        "X-Envoy-External-Address",
        "X-Forwarded",
        "X-Forwarded-By",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Proto",
        "X-Forwarded-Server",
        "X-Original-Forwarded-For",
        "X-ProxyUser-IP",
        "X-Real-IP",
    ],
)
def test_any_sign_of_a_proxy_takes_a_request_out_of_the_networks(
    ask: Callable[..., Any], header: str
) -> None:
    assert ask("127.0.0.1").status_code == 200
    assert ask("127.0.0.1", **{header: "127.0.0.1"}).status_code == 401


@pytest.mark.parametrize(
    ("given", "peer", "kept"),
    [
        ("a-1.b_2:c", "10.0.0.5", True),
        ("a-1.b_2:c", "10.0.0.6", False),
        ("a-1.b_2:c", None, False),
        ("two\nlines", "10.0.0.5", False),
        ("a b", "10.0.0.5", False),
        ("", "10.0.0.5", False),
        (None, "10.0.0.5", False),
    ],
)
def test_a_request_is_named_by_a_configured_proxy_alone(
    settings: Any, given: str | None, peer: str | None, kept: bool
) -> None:
    settings.TRUSTED_PROXIES = (ip_network("10.0.0.5/32"),)
    meta = {"HTTP_X_REQUEST_ID": given, "REMOTE_ADDR": peer}
    asked = RequestIds()
    named = asked.of({name: text for name, text in meta.items() if text is not None})
    assert (named == given) is kept
    assert named != asked.of({})


def test_settings_that_trust_the_world_are_warned_of(settings: Any) -> None:
    assert not run_checks(tags=["security"])
    settings.BACKEND_NETWORKS = (ip_network("0.0.0.0/0"),)
    settings.TRUSTED_PROXIES = (ip_network("::/0"),)
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    found = sorted(str(message.id) for message in run_checks(tags=["security"]))
    assert found == ["rpc.W001", "rpc.W001", "rpc.W002"]


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("10.1.2.3", 200),
        ("::ffff:10.1.2.3", 200),
        ("2001:db8::1", 200),
        ("11.1.2.3", 401),
        ("2001:db9::1", 401),
        ("nonsense", 401),
        ("", 401),
    ],
)
def test_a_network_lets_in_the_addresses_within_it(
    ask: Callable[..., Any], settings: Any, address: str, status: int
) -> None:
    settings.BACKEND_NETWORKS = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
    assert ask(address).status_code == status


def test_behind_a_proxy_the_network_rule_sees_the_client(
    ask: Callable[..., Any], settings: Any
) -> None:
    settings.TRUSTED_PROXIES = LOCAL
    settings.BACKEND_NETWORKS = (ip_network("10.0.0.0/8"), *LOCAL)
    assert ask("127.0.0.1", **{"x-forwarded-for": "10.0.0.5"}).status_code == 200
    assert ask("127.0.0.1", **{"x-forwarded-for": "203.0.113.9"}).status_code == 401
    assert ask("127.0.0.1", **{"x-forwarded-for": "10.0.0.5, 203.0.113.9"}).status_code == 401
    assert ask("127.0.0.1", **{"x-forwarded-for": "garbage"}).status_code == 401
    assert ask("127.0.0.1").status_code == 401
    assert ask("10.0.0.5", **{"x-forwarded-for": "10.0.0.5"}).status_code == 401


def test_the_forwarding_header_can_have_another_name(
    ask: Callable[..., Any], settings: Any
) -> None:
    settings.TRUSTED_PROXIES = LOCAL
    settings.BACKEND_NETWORKS = (ip_network("10.0.0.0/8"),)
    settings.FORWARDED_FOR_HEADER = "Clientaddress"
    assert ask("127.0.0.1", clientaddress="10.0.0.5").status_code == 200
    assert ask("127.0.0.1", **{"x-forwarded-for": "10.0.0.5"}).status_code == 401
    assert ask("10.0.0.5", clientaddress="10.0.0.5").status_code == 401


def test_without_networks_everyone_shows_a_credential(
    ask: Callable[..., Any], settings: Any
) -> None:
    settings.BACKEND_NETWORKS = ()
    assert ask("127.0.0.1").status_code == 401
    assert ask("127.0.0.1", **basic(BACKEND, SECRET)).status_code == 200
