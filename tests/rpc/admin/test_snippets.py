"""What staff paste once they have a secret lets in whom it names."""

import base64
import json
import re
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from django.test import Client, RequestFactory

from devices.models import Device, PreSharedKey
from devices.values.addresses import written
from rpc.admin.snippets import snippets

pytestmark = pytest.mark.once(on="sqlite")


def test_a_backend_that_basic_cannot_name_tries_its_key(
    client: Client, make_device: Callable[..., Device]
) -> None:
    backend = make_device("rtio:one", kind="backend")
    _key, secret = PreSharedKey.objects.issue(device=backend)
    [pasted] = snippets(RequestFactory().get("/"), backend, secret)
    [body] = re.findall(r"^{.*}$", pasted.text, re.MULTILINE)
    assert "http://testserver/rpc" in pasted.text
    for key, status in ((secret, 0), ("another", 401)):
        frame = body.replace(secret, key)
        answer = client.generic("POST", "/rpc", frame, REMOTE_ADDR="203.0.113.1")
        assert answer.json()["resp"][0]["status"] == status


@pytest.mark.parametrize(
    ("address", "identifier"),
    [
        ("//rtio.example/one", "//rtio.example/one"),
        ("//rtio.example:8443/one", "//rtio.example:8443/one"),
        ("//[2001:db8::1]/one", "//[2001:db8::1]/one"),
        ("//rtio.example/one%2Etwo", "//rtio.example/one.two"),
        ("//rtio.example/50%25", "//rtio.example/50%"),
        ("//rtio.example/%253A", "//rtio.example/%3A"),
        ("//rtio.example/ü@&", "//rtio.example/ü@&"),
        ("rtio-one.two", "rtio-one.two"),
    ],
)
def test_a_backend_is_let_in_by_what_is_pasted(
    client: Client, make_device: Callable[..., Device], address: str, identifier: str
) -> None:
    backend = make_device(address, kind="backend")
    assert backend.identifier == identifier
    _key, secret = PreSharedKey.objects.issue(device=backend)

    url, command = (one.text for one in snippets(RequestFactory().get("/"), backend, secret))

    parts = urlsplit(url)
    in_url = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    match = re.search(r"^user = (.*)$", command, re.MULTILINE)
    assert match
    in_command: Any = json.loads(match[1])
    assert in_url == in_command
    shown = base64.b64encode(in_url.encode()).decode()
    headers = {"authorization": f"Basic {shown}"}
    answer = client.generic("POST", "/v1/Hello", "{}", headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("identifier", "answer"),
    [
        ("cfa09baa-4913-4ad7-a936-000000000001", {"id": 1, "code": "OK"}),
        ("//api.example.com/lamps-of-the-hall-one", {"id": 1, "code": "OK"}),
        ("my-lamp", {"v": 2, "result": True}),
        ("//h/a.b", {"v": 2, "result": True}),
        ("a-name-of-more-than-forty-characters-has-no-place-in-rtio", {"v": 2, "result": True}),
    ],
)
def test_a_device_is_let_in_by_what_is_pasted(
    client: Client,
    make_device: Callable[..., Device],
    identifier: str,
    answer: dict[str, Any],
    settings: Any,
) -> None:
    settings.BACKEND_NETWORKS = (ip_network("203.0.113.0/24"),)
    device = make_device(written(identifier))
    assert device.identifier == identifier
    _key, secret = PreSharedKey.objects.issue(device=device)
    _json, pasted = snippets(RequestFactory().get("/"), device, secret)
    [path] = re.findall(r"http://testserver(\S+)", pasted.text)
    [body] = re.findall(r"^{.*}$", pasted.text, re.MULTILINE)
    assert client.generic("POST", path, body, REMOTE_ADDR="203.0.113.1").json() == answer
    assert ("OK" if "code" in answer else "true") in pasted.name
