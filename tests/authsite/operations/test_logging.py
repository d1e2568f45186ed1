"""Log lines, and what they name."""

import io
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from http import HTTPStatus

import pytest
from django.test import Client

from authsite.operations.logging import BoundedHandler, JsonFormatter, LineFormatter
from devices.authentication import authenticate
from devices.models import Device
from devices.telemetry import request_id
from rpc.journal import journal, of_verdict
from rpc.models import CallRecord

pytestmark = pytest.mark.once(on="sqlite")


@pytest.fixture
def current() -> Iterator[str]:
    """Return the id of the request that the test is in."""
    token = request_id.set("abc-1")
    yield "abc-1"
    request_id.reset(token)


def record(message: str, *arguments: object, **more: object) -> logging.LogRecord:
    return logging.LogRecord("rpc", logging.WARNING, "x.py", 1, message, arguments, None, **more)  # type: ignore[arg-type]


def test_a_line_of_json_is_one_object(current: str) -> None:
    line = JsonFormatter().format(record("a %s\nof two lines “é”", "text"))
    assert "\n" not in line
    read = json.loads(line)
    assert read.pop("time").endswith("+00:00")
    assert read == {
        "level": "WARNING",
        "logger": "rpc",
        "message": "a text\nof two lines “é”",
        "request": current,
    }


def test_a_traceback_is_one_of_its_texts() -> None:
    made = record("it failed")
    try:
        int("why")
    except ValueError:
        made.exc_info = sys.exc_info()
    read = json.loads(JsonFormatter().format(made))
    assert read["error"].startswith("Traceback")
    assert "request" not in read


def test_a_readable_line_ends_in_the_request(current: str) -> None:
    formatter = LineFormatter("{levelname} {message}", style="{")
    assert formatter.format(record("slow")) == f"WARNING slow [{current}]"


def made_change() -> str:
    """Return the request that the history has of a change made now."""
    device = Device.objects.create(identifier="d-1")
    change = device.history.get()
    return str(change.request)


@pytest.mark.django_db
def test_history_names_the_request_of_a_change(current: str) -> None:
    assert made_change() == current


@pytest.mark.django_db
def test_history_names_no_request_of_a_change_made_outside_of_one() -> None:
    assert made_change() == ""


@pytest.mark.django_db
@pytest.mark.usefixtures("now")
def test_the_journal_names_the_last_request() -> None:
    for name in ("abc-1", "abc-2"):
        token = request_id.set(name)
        entry = of_verdict("d-1", authenticate("d-1", secret="x"))
        journal.record("verifier", "10.0.0.1", [entry])
        request_id.reset(token)
        journal.flush()
        assert CallRecord.objects.get().request == name


@pytest.mark.parametrize(
    ("path", "host"), [("/admin/login/", "stranger.example"), ("/admin/login/?x=%00", "testserver")]
)
def test_what_django_refuses_is_told_without_traceback(
    client: Client, path: str, host: str
) -> None:
    (handler,) = (one for one in logging.getLogger().handlers if one.name == "stderr")
    assert isinstance(handler, logging.StreamHandler)
    told = io.StringIO()
    before = handler.setStream(told)
    try:
        answer = client.get(path, headers={"host": host})
    finally:
        handler.setStream(before)
    assert answer.status_code == HTTPStatus.BAD_REQUEST
    assert 1 <= len(told.getvalue().splitlines()) <= 2  # why, and which request
    assert "Traceback" not in told.getvalue()


def test_a_log_that_nobody_reads_stops_nobody() -> None:
    """As a container's log driver or the journal may hang: https://github.com/moby/moby/issues/22502."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as reader, os.fdopen(writing, "w") as log:
        handler = BoundedHandler(log)
        handler.setFormatter(JsonFormatter())
        began = time.monotonic()
        for _ in range(200):
            handler.handle(record("x" * 5000))  # a pipe takes 64 KiB
        assert time.monotonic() - began < 2
        read = reader.read(1_000_000)
        handler.handle(record("é"))
        read += reader.read(1_000_000)
    told, last = [json.loads(line)["message"] for line in read.splitlines()[-2:]]
    assert int(told.partition(" ")[0]) > 180
    assert told.endswith(" lines were left out: nobody read the log")
    assert last == "é"
