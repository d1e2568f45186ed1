"""What a stranger sends begins no line of the log, and moves no terminal that shows it.

CWE-117, CWE-150; CVE-2025-48432 is the same in Django's own lines.
"""

import io
import logging
import sys

import pytest
from django.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]
FORGED = "2026-01-01 00:00:00,000 WARNING authsite.sign_on: 'root' logged in"
# Ends of lines, one for each way to write one, and what clears a screen.
SIGNS = (
    "\n",
    "\r",
    "\r\n",
    "\x0b",
    "\x0c",
    "\x1b[2J",
    "\x7f",
    "\x85",
    "\x9b2J",
    "\u2028",
    "\u2029",
)


def told(message: str, *arguments: object) -> str:
    """Return what the handler of the settings writes."""
    (handler,) = (one for one in logging.getLogger().handlers if one.name == "stderr")
    assert isinstance(handler, logging.StreamHandler)
    lines = io.StringIO()
    before = handler.setStream(lines)
    try:
        logging.getLogger("authsite.sign_on").warning(message, *arguments)
    finally:
        handler.setStream(before or handler.stream)
    return lines.getvalue()


@pytest.mark.parametrize("sign", SIGNS, ids=ascii)
def test_a_line_stays_one(sign: str) -> None:
    (line,) = told("a name: %s", f"kim{sign}{FORGED}").removesuffix("\n").splitlines()
    assert line.endswith(FORGED)
    assert line.isprintable()


def test_a_traceback_keeps_its_lines() -> None:
    try:
        int("why")
    except ValueError:
        (handler,) = (one for one in logging.getLogger().handlers if one.name == "stderr")
        assert handler.formatter is not None
        record = logging.getLogger("x").makeRecord("x", 40, "x.py", 1, "it\nfailed", (), None)
        record.exc_info = sys.exc_info()
        first, second, *_ = handler.formatter.format(record).splitlines()
        assert first.endswith("it\\nfailed")
        assert second.startswith("Traceback")


def fail(why: str) -> None:
    raise ValueError(why)


@pytest.mark.parametrize("sign", SIGNS, ids=ascii)
def test_what_an_exception_says_begins_no_line(sign: str) -> None:
    (handler,) = (one for one in logging.getLogger().handlers if one.name == "stderr")
    assert handler.formatter is not None
    try:
        fail(f"a name: kim{sign}{FORGED}")
    except ValueError:
        record = logging.getLogger("x").makeRecord("x", 40, "x.py", 1, "failed", (), sys.exc_info())
    message, traceback, *others = handler.formatter.format(record).splitlines()
    assert message.endswith("failed")
    assert traceback.startswith("Traceback")
    assert all(line.startswith("  ") and line.isprintable() for line in others)
    assert others[-1].endswith(FORGED)


def test_other_texts_are_written_as_they_are() -> None:
    assert "“é” \\n 简体" in told("%s", "“é” \\n 简体")


def test_no_page_lets_a_name_begin_a_line(client: Client) -> None:
    (handler,) = (one for one in logging.getLogger().handlers if one.name == "stderr")
    assert isinstance(handler, logging.StreamHandler)
    lines = io.StringIO()
    before = handler.setStream(lines)
    try:
        name = f"kim\n{FORGED}"
        client.post("/admin/login/", {"username": name, "password": "x"})
        client.post(f"/admin/nothing/%0A{FORGED}/", {"a": name})
        client.get("/api/v1/devices", headers={"authorization": f"Bearer {name}"})
    finally:
        handler.setStream(before or handler.stream)
    assert lines.getvalue()
    assert not [line for line in lines.getvalue().splitlines() if line.startswith("2026-01-01")]
