"""A form of which the end is lost with its connection changes nothing.

Django takes what came of a form for all of it: a device whose groups were not sent would leave
them.

The kind: CWE-130.
"""

import io
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.test import APIClient

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
    for came, status, saved in ((body[:-1], 400, False), (body, 302, True)):
        answer = client.post(
            "/admin/devices/devicegroup/add/",
            content_type="application/x-www-form-urlencoded",
            **cut_off(came, len(body)),
        )
        assert answer.status_code == status
        assert saved or "The form did not arrive whole" in answer.text
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
