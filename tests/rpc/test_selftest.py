"""`manage.py selftest` against servers that answer rightly, wrongly and not at all."""

import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from rpc.api.examples import EXAMPLES
from tests.support.postgres import free_port
from tests.support.servers import Server

pytestmark = pytest.mark.once(on="sqlite")

Reply = tuple[int, str, bytes]
Answering = Callable[[str, Any], Reply]


def documented(path: str, question: Any) -> Reply:
    """Answer as the specifications' pages do."""
    for example in EXAMPLES:
        if (example.path, json.loads(example.body)) == (path, question):
            return 200, "application/json", json.dumps(example.expected).encode()
    raise AssertionError(question)


@pytest.fixture
def serve() -> Iterator[Callable[[Answering], str]]:
    """Return a function that starts a server that answers as it is told; it returns the URL."""
    running: list[ThreadingHTTPServer] = []

    def start(answering: Answering) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, content_type, body = answering(self.path, question)
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def test_the_real_server_answers_as_documented(server: Server) -> None:
    printed = server.manage("selftest", "--url", server.url)

    assert printed.count("pass  ") == len(EXAMPLES)
    assert printed.endswith("12 of 12 answered as documented.\n")
    assert printed.count("      for example  ") == 2  # routes and a token: the demo has neither
    assert printed.count("      expected     ") == len(EXAMPLES) - 2
    asked = printed[printed.index("POST /jwtissuer") :]
    assert "      refused      rightly: the call shows no right credential" in asked
    assert printed.count("      refused  ") == 1


def test_a_backend_may_ask_with_its_secret(server: Server) -> None:
    printed = server.manage(
        "selftest", "--json", "--url", server.url,
        "--user", "//api.cesanta.com/cloud", "--password-stdin",
        stdin="cloud-backend-key-0123456789\n",
    )  # fmt: skip

    assert json.loads(printed)["passed"] == len(EXAMPLES)
    assert "cloud-backend-key" not in printed


def test_a_wrong_password_is_no_pass(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"guess\n")))

    with pytest.raises(SystemExit) as exit_:
        call_command(
            "selftest", url=server.url, user="//api.cesanta.com/thermostat", password_stdin=True
        )

    assert exit_.value.code == 1
    assert "HTTP status should be 200, and is 401" in capsys.readouterr().out


def test_a_right_server_passes(
    serve: Callable[[Answering], str], capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("selftest", url=serve(documented))

    assert "12 of 12 answered as documented." in capsys.readouterr().out


def wrong(field: str, value: object) -> Answering:
    """Answer as documented but for one field of the verifier's answers or the result's item."""

    def answer(path: str, question: Any) -> Reply:
        status, content_type, body = documented(path, question)
        document = json.loads(body)
        frame = document[0] if isinstance(document, list) else document
        (frame["resp"][0] if "resp" in frame else frame)[field] = value
        return status, content_type, json.dumps(document).encode()

    return answer


@pytest.mark.parametrize(
    ("answering", "difference"),
    [
        (wrong("code", "OK"), 'code should be "VERIFICATION_FAILED", and is "OK"'),
        (wrong("resp", 1), "resp[0].resp should be true, and is 1"),
        (wrong("status_msg", ""), "resp[0].status_msg should not be there"),
        (wrong("digest", 1), "the digest should be the CRC-32 of config"),
        (wrong("id", 7), "the id should be 1999, and the code OK"),
        (wrong("config", None), "it should be HTTP 200 with id, code, config and digest"),
        (wrong("jwt", "a.b.c"), "the token should be for cfa09baa-4913-4ad7-a936-3e26f9671b09"),
        (wrong("jwt", 7), "it should be a token, or a documented refusal"),
        (wrong("code", "FAIL"), "it should be a token, or a documented refusal"),
        (wrong("id", [12667]), "id should be"),
        (lambda *_: (200, "application/json", b"{}"), "code is missing"),
        (lambda *_: (200, "application/json", b"[]"), "the body should be {"),
        (lambda *_: (200, "text/html", b"<html>"), 'Content-Type should be "application/json"'),
        (lambda *_: (302, "application/json", b""), "HTTP status should be 200, and is 302"),
    ],
)
def test_a_wrong_answer_fails_and_is_located(
    answering: Answering,
    difference: str,
    serve: Callable[[Answering], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as exit_:
        call_command("selftest", url=serve(answering))

    printed = capsys.readouterr().out
    assert exit_.value.code == 1
    assert "FAIL  " in printed
    assert f"-> {difference}" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": f"http://127.0.0.1:{free_port()}"}, "no answer from http://127.0.0.1"),
        ({"url": "127.0.0.1:17217"}, "--url must be such as"),
        ({"url": "http://127.0.0.1:port"}, "--url must be such as"),
        ({"url": "ftp://127.0.0.1"}, "--url must be such as"),
        ({"url": "http://[::1"}, "--url must be such as"),
        ({"user": "//api.cesanta.com/cloud"}, "go together"),
        ({"password_stdin": True}, "go together"),
    ],
)
def test_what_cannot_be_asked_ends_with_two(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CommandError, match=message) as error:
        call_command("selftest", **options)

    assert error.value.returncode == 2
