"""A form of which the end is lost with its connection changes nothing; slow senders hold no thread.

Django takes what came of a form for all of it: a device whose groups were not sent would leave
them. A body that never ends, or comes a byte a second, held a thread as long as its sender liked.

The kinds: CWE-130 and CWE-400.
"""

import asyncio
import io
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.test import APIClient

from authsite.operations import asgi
from authsite.operations.asgi import LoopApplication
from devices.models import DeviceGroup
from rpc.wsgi import Body, MachineFastPath
from tests.devices.api.conftest import account

TOKEN = "a" * 32


def cut_off(came: bytes, announced: int) -> dict[str, Any]:
    """Return what a request has of which so much came."""
    return {"wsgi.input": Body(io.BytesIO(came), announced), "CONTENT_LENGTH": str(announced)}


@pytest.mark.django_db
def test_a_form_that_is_cut_off_changes_nothing() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("root"))
    client.cookies["csrftoken"] = TOKEN
    sent = {"csrfmiddlewaretoken": TOKEN, "name": "yard", "description": "", "rest": "x"}
    body = urlencode(sent).encode()
    for came, status, saved in ((body[:-1], 403, False), (body, 302, True)):
        answer = client.post(
            "/admin/devices/devicegroup/add/",
            content_type="application/x-www-form-urlencoded",
            **cut_off(came, len(body)),
        )
        assert answer.status_code == status
        assert DeviceGroup.objects.filter(name="yard").exists() is saved


@pytest.mark.django_db
def test_the_api_says_that_a_body_is_cut_off() -> None:
    client = APIClient()
    client.force_authenticate(account("robot", ["devices.add_device", "devices.view_device"]))
    answer = client.generic(
        "POST",
        "/api/v1/devices",
        content_type="application/json",
        **cut_off(b'{"identifier": "a"}', 99),
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "parse-error")


@pytest.mark.parametrize("announced", [9, 100_000])
def test_whoever_reads_a_body_hears_that_it_is_cut_off(announced: int) -> None:
    def django(environ: Any, _start_response: Any) -> Any:
        with pytest.raises(ConnectionError):
            environ["wsgi.input"].read(announced)
        raise EOFError

    asked = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/admin/",
        "CONTENT_LENGTH": str(announced),
        "wsgi.input": io.BytesIO(b"form"),
    }
    with pytest.raises(EOFError):
        MachineFastPath(django)(asked, lambda *_: lambda _: None)


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize("pause", [0.0, 0.02])
def test_a_long_body_that_comes_too_slowly_ends(
    monkeypatch: pytest.MonkeyPatch, pause: float
) -> None:
    """One that goes on fast enough may take longer than it may stand still."""
    monkeypatch.setattr(asgi, "BODY_PAUSE", 0.1)
    monkeypatch.setattr(asgi, "BODY_RATE", 1)
    read: list[bytes] = []

    def handle(environ: Any, start_response: Any) -> list[bytes]:
        read.append(environ["wsgi.input"].read(99_999))
        start_response("200 OK", [])
        return [b""]

    parts = 10 if pause else 3

    async def receive() -> Any:
        nonlocal parts
        await asyncio.sleep(pause if parts else 60)
        parts -= 1
        return {"type": "http.request", "body": b"x", "more_body": True}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "raw_path": b"/admin/",
        "query_string": b"",
        "server": ("127.0.0.1", 17217),
        "client": ("127.0.0.1", 50000),
        "headers": [(b"content-length", b"99999")],
    }
    application = LoopApplication(handle, {}, {})  # type: ignore[arg-type]
    asyncio.run(asyncio.wait_for(application(scope, receive, send), 10))

    assert read == [b"x" * (10 if pause else 3)]
    assert (b"Connection", b"close") in sent[0]["headers"]
