"""`manage.py serve`: which server it becomes. What that server does, tests/contract shows."""

import http.server
import json
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection

from authsite.management.commands import serve
from authsite.operations import postgresql
from tests.support.postgres import free_port

pytestmark = pytest.mark.django_db  # it looks for a pooler before PostgreSQL


class Executed(Exception):
    """Stands for the moment from which on the process is another program."""


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the words of the program that was executed in place of this one."""
    words: list[str] = []

    def execv(program: str, arguments: list[str]) -> None:
        assert program == sys.executable
        words.extend(arguments)
        raise Executed

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(serve, "announce", lambda *_: None)
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    monkeypatch.delenv("THREADS", raising=False)
    monkeypatch.delenv("THREADS_FILE", raising=False)
    return words


def option(words: list[str], name: str) -> object:
    """Return the value that an option was given."""
    return json.loads(words[-1])[name]


def test_the_server_finds_the_project(executed: list[str]) -> None:
    with pytest.raises(Executed):
        call_command("serve", port=free_port())

    assert executed[:3] == [sys.executable, "-m", "authsite.operations.server"]
    assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(settings.BASE_DIR), "/elsewhere"]


def test_it_says_where_a_newer_postgresql_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "SKIPS_IN_INDEXES", 1000)
    told = ["with 1000 or newer." in complaint for complaint in postgresql.complaints()]
    assert told == [True] * (connection.vendor == "postgresql")


def test_it_starts_with_its_output_closed(
    executed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(Executed):
        call_command("serve", port=free_port())


def test_the_environment_sets_what_no_option_does(
    executed: list[str], monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    port = free_port()
    settings.HOST = "::1" if socket.has_ipv6 else "127.0.0.1"
    settings.PORT, settings.WORKERS, settings.THREADS = port, 3, 5
    settings.DRAIN_SECONDS, settings.LOG_FORMAT = 0.5, "json"
    monkeypatch.setenv("THREADS_FILE", "of the service manager")

    with pytest.raises(Executed):
        call_command("serve", host="127.0.0.1", threads=7)

    assert option(executed, "address") == "127.0.0.1"
    assert option(executed, "port") == port
    assert option(executed, "workers") == 3
    assert (option(executed, "drain"), option(executed, "log_format")) == (0.5, "json")
    assert (os.environ["THREADS"], os.environ["THREADS_FILE"]) == ("7", "")


@pytest.mark.parametrize(("log_level", "expected"), [("INFO", "error"), ("DEBUG", "info")])
def test_the_server_tells_little_unless_asked(
    log_level: str, expected: str, executed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "LOG_LEVEL", log_level)

    with pytest.raises(Executed):
        call_command("serve", port=free_port())

    assert option(executed, "log_level") == expected


ANNOUNCING = """
import os, sys
from authsite.management.commands.serve import announce
announce("127.0.0.1", int(sys.argv[1]), "Sign in at {url}/admin/ with SECRET\\n")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
SERVING = """
import http.server, sys, time
time.sleep(0.5)
sys.stdout.write("ready\\n")
sys.stdout.flush()
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.BaseHTTPRequestHandler)
server.handle_request()
"""


def announced(*program: str, port: int) -> str:
    """Return what is printed where a process announces the server, then becomes this program."""
    return subprocess.run(
        [sys.executable, "-c", ANNOUNCING, str(port), *program],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=30,
        check=False,
    ).stdout


def test_how_to_sign_in_is_printed_last_once_the_server_answers() -> None:
    port = free_port()

    lines = announced("-c", SERVING, str(port), port=port).splitlines()

    url = f"http://127.0.0.1:{port}"
    assert lines == ["ready", f"Serving on {url}", f"Sign in at {url}/admin/ with SECRET"]


def test_how_to_sign_in_is_printed_though_the_server_never_answers() -> None:
    port = free_port()

    lines = announced("-c", "raise SystemExit", port=port).splitlines()

    assert lines == [f"Sign in at http://127.0.0.1:{port}/admin/ with SECRET"]


def test_the_journal_does_not_count_the_look_whether_the_server_answers() -> None:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *args: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        reading, writing = os.pipe()
        assert serve.answers("127.0.0.1", server.server_port, reading)
    os.close(reading)
    os.close(writing)
    assert asked == ["/livez"]


@pytest.fixture
def taken() -> Iterator[int]:
    """Return a port that something listens on, ready to share it."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_a_port_in_use_is_refused_though_it_could_be_shared(
    executed: list[str], taken: int
) -> None:
    with pytest.raises(CommandError, match="Choose another with --port or PORT") as error:
        call_command("serve", port=taken)

    assert error.value.returncode == 2
    assert not executed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": "localhost"}, "--host or HOST must be an IP address, not 'localhost'"),
        ({"threads": 1025}, "--threads must be at most 1024"),
        ({"host": "203.0.113.1"}, "cannot listen on 203.0.113.1"),
        ({"port": 70_000}, "cannot listen on 127.0.0.1 port 70000"),
        ({"port": 0}, "--port must be at least 1"),  # which is any port, for each process another
        ({"workers": 0}, "--workers must be at least 1"),
        ({"threads": -1}, "--threads must be at least 1"),
        ({"backlog": 0}, "--backlog must be at least 128"),
    ],
)
def test_what_cannot_be_served_is_refused(
    options: dict[str, object], message: str, executed: list[str]
) -> None:
    with pytest.raises(CommandError, match=message) as error:
        call_command("serve", **{"port": free_port(), **options})

    assert error.value.returncode == 2
    assert not executed


def test_too_few_files_are_told_in_a_sentence(
    executed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its processes would end as they start, one after the other."""
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (30, 30))
    with pytest.raises(CommandError, match="may have 30 files open, and needs 81") as error:
        call_command("serve", port=free_port(), threads=8)

    assert error.value.returncode == 2
    assert not executed

    monkeypatch.setattr(resource, "getrlimit", lambda _what: (30, 81))
    with pytest.raises(Executed):
        call_command("serve", port=free_port(), threads=8)


@pytest.mark.parametrize(
    ("host", "metrics_host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "0.0.0.0"),
        ("::", "::1"),
        ("127.0.0.1", "localhost"),
        ("::1", "0:0::1"),
    ],
)
def test_metrics_take_no_share_of_the_servers_port(
    host: str, metrics_host: str, executed: list[str], settings: Any
) -> None:
    settings.METRICS_HOST, settings.METRICS_PORT = metrics_host, free_port()
    with pytest.raises(CommandError, match="METRICS_PORT is the server's own port") as error:
        call_command("serve", host=host, port=settings.METRICS_PORT)
    assert error.value.returncode == 2
    assert not executed


def test_a_port_of_metrics_in_use_is_refused(
    executed: list[str], taken: int, settings: Any
) -> None:
    settings.METRICS_HOST, settings.METRICS_PORT = "127.0.0.1", taken
    with pytest.raises(CommandError, match="Choose another with METRICS_PORT or METRICS_HOST"):
        call_command("serve", port=free_port())
    assert not executed
    settings.METRICS_HOST, settings.METRICS_PORT = "localhost", free_port()
    with pytest.raises(Executed):
        call_command("serve", port=free_port())


@pytest.mark.parametrize(
    ("limits", "raised"),
    [
        ((1024, 1_000_000), (8192, 1_000_000)),
        ((1024, 4096), (4096, 4096)),
        ((1024, resource.RLIM_INFINITY), (8192, resource.RLIM_INFINITY)),
        ((20_000, 1_000_000), None),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None),
    ],
)
@pytest.mark.usefixtures("executed")
def test_open_files_are_allowed_as_far_as_the_system_lets(
    limits: tuple[int, int], raised: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda *words: asked.append(words))

    with pytest.raises(Executed):
        call_command("serve", port=free_port())

    assert asked == ([] if raised is None else [(resource.RLIMIT_NOFILE, raised)])
