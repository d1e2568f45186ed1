"""The search over everything: what is found by what, and by whom."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from acl.models import CommandSet
from authsite.admin.search import MAX_HITS
from devices.models import Certificate, CertificateAuthority, Device
from tests.support import pki
from tests.support.rules import make_rule
from tests.support.staff import browser_of, staff

Factory = Callable[..., Device]
LAMP = "0B9C2F6E-3a55-4a0c-8a59-1c2d3e4f5a6b"


@pytest.fixture
def certificate(make_device: Factory, make_group: Any) -> Certificate:
    """Something of each kind; return the certificate."""
    lamp = make_device(LAMP, name="Lamp in the hall", enabled=False)
    make_device("//api.cesanta.com/lamp")
    make_group("Hall lamps", parent=make_group("House"))
    anchor = pki.authority("Lamp maker")
    CertificateAuthority.objects.register(presented=anchor.pem, name="Lamp maker")
    make_rule(command="/v1/Lamp.*")
    reading = CommandSet.objects.create(name="lamp reading")
    reading.patterns.create(pattern="/v1/Sensor.Get")
    return Certificate.objects.register(device=lamp, presented=pki.issue("Lamp").pem)


def found(client: Client, text: str) -> dict[str, list[str]]:
    response = client.get("/admin/search/", {"q": text})
    assert response.status_code == 200
    kinds = response.context["found"]
    for kind in kinds:
        if kind.hits or kind.title == "Devices" or text == "%":
            assert client.get(kind.all_url).status_code == 200
        for hit in kind.hits:
            assert client.get(hit.url).status_code == 200
    return {kind.title: [hit.name for hit in kind.hits] for kind in kinds if kind.hits}


@pytest.mark.usefixtures("certificate")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0B9C2F", {"Devices": [LAMP]}),
        (f" {LAMP[:-1]} ", {"Devices": [LAMP]}),
        ("//api.cesanta", {"Devices": ["//api.cesanta.com/lamp"]}),
        ("LAMP IN", {"Devices": [LAMP]}),
        ("hall", {"Device groups": ["Hall lamps"]}),
        ("/v1/Lamp", {"Rules": ["/v1/Lamp.*"]}),
        ("/v1/Sens", {"Command sets": ["lamp reading"]}),
        (
            "lamp",
            {
                "Devices": [LAMP],
                "Device groups": ["Hall lamps"],
                "Trust anchors": ["Lamp maker"],
                "Command sets": ["lamp reading"],
            },
        ),
        ("nothing", {}),
        ("%", {}),
        ("x" * 300, {}),
        ("", {}),
    ],
)
def test_things_are_found_by_how_they_begin(
    admin_client: Client, text: str, expected: dict[str, list[str]]
) -> None:
    assert found(admin_client, text) == expected


def test_certificates_are_found_by_fingerprint_however_it_is_written(
    admin_client: Client, certificate: Certificate
) -> None:
    digits = certificate.fingerprint
    written = ":".join(digits[place : place + 2] for place in range(0, 20, 2)).upper()
    for text in (digits, digits[:8], written):
        assert found(admin_client, text) == {"Certificates": [digits]}
    anchor = CertificateAuthority.objects.get()
    assert found(admin_client, anchor.fingerprint) == {"Trust anchors": ["Lamp maker"]}


def test_hits_are_few_and_the_list_has_the_others(
    admin_client: Client, make_device: Factory
) -> None:
    for number in range(MAX_HITS + 1):
        make_device(f"valve-{number:02}")
    (devices,) = [
        kind
        for kind in admin_client.get("/admin/search/?q=valve-").context["found"]
        if kind.title == "Devices"
    ]
    names = [hit.name for hit in devices.hits]
    assert names == [f"valve-{number:02}" for number in range(MAX_HITS)]
    assert devices.more
    assert devices.count == MAX_HITS + 1
    assert admin_client.get(devices.all_url).context["cl"].result_count == MAX_HITS + 1


@pytest.mark.usefixtures("certificate")
def test_only_what_the_reader_may_see_is_found() -> None:
    client = browser_of(staff("view_devicegroup"))
    assert found(client, "lamp") == {"Device groups": ["Hall lamps"]}
    assert found(client, LAMP) == {}


@pytest.mark.django_db
def test_who_is_not_signed_in_finds_nothing(client: Client) -> None:
    response = client.get("/admin/search/?q=lamp")
    assert response.status_code == 302
    assert "/login/" in response["Location"]


def test_what_was_typed_is_shown_as_text(admin_client: Client) -> None:
    page = admin_client.get("/admin/search/", {"q": '"><script>alert(1)</script>'}).content.decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_statements_are_as_many_whatever_is_found(
    admin_client: Client, make_device: Factory, django_assert_num_queries: Any
) -> None:
    admin_client.get("/admin/search/?q=valve")
    with django_assert_num_queries(9):
        admin_client.get("/admin/search/?q=valve")
    for _ in range(5):
        make_device(name="valve")
    with django_assert_num_queries(9):
        admin_client.get("/admin/search/?q=valve")
