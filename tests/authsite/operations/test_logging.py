"""Log lines, and what they name."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from authsite.operations.logging import JsonFormatter, LineFormatter, request_id


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
