"""A stream that breaks off has no end on the wire, and the connections beside it go on."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import django
import httpx
import pytest

from tests.support.postgres import free_port

pytestmark = pytest.mark.once(on="sqlite")  # no database is in it

PATIENCE = 30  # seconds
SERVE = """
import sys
from granian import Granian
from granian.constants import HTTPModes, Interfaces
Granian("tests.contract.test_streams:application", address=sys.argv[1], port=int(sys.argv[2]),
        interface=Interfaces.ASGINL, http=HTTPModes.http1, websockets=False, factory=True).serve()
"""


def answer(environ: Any, start_response: Any) -> Iterable[bytes]:
    """Stream some lines; at one address, fail after them."""
    start_response("200 OK", [("Content-Type", "text/csv")])
    if environ["PATH_INFO"] == "/slow":
        return slow()
    return broken()


def broken() -> Iterator[bytes]:
    yield b"first line\n"
    raise RuntimeError("the database is gone")


def slow() -> Iterator[bytes]:
    for n in range(20):
        yield b"line %d\n" % n
        time.sleep(0.02)


def application() -> Any:
    django.setup()
    from authsite.operations.asgi import LoopApplication  # what it imports needs the apps

    return LoopApplication(answer, {}, {})  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["127.0.0.1", "::"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-c", SERVE, request.param, str(port)]
    server = subprocess.Popen(command, env=os.environ)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                httpx.get(f"{url}/slow")
                break
            except httpx.TransportError:
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield url
    finally:
        server.terminate()
        server.wait(PATIENCE)


def test_a_stream_that_fails_has_no_end_and_others_go_on(address: str) -> None:
    with httpx.Client() as beside, beside.stream("GET", f"{address}/slow") as going:
        lines = going.iter_lines()
        assert next(lines) == "line 0"
        with httpx.stream("GET", f"{address}/broken") as answered:
            assert answered.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                answered.read()
        assert [*lines][-1] == "line 19"
