import base64
import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from devices.management.base import RegistryCommand
from rpc.api.examples import EXAMPLES, JUDGES, Example, why_refused

PATIENCE = 5  # seconds for an answer: RTIO's
MAX_SHOWN = 200  # characters of a body that is not JSON


class Command(RegistryCommand):
    help = (
        "Ask a running server the documented examples of the RTIO and Cesanta specifications\n"
        "and compare its answers. They are about the devices that `manage.py seed_demo` loads.\n"
        "What is right depends on the registry for routes and tokens: their documented answer\n"
        "is printed “for example”, and what was answered is checked by its form. A refusal may be\n"
        "right, too: without a key to sign with, a credential or a rule there is no token."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--url",
            default=f"http://127.0.0.1:{settings.PORT}",
            help="where the server answers (default: %(default)s)",
        )
        parser.add_argument(
            "--user",
            metavar="ID",
            help="call as this backend with HTTP Basic, from outside the backend networks; frames "
            "are from the demo's //api.cesanta.com/cloud, and no other backend may send them",
        )
        parser.add_argument(
            "--password-stdin", action="store_true", help="read its secret from standard input"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask each example; exit with 1 where one was answered otherwise than documented."""
        if bool(options["user"]) != options["password_stdin"]:
            raise CommandError("--user and --password-stdin go together", returncode=2)
        server = _server_at(options["url"])
        credentials = {}
        if options["user"]:
            pair = f"{options['user']}:{self.secret_from_stdin()}"
            token = base64.b64encode(pair.encode()).decode()
            credentials["Authorization"] = f"Basic {token}"
        outcomes = [_try_out(server, example, credentials) for example in EXAMPLES]
        passed = sum(outcome["passed"] for outcome in outcomes)
        text = "\n\n".join(_describe(outcome) for outcome in outcomes)
        self.answer(
            f"{text}\n\n{passed} of {len(outcomes)} answered as documented.",
            {"url": options["url"], "passed": passed, "examples": outcomes},
            yes=passed == len(outcomes),
        )


def _server_at(url: str) -> SplitResult:
    try:
        server = urlsplit(url)
        valid = server.scheme in ("http", "https") and server.hostname and server.port != 0
    except ValueError:
        valid = False  # such as "http://[::1"
    if not valid:
        raise CommandError(f"--url must be such as http://127.0.0.1:17217, not {url}", returncode=2)
    return server


def _try_out(
    server: SplitResult, example: Example, credentials: Mapping[str, str]
) -> dict[str, Any]:
    """Ask one example; return what was asked, expected and answered, and where they differ."""
    status, content_type, body = _post(server, example, credentials)
    try:
        answer = json.loads(body)
    except ValueError:
        answer = body.decode(errors="replace")[:MAX_SHOWN]
    differences = [*_differences("Content-Type", "application/json", content_type)]
    refused = ""
    if example.judge and isinstance(answer, dict):
        differences += JUDGES[example.judge](status, answer)
        refused = why_refused(status, answer) if example.judge == "token" else ""
    else:
        differences += _differences("HTTP status", 200, status)
        differences += _differences("", example.expected, answer)
    return {
        "name": example.name,
        "passed": not differences,
        "request": f"POST {example.path} {example.body}",
        "expected": example.expected,
        "may_differ": example.judge is not None,
        "answer": answer,
        "refused_because": refused,
        "differences": differences,
    }


def _post(
    server: SplitResult, example: Example, credentials: Mapping[str, str]
) -> tuple[int, str | None, bytes]:
    """Send an example with its headers and no others; return status, Content-Type and body."""
    kind = http.client.HTTPSConnection if server.scheme == "https" else http.client.HTTPConnection
    connection = kind(server.hostname or "", server.port, timeout=PATIENCE)
    body = example.body.encode()
    try:
        connection.putrequest(
            "POST", server.path.rstrip("/") + example.path, skip_accept_encoding=True
        )
        for name, value in {**example.headers, **credentials}.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], response.read()
    except (OSError, http.client.HTTPException) as error:
        where = f"{server.scheme}://{server.netloc}"
        raise CommandError(
            f"no answer from {where} ({error!r}); --url says where the server is", returncode=2
        ) from error
    finally:
        connection.close()


def _differences(where: str, expected: Any, found: Any) -> Iterator[str]:
    """Yield each place where an answer is not what it should be, in words."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in {**expected, **found}:
            place = f"{where}.{name}" if where else name
            if name not in found:
                yield f"{place} is missing"
            elif name not in expected:
                yield f"{place} should not be there"
            else:
                yield from _differences(place, expected[name], found[name])
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for position, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from _differences(f"{where}[{position}]", one, other)
    elif type(expected) is not type(found) or expected != found:
        place = where or "the body"
        yield f"{place} should be {json.dumps(expected)}, and is {json.dumps(found)}"


def _describe(outcome: dict[str, Any]) -> str:
    documented = "for example" if outcome["may_differ"] else "expected   "
    lines = [
        f"{'pass' if outcome['passed'] else 'FAIL'}  {outcome['name']}",
        f"      {outcome['request']}",
        f"      {documented}  {json.dumps(outcome['expected'])}",
        f"      answered     {json.dumps(outcome['answer'])}",
        *(f"      refused      rightly: {why}" for why in [outcome["refused_because"]] if why),
        *(f"      -> {difference}" for difference in outcome["differences"]),
    ]
    return "\n".join(lines)
