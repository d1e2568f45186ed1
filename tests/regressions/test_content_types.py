"""A Content-Type that names no charset of texts, or a form that cannot be read, ended as a 500.

Django reads query and form in the charset that a header names: before any middleware, so that the
server answered by itself, and logged fifty lines. Pages for "not found" read the form once more.

The kind: CWE-248.
"""

from contextlib import nullcontext
from io import BytesIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.handlers.wsgi import WSGIRequest
from django.test import Client, RequestFactory
from django.utils.http import parse_header_parameters

from rpc.wsgi import MachineFastPath

pytestmark = pytest.mark.once(on="sqlite")

FORM = "application/x-www-form-urlencoded"
UNREADABLE = "x*=''; x*0=a"  # on which Python's own parser fails, before 3.14.10, with a TypeError
PART = '--B\r\nContent-Disposition: form-data; name="a%d"\r\n\r\né\r\n'


def python_reads_it() -> bool:
    """Return whether this Python's parser does not fail."""
    try:
        return bool(parse_header_parameters(f"text/plain; {UNREADABLE}"))
    except TypeError:
        return False


class Read(Exception):
    """What was read: nothing is answered."""


def read(kind: str, body: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the query `?q=é` and the form as Django reads them, behind what serves."""

    def django(environ: Any, _start: object) -> Any:
        request = WSGIRequest(environ)
        raise Read(request.GET.dict(), request.POST.dict())

    application = MachineFastPath(django)
    application.staff = nullcontext()  # type: ignore[assignment]
    environ = RequestFactory().post("/admin/?q=%C3%A9", body.encode(), "text/plain").environ
    environ["CONTENT_TYPE"] = kind
    with pytest.raises(Read) as found:
        application(environ, lambda *_: lambda _: None)
    query, form = found.value.args
    return query, form


@pytest.mark.parametrize(
    "parameters",
    [
        "; charset=utf-16",
        "; charset=utf8",
        "; charset=rot13",
        '; charset="undefined"',
        "; charset*=utf-8''idna",
        "; x*=nope''y",
        "; x*=''; x*0=a",
        "; x*9=a; x*8*=undefined''%41",
        ";;=;*=1",
    ],
)
def test_query_and_form_are_utf8_whatever_a_parameter_says(parameters: str) -> None:
    assert read(FORM + parameters, "a=%C3%A9") == ({"q": "é"}, {"a": "é"})
    assert read(f"text/html{parameters}", "a=b") == ({"q": "é"}, {})
    kind = f"multipart/form-data; boundary=B{parameters}"
    assert read(kind, PART % 1 + "--B--\r\n") == ({"q": "é"}, {"a1": "é"})


@pytest.mark.parametrize("boundary", ["boundary=B", 'Boundary="B"', 'x="y"; boundary=B ; z=1'])
def test_a_form_is_read_by_its_boundary(boundary: str) -> None:
    _query, form = read(f"multipart/form-data; {boundary}", PART % 1 + PART % 2 + "--B--\r\n")
    assert form == {"a1": "é", "a2": "é"}


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/nothing/", "/admin/login/"])
def test_a_form_of_too_many_fields_is_refused_wherever_it_goes(path: str) -> None:
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.get("/admin/login/")  # for the cookie without which no token is looked for
    form = "".join(PART % number for number in range(2000)) + "--B--\r\n"
    answer = client.post(path, form, content_type="multipart/form-data; boundary=B")
    assert answer.status_code == 413


@pytest.mark.skipif(python_reads_it(), reason="this Python reads such a header")
@pytest.mark.django_db
@pytest.mark.parametrize(
    "path", ["/nothing/", "/admin/login/", "/admin/language/", "/admin/devices/device/import/"]
)
@pytest.mark.parametrize("header", ["Content-Disposition: form-data", "Content-Type: text/plain"])
def test_a_part_with_a_header_that_cannot_be_read_is_refused(path: str, header: str) -> None:
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.get("/admin/login/")
    client.force_login(User.objects.create_superuser("root"))
    form = PART % 1 + f"--B\r\n{header}; {UNREADABLE}; name=b\r\n"
    if not header.startswith("Content-Disposition"):
        form += 'Content-Disposition: form-data; name="b"\r\n'
    kind = "multipart/form-data; boundary=B"
    assert client.post(path, form + "\r\n1\r\n--B--\r\n", content_type=kind).status_code == 400


class BrokenOff(BytesIO):
    """A body whose sender has gone."""

    def read(self, *_size: int | None) -> bytes:
        raise ConnectionResetError


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/nothing/", "/admin/login/", "/admin/devices/device/import/"])
def test_a_form_whose_sender_breaks_off_is_no_failure(path: str) -> None:
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.get("/admin/login/")
    client.force_login(User.objects.create_superuser("root"))
    kind = "multipart/form-data; boundary=B"
    sent: dict[str, Any] = {"content_type": kind, "wsgi.input": BrokenOff()}
    answer = client.post(path, PART % 1, **sent)
    assert answer.status_code == 400
    assert "The form did not arrive whole" in answer.text


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("kinds", "status"),
    [
        (f"application/json; {UNREADABLE}", 401),
        (f"*/*; {UNREADABLE}", 401),
        (f"text/html; {UNREADABLE}", 406),
    ],
)
def test_parameters_of_an_accept_header_are_no_failure(kinds: str, status: int) -> None:
    client = Client(raise_request_exception=False)
    assert client.get("/api/v1/devices", headers={"accept": kinds}).status_code == status
