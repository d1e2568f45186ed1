"""Callers that show a client certificate, handed on by the TLS front."""

import base64
import json
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any
from urllib.parse import quote

import pytest
from django.core.checks import run_checks
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from devices.credentials import throttle
from devices.credentials.certificates import MAX_NAMED, backends_named
from devices.credentials.stored_certificates import CERTIFICATES_OF_BACKENDS
from devices.credentials.x509 import Refused
from devices.models import Certificate, CertificateAuthority, Device, PreSharedKey
from devices.models.credentials.certificate import Pin
from devices.verdicts import Outcome
from tests.support.pki import Party, authority, device_certificate, key

CLOUD = "//api.cesanta.com/cloud"
RTIO = "//api.cesanta.com/rtio"
LAMP = "//api.cesanta.com/lamp"
SECRET = "cloud-backend-key-0123456789"
PROXY = "10.0.0.5"
HEADER = "ClientCert"

Ask = Callable[..., int]


@pytest.fixture(autouse=True)
def registry(settings: Any, make_device: Callable[..., Device]) -> None:
    settings.CLIENT_CERT_HEADER = HEADER
    settings.TRUSTED_PROXIES = (ip_network(f"{PROXY}/32"),)
    cloud = make_device(CLOUD, kind="backend")
    PreSharedKey.objects.register(device=cloud, secret=SECRET, random=True)
    make_device(RTIO, kind="backend")
    make_device(LAMP)


@pytest.fixture
def pinned() -> Party:
    party = device_certificate("cloud")
    cloud = Device.objects.get(identifier=CLOUD)
    Certificate.objects.register(device=cloud, presented=party.pem)
    return party


@pytest.fixture
def root() -> Party:
    party = authority()
    CertificateAuthority.objects.register(presented=party.pem, name="Root")
    return party


@pytest.fixture
def ask(client: Client) -> Ask:
    def send(
        certificate: Party | str | None = None,
        frame: dict[str, Any] | None = None,
        *,
        path: str = "/",
        address: str = PROXY,
        **headers: str,
    ) -> int:
        if isinstance(certificate, Party):
            certificate = quote(certificate.pem, safe="")
        if certificate is not None:
            headers[HEADER] = certificate
        headers.setdefault("x-forwarded-for", "203.0.113.9")
        body = json.dumps({"cmds": [{"cmd": "/v1/Hello"}]} | (frame or {}))
        response = client.generic(
            "POST", path, body, content_type="", headers=headers, REMOTE_ADDR=address
        )
        assert response["Content-Type"] == "application/json"
        status: int = response.status_code
        return status

    return send


@pytest.mark.parametrize("path", ["/", "/rpc", "/v1/Hello", "/deviceverifier"])
def test_a_pinned_certificate_lets_its_backend_in_everywhere(
    ask: Ask, pinned: Party, path: str
) -> None:
    assert ask(path=path) == 401
    assert ask("", path=path) == 401
    assert ask(pinned, path=path) == 200
    assert ask(device_certificate("another"), path=path) == 401


def test_each_form_of_the_header_is_read(ask: Ask, pinned: Party) -> None:
    der = base64.b64encode(pinned.der).decode()
    assert ask(f":{der}:") == 200  # RFC 9440
    assert ask(der) == 200
    assert ask(quote(pinned.pem)) == 200
    for garbage in ("x", "%", "::", ":", f":{der}", f"{der},{der}", "%00", "(null)", "é" * 9):
        assert ask(garbage) == 401, garbage
        assert ask(garbage, {"src": CLOUD}) == 401, garbage


def test_a_header_that_comes_twice_lets_nobody_in(ask: Ask, pinned: Party) -> None:
    """A proxy that adds its header to the client's would hand on a certificate of any backend."""
    own = device_certificate("a stranger's own")
    forged, added = quote(pinned.pem, safe=""), quote(own.pem, safe="")
    for value in (f"{forged},{added}", f"{forged}, {added}", f"{added},{forged}", f"{forged},"):
        assert ask(value) == 401, value
        assert ask(value, {"src": CLOUD}) == 401, value


def test_the_sender_of_a_frame_must_be_whose_certificate_it_is(ask: Ask, pinned: Party) -> None:
    assert ask(pinned, {"src": f"{CLOUD}.dispatcher"}) == 200
    for address in (RTIO, LAMP, "//api.cesanta.com/nobody", "//h/a.b.c", ""):
        assert ask(pinned, {"src": address}) == 401, address


def test_an_anchor_s_naming_rule_finds_the_backend(ask: Ask, root: Party) -> None:
    own = device_certificate(RTIO, root)
    assert ask(own) == 200
    assert ask(own, {"src": RTIO}) == 200
    assert ask(own, {"src": CLOUD}) == 401
    assert ask(device_certificate(LAMP, root)) == 403
    assert ask(device_certificate("//api.cesanta.com/nobody", root)) == 401
    assert ask(device_certificate(RTIO, authority(private_key=key("another root")))) == 401
    CertificateAuthority.objects.update(enabled=False)
    assert ask(own) == 401


def test_a_certificate_with_names_of_several_lets_in_the_backend_among_them(
    ask: Ask, root: Party
) -> None:
    CertificateAuthority.objects.update(name_source="san-uri", name_pattern="urn:{id}")
    assert ask(device_certificate("x", root, uris=[f"urn:{LAMP}", f"urn:{RTIO}"])) == 200
    assert ask(device_certificate("x", root, uris=[f"urn:{n}" for n in "abcd"])) == 401


def test_the_certificate_of_one_backend_among_many_is_found(
    ask: Ask, pinned: Party, make_device: Callable[..., Device]
) -> None:
    for number in range(MAX_NAMED):
        other = device_certificate(f"other {number}")
        device = make_device(f"//a/{number}", kind="backend")
        Certificate.objects.register(device=device, presented=other.pem, pin=Pin.PUBLIC_KEY)
    assert ask(pinned) == 200


def test_a_pin_by_public_key_lets_a_renewed_certificate_in(ask: Ask) -> None:
    old, renewed = device_certificate("rtio"), device_certificate("rtio")
    Certificate.objects.register(
        device=Device.objects.get(identifier=RTIO), presented=old.pem, pin=Pin.PUBLIC_KEY
    )
    assert ask(renewed) == 200


def test_revoking_or_disabling_holds_at_the_next_request(
    ask: Ask, pinned: Party, root: Party
) -> None:
    named = device_certificate(RTIO, root)
    assert (ask(pinned), ask(named)) == (200, 200)
    Certificate.objects.get().revoke(by="ops")
    Certificate.objects.revoke_presented(
        device=Device.objects.get(identifier=RTIO), presented=named.pem, by="ops"
    )
    assert (ask(pinned), ask(named)) == (401, 401)
    assert (ask(pinned, {"src": CLOUD}), ask(named, {"src": RTIO})) == (401, 401)

    other = device_certificate("other")
    Certificate.objects.register(device=Device.objects.get(identifier=CLOUD), presented=other.pem)
    assert ask(other) == 200
    Device.objects.filter(identifier=CLOUD).update(enabled=False)
    assert ask(other) == 401


@pytest.mark.parametrize("address", ["127.0.0.1", "203.0.113.9", "", "nonsense"])
def test_from_anyone_but_a_configured_proxy_it_is_forged(
    ask: Ask, pinned: Party, client: Client, address: str
) -> None:
    assert ask(pinned, address=address) == 401
    response = client.generic(
        "POST",
        "/",
        b'{"cmds":[]}',
        content_type="",
        headers={HEADER: quote(pinned.pem)},
        REMOTE_ADDR=address,
    )
    assert response.status_code == 401


def test_without_the_setting_the_header_says_nothing(
    ask: Ask, pinned: Party, settings: Any
) -> None:
    settings.CLIENT_CERT_HEADER = ""
    assert ask(pinned) == 401
    settings.BACKEND_NETWORKS = (ip_network("203.0.113.0/24"),)
    assert ask("garbage") == 200


def test_every_credential_that_is_shown_must_hold(ask: Ask, pinned: Party, settings: Any) -> None:
    def basic(secret: str, name: str = CLOUD) -> str:
        return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()

    rtio = Device.objects.get(identifier=RTIO)
    PreSharedKey.objects.register(device=rtio, secret=SECRET, random=True)
    wrong = device_certificate("another")
    right_key = {"src": CLOUD, "key": SECRET}
    assert ask(pinned, right_key) == 200
    assert ask(pinned, right_key | {"key": "wrong"}) == 401
    assert ask(wrong, right_key) == 401
    assert ask(pinned, authorization=basic(SECRET)) == 200
    assert ask(pinned, authorization=basic("wrong")) == 401
    assert ask(wrong, authorization=basic(SECRET)) == 401
    assert ask(pinned, authorization=basic(SECRET, RTIO)) == 401
    assert ask(address="203.0.113.9", authorization=basic(SECRET, RTIO)) == 200
    settings.BACKEND_NETWORKS = (ip_network("203.0.113.0/24"),)
    assert ask() == 200
    assert ask(wrong) == 401


def test_an_id_with_a_dot_is_not_taken_for_an_address(
    ask: Ask, make_device: Callable[..., Device]
) -> None:
    device = make_device("//h/a%2Eb", kind="backend")
    assert device.identifier == "//h/a.b"
    PreSharedKey.objects.register(device=device, secret=SECRET, random=True)
    party = device_certificate("dotted")
    Certificate.objects.register(device=device, presented=party.pem)
    token = base64.b64encode(f"//h/a%2Eb:{SECRET}".encode()).decode()
    assert ask(party, authorization=f"Basic {token}") == 200
    assert ask(party, {"src": "//h/a%2Eb.rtio", "key": SECRET}) == 200
    assert ask(party) == 200


def test_failures_are_counted_for_whom_they_claim(
    ask: Ask, pinned: Party, root: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, fresh = device_certificate(RTIO, root), device_certificate(RTIO, root)
    assert ask(known) == 200
    examined: list[str] = []

    def refuse(examination: Any) -> str:
        examined.append(examination.identifier)
        raise Refused(Outcome.UNTRUSTED_ISSUER)

    with monkeypatch.context() as patched:
        patched.setattr("devices.credentials.certificates.Verification._verify_path", refuse)
        for number in range(throttle.FAILURES + 3):
            assert ask(device_certificate(f"forged {number}"), {"src": RTIO}) == 401
        assert examined == [RTIO] * throttle.FAILURES
    assert ask(fresh) == 401  # like a guess at a chosen secret, until the window has passed
    assert ask(known) == 200  # while what was verified before passes
    for number in range(throttle.FAILURES + 3):
        assert ask(device_certificate(f"forged {number}"), {"src": CLOUD}) == 401
    assert ask(pinned) == 200  # and what is pinned, as a generated secret does


def test_backends_are_found_by_an_index(ask: Ask, pinned: Party) -> None:
    with CaptureQueriesContext(connection) as captured:
        backends_named(pinned.pem)
    sql = captured.captured_queries[0]["sql"]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # By its statistics it begins with the backends, or with the certificate.
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(f"EXPLAIN {sql}")
            plan = str(cursor.fetchall())
            assert "Index" in plan
            assert "Seq Scan" not in plan
        else:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            assert "devices_device_backends" in str(cursor.fetchall())
    assert CERTIFICATES_OF_BACKENDS.rows("x", "y") == []


def test_a_call_by_certificate_costs_a_few_statements(
    ask: Ask, pinned: Party, root: Party, django_assert_num_queries: Any
) -> None:
    named = device_certificate(RTIO, root)
    ask(named)
    with django_assert_num_queries(2):
        assert ask(pinned, {"src": CLOUD}) == 200
    for party in (pinned, named):
        with django_assert_num_queries(4):
            assert ask(party) == 200


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"TRUSTED_PROXIES": ()}, ["rpc.W003"]),
        ({"CLIENT_CERT_HEADER": "", "TRUSTED_PROXIES": ()}, []),
        ({"CLIENT_CERT_HEADER": "X-Client-Cert"}, ["rpc.I001"]),
        ({"CLIENT_CERT_HEADER": "Host"}, ["rpc.E001"]),
        ({"CLIENT_CERT_HEADER": "x-forwarded-for"}, ["rpc.E001", "rpc.I001"]),
    ],
)
def test_settings_that_do_not_go_together_are_told(
    settings: Any, changes: dict[str, Any], found: list[str]
) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    assert sorted(str(message.id) for message in run_checks(tags=["security"])) == found
