"""RTIO servers as rows, and as code."""

import base64
import json
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from devices.history import history_of
from devices.models import Device
from rpc.rtio.models import (
    Cause,
    DeviceServiceRoute,
    EndingState,
    RtioServer,
    SessionEnding,
    TlsMode,
)
from rpc.rtio.models.server import is_near
from rpc.rtio.models.session_ending import can_be_ended
from tests.rpc.rtio.conftest import MakeServer
from tests.support import pki
from tests.support.commands import answer, run
from tests.support.staff import browser_of, staff

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

PRIVATE_KEY = "-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\n"
IN_BASE64 = base64.encodebytes(pki.authority().der).decode()
OF_VERSION_5 = ssl.DER_cert_to_PEM_cert(
    pki.authority().der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05", 1)
)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"host": "no host"}, "host"),
        ({"host": "-a.example"}, "host"),
        ({"host": "203.0.113.9"}, "tls"),
        ({"host": "2001:4860::1"}, "tls"),
        ({"port": 0}, "port"),
        ({"port": 65536}, "port"),
        ({"tls": TlsMode.PINNED}, "certificate"),
        ({"tls": TlsMode.CHECKED, "certificate": "no PEM"}, "certificate"),
        ({"certificate": pki.authority().pem + PRIVATE_KEY}, "certificate"),
        (
            {"certificate": f"Büro\n{pki.authority().pem}"},
            "certificate",
        ),  # TLS libraries want ASCII
        ({"certificate": OF_VERSION_5}, "certificate"),
        ({"certificate": IN_BASE64}, "certificate"),
    ],
)
def test_server_that_cannot_be_reached_as_it_says_is_refused(
    make_rtio_server: MakeServer, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValidationError) as error:
        make_rtio_server(**changes)
    assert field in error.value.message_dict


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "rtio.example"},
        {"host": "[::1]"},
        {"host": "10.1.2.3"},
        {"host": "203.0.113.9", "tls": TlsMode.UNPROTECTED},
        {"host": "203.0.113.9", "tls": TlsMode.CHECKED},
        {"tls": TlsMode.PINNED, "certificate": pki.authority().pem},
    ],
)
def test_server_that_can_be_reached_is_taken(
    make_rtio_server: MakeServer, changes: dict[str, Any]
) -> None:
    assert make_rtio_server(**changes).address.endswith(":17017")


def test_server_calls_as_a_backend_of_its_own(
    make_rtio_server: MakeServer, make_device: Callable[..., Device]
) -> None:
    backend = make_device("//rtio.example/one", kind="backend")
    assert make_rtio_server("one", backend=backend).caller == "//rtio.example/one"
    with pytest.raises(ValidationError, match="calls as this backend"):
        make_rtio_server("two", host="::1", backend=backend)
    with pytest.raises(ValidationError, match="no backend"):
        make_rtio_server("three", host="::1", backend=make_device())
    backend.delete()
    assert not RtioServer.objects.exists()


@pytest.mark.parametrize(
    ("host", "near"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("192.168.1.1", True),
        ("::ffff:10.0.0.1", True),
        ("fd00::1", True),
        ("8.8.8.8", False),
        ("::ffff:8.8.8.8", False),
        ("rtio.example", None),
    ],
)
def test_private_networks_are_near(host: str, near: bool | None) -> None:
    assert is_near(host) is near


def test_ids_of_36_bytes_can_be_ended() -> None:
    assert can_be_ended("cfa09baa-4913-4ad7-a936-2e26f9671b05")
    assert not can_be_ended("cfa09baa-4913-4ad7-a936-2e26f9671b0")
    assert not can_be_ended("//api.cesanta.com/device_123")


DOCUMENT = """\
format: 1
routes:
- uri: /aa/bb
  url: http://localhost:17517/bb
- uri: /aa/cc
  url: http://localhost:17517/cc
  enabled: false
  note: later
servers:
- name: one
  host: 10.0.0.5
  calls_as: //rtio.example/one
- name: two
  host: rtio.example
  port: 443
  tls: checked
"""


def imported(text: str, *words: str) -> dict[str, Any]:
    return answer("import_rtio", "-", *words, stdin=text)


def exported() -> str:
    return run("export_rtio")[0]


def test_what_is_imported_is_exported(tmp_path: Path, make_device: Callable[..., Device]) -> None:
    make_device("//rtio.example/one", kind="backend")
    assert imported(DOCUMENT, "--dry-run")["changed"]
    assert not RtioServer.objects.exists()
    assert imported(DOCUMENT)["changed"]
    assert exported() == DOCUMENT
    for words in (["all.yaml"], ["--output", "again.yaml"]):
        file = tmp_path / words.pop()
        run("export_rtio", *words, str(file))
        assert file.read_text() == DOCUMENT
    assert not imported(DOCUMENT)["changed"]
    imported("format: 1\nroutes: []\nservers: []\n")
    assert not RtioServer.objects.exists()
    assert not DeviceServiceRoute.objects.exists()


def test_routes_that_rtio_keeps_are_named(db: None) -> None:
    empty = "format: 1\nroutes: []\nservers: []\n"
    routes = DOCUMENT.partition("servers:")[0] + "servers: []\n"
    assert run("import_rtio", "-", stdin=routes)[1] == ""
    for words in (("--dry-run",), ()):
        printed, complaint = run("import_rtio", "-", "--json", *words, stdin=empty)
        assert json.loads(printed)["kept_by_rtio"] == ["/aa/bb"], "/aa/cc was not enabled"
        assert complaint.count("keep the route /aa/bb until they restart") == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("format: 2\nroutes: []\nservers: []\n", "format"),
        ("format: 1\nroutes: []\n", "servers"),
        ("format: 1\nroutes: []\nservers: []\nmore: 1\n", "more"),
        ("format: 1\nroutes: [{uri: /aa, url: 7}]\nservers: []\n", "str"),
        ("format: 1\nroutes: [{uri: aa, url: 'http://h/'}]\nservers: []\n", r"routes\[0\]"),
        ("format: 1\nroutes: []\nservers: [{name: a, host: h, tls: x}]\n", r"servers\[0\]"),
        ("format: 1\nroutes: []\nservers: [{name: a, host: h, calls_as: b}]\n", "no device b"),
        ("format: 1\nroutes: []\nservers: [{name: a, host: h}, {name: a, host: i}]\n", "twice"),
        ("}", "neither YAML nor JSON"),
        ("format: 1\nroutes: []\nservers: []\nroutes: []\n", "Line 4: “routes” stands twice"),
        (r'{format: 1, routes: [{uri: "/a\0b", url: "http://h/"}], servers: []}', "uri: .* NUL"),
        (r'{format: 1, routes: [], servers: [{name: "a\0", host: h}]}', "name: .* NUL"),
        (r'{format: 1, routes: [], servers: [{name: a, host: h, calls_as: "\0"}]}', "calls_as: "),
    ],
)
def test_document_that_makes_no_sense_changes_nothing(
    make_rtio_server: MakeServer, text: str, problem: str
) -> None:
    make_rtio_server()
    assert re.search(problem, run("import_rtio", "-", stdin=text, code=1)[1])
    assert RtioServer.objects.count() == 1


def test_servers_can_change_places(make_device: Callable[..., Device]) -> None:
    make_device("//rtio.example/one", kind="backend")
    imported(DOCUMENT)
    kept = set(RtioServer.objects.values_list("pk", "name"))
    swapped = DOCUMENT.replace("name: one", "name: x").replace("name: two", "name: one")
    swapped = swapped.replace("name: x", "name: two")
    servers = swapped.partition("servers:\n")[2]
    first, second = servers[: servers.index("- name: one")], servers[servers.index("- name: one") :]
    swapped = swapped.replace(servers, second + first)

    assert imported(swapped)["changed"]

    assert exported() == swapped
    assert set(RtioServer.objects.values_list("pk", "name")) == kept
    hosts = history_of(RtioServer).objects.filter(history_type="~").values_list("host", flat=True)
    assert sorted(hosts) == ["10.0.0.5", "rtio.example"]


@pytest.mark.parametrize("uri", ["/aa", "/bb"])
def test_one_route_may_grow_by_what_another_gives_up(db: None, uri: str) -> None:
    def document(**lengths: int) -> str:
        routes = [f"- uri: /{name}\n  url: http://h/{'x' * n}\n" for name, n in lengths.items()]
        return f"format: 1\nroutes:\n{''.join(routes)}servers: []\n"

    imported(document(aa=600, bb=600, cc=600))
    grown = document(**{"aa": 400, "bb": 400, "cc": 600, uri[1:]: 900})

    assert imported(grown)["changed"]

    assert exported() == grown


def test_pages_of_servers_and_receipts_open(
    admin_client: Client, make_rtio_server: MakeServer
) -> None:
    server = make_rtio_server()
    for name, args in (
        ("rtioserver_changelist", []),
        ("rtioserver_add", []),
        ("rtioserver_change", [server.pk]),
        ("rtioserver_history", [server.pk]),
        ("sessionending_changelist", []),
        ("deviceserviceroute_changelist", []),
        ("deviceserviceroute_add", []),
    ):
        assert admin_client.get(reverse(f"admin:rpc_{name}", args=args)).status_code == 200


def end_sessions_of(server: RtioServer, many: int) -> None:
    """Make the receipts of sessions that were ended at a server."""
    now = timezone.now()
    about = {
        "state": EndingState.ENDED,
        "server": server,
        "cause": Cause.DISABLED,
        "requested_at": now,
        "due_at": now,
    }
    endings = [SessionEnding(identifier=f"lamp-{n}", **about) for n in range(many)]
    SessionEnding.objects.bulk_create(endings)


def test_deleting_a_server_counts_the_endings_of_its_sessions(
    admin_client: Client, make_rtio_server: MakeServer
) -> None:
    server = make_rtio_server()
    end_sessions_of(server, 3)
    address = reverse("admin:rpc_rtioserver_delete", args=[server.pk])
    page = admin_client.get(address).content.decode()
    assert f"{SessionEnding._meta.verbose_name_plural}: 3".lower() in page.lower()
    assert "lamp-0" not in page
    admin_client.post(address, {"post": "yes"})
    assert not RtioServer.objects.exists()


def test_security_deletes_servers_with_what_is_left_of_sessions(
    make_rtio_server: MakeServer,
) -> None:
    """It may delete servers; ended sessions, which nobody deletes by hand, go with theirs."""
    kim = staff(role="Security")
    client = browser_of(kim)
    program = APIClient()
    program.force_authenticate(kim)
    for port, name in enumerate(("on its page", "in the list", "over the API"), start=8910):
        end_sessions_of(make_rtio_server(name, port=port), 1)
    server = RtioServer.objects.get(name="on its page")
    address = reverse("admin:rpc_rtioserver_delete", args=[server.pk])
    page = client.get(address)
    assert page.context["perms_lacking"] == set()
    assert "ended sessions: 1" in page.content.decode().lower()
    assert client.post(address, {"post": "yes"}).status_code == 302
    server = RtioServer.objects.get(name="in the list")
    chosen = {"action": "delete_selected", "_selected_action": [server.pk], "post": "yes"}
    client.post(reverse("admin:rpc_rtioserver_changelist"), chosen)
    server = RtioServer.objects.get()
    assert server.name == "over the API"
    gone = program.delete(f"/api/v1/rtio-servers/{server.pk}", headers={"If-Match": "*"})
    assert gone.status_code == 204
    assert not RtioServer.objects.exists()
    assert not SessionEnding.objects.exists()
