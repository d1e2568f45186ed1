"""Commands in the event loop: the same answers as in a thread, and a thread where that must be."""

import asyncio
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection
from django.utils import timezone

from acl.engine.decisions import find_decisions_by_request, statements_in_loop
from devices.credentials.pre_shared_keys import KEYS_OF_DEVICES, find_keys
from devices.database.in_loop import LoopAsker
from devices.database.slots import Slots
from devices.database.statements import MustWait, Query
from devices.models import Device, PreSharedKey
from rpc.commands.registry import COMMANDS, DECISIONS, KEYS
from rpc.rtio import one_time_secrets
from rpc.urls import command_path, commands, verifier
from rpc.views import MachineView
from tests.support.rules import make_rule

PATIENCE = 10.0  # seconds
SENSOR, LAMP, CLOUD = "//api.cesanta.com/sensor", "//api.cesanta.com/lamp", "//api.cesanta.com/c"
SECRET = "sensor secret 0123456789 abcdef"
AUTHORIZE, AUTHENTICATE = "/v1/Auth.AuthorizeCommand", "/v1/Auth.Authenticate"
QUESTION = {"id": 1, "method": "verify", "deviceid": "x" * 36, "devicesecret": "wrong"}
Askers = Mapping[str, LoopAsker[Any, Any]]
Reply = tuple[int, Any]
Ask = Callable[[MachineView, dict[str, Any]], Reply | None]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def registry(make_device: Callable[..., Device]) -> None:
    make_device(CLOUD, kind="backend")
    sensor, lamp = make_device(SENSOR), make_device(LAMP)
    PreSharedKey.objects.register(device=sensor, secret=SECRET, random=True)
    make_rule(sensor, lamp, "/v1/Light.*")


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def ask(loop: asyncio.Runner, askers: Askers) -> Ask:
    """Return what answers as the loop does; None where it would leave that to a thread."""
    return lambda view, environ: loop.run(
        asyncio.wait_for(in_loop(view, environ, askers), PATIENCE)
    )


@pytest.fixture
def askers() -> Iterator[Askers]:
    slots = Slots(1, max_wait=1.0)
    keys, rules = slots.another(DEFAULT_DB_ALIAS), slots.another(DEFAULT_DB_ALIAS)

    def decisions(requests: Any) -> Any:
        return find_decisions_by_request(requests, vendor=connection.vendor)

    yield {
        KEYS: LoopAsker(
            keys, find_keys, [Query(KEYS_OF_DEVICES, (timezone.now(), timezone.now(), []))]
        ),
        DECISIONS: LoopAsker(rules, decisions, statements_in_loop(connection.vendor)),
    }
    keys.close()
    rules.close()


def meta(content: object, path: str = "/", **headers: str) -> dict[str, Any]:
    """Return the environment of a POST from a backend network."""
    body = json.dumps(content).encode()
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        **headers,
    }


async def in_loop(view: MachineView, environ: dict[str, Any], askers: Askers) -> Reply | None:
    begun = view.begin(environ)
    if begun is None:
        return None
    exchange, questions = begun
    known: dict[str, Any] = {}
    for name, asked in questions.items():
        while (found := await askers[name].ask(asked)) is None:  # until its connection is open
            await asyncio.sleep(0.01)
        known[name] = found
    try:
        reply = view.finish(exchange, known)
    except MustWait:
        return None
    return reply.status, json.loads(reply.body or "null")


def in_thread(view: MachineView, environ: dict[str, Any]) -> Reply:
    reply = view.respond(environ)
    return reply.status, json.loads(reply.body or "null")


def authorize(cmd: str = "/v1/Light.On", src: str = SENSOR, dst: str = LAMP, **more: Any) -> Any:
    return {"cmd": AUTHORIZE, "args": {"src": src, "dst": dst, "cmd": cmd}, **more}


def authenticate(secret: str = SECRET, name: str = SENSOR) -> Any:
    return {"cmd": AUTHENTICATE, "args": {"id": name, "credentials": {"psk": secret}}}


@pytest.mark.parametrize(
    "calls",
    [
        pytest.param([authorize(id=1)], id="one decision"),
        pytest.param(
            [
                authorize(id=1),
                authorize("/v1/Door.Open", id=2),
                authorize(src="//stranger/x"),
                authorize(dst=f"{LAMP}.a.b"),
                authorize("", id=5),
                authorize("/v1/\x00"),
                authorize(src="\ud800"),
                authorize(f"{LAMP}.component", dst=f"{LAMP}.component"),
            ],
            id="decisions of every kind",
        ),
        pytest.param(
            [authenticate(), authorize(), {"cmd": "/v1/Hello"}, authorize(), authenticate()],
            id="several commands",
        ),
        pytest.param(
            [
                {"cmd": AUTHORIZE, "args": {"src": 1}},
                {"cmd": "/v1/Nothing"},
                authorize(deadline=time.time() - 1),
                authorize(deadline=time.time() + 3600),
                {"cmd": AUTHENTICATE, "args": {"id": SENSOR, "credentials": {}}},
            ],
            id="those that are refused",
        ),
        pytest.param([], id="none"),
        pytest.param([{"cmd": "/v1/Hello", "id": 3}], id="a greeting"),
    ],
)
def test_a_frame_is_answered_in_the_loop_as_in_a_thread(calls: Any, ask: Ask) -> None:
    frame = {"v": 1, "src": CLOUD, "dst": "//api.cesanta.com/dispatcher", "cmds": calls}

    answered = ask(commands, meta(frame))

    assert answered is not None
    assert answered == in_thread(commands, meta(frame))


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        ({"cmds": [authenticate("a guess, which costs a hash")]}, {}),
        ({"cmds": [authenticate(name="//stranger/x")]}, {}),
        (
            {
                "cmds": [
                    authorize(),
                    {"cmd": AUTHENTICATE, "args": {"id": SENSOR, "credentials": {"cert": "x"}}},
                ]
            },
            {},
        ),
        ({"src": CLOUD, "key": "of the caller", "cmds": [authorize()]}, {}),
        ({"cmds": [authorize()]}, {"HTTP_AUTHORIZATION": "Basic eDp5"}),
        ({"cmds": [authorize()]}, {"REMOTE_ADDR": "192.0.2.77"}),
        ({"cmds": "none"}, {}),
    ],
)
def test_what_waits_or_is_refused_is_left_to_a_thread(
    content: Any, headers: dict[str, str], ask: Ask
) -> None:
    assert ask(commands, meta(content, **headers)) is None


def test_a_batch_that_fails_is_left_to_a_thread(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(COMMANDS[AUTHORIZE], "run", fail)
    assert ask(commands, meta({"cmds": [authorize()]})) is None


def test_a_certificate_of_the_caller_is_left_to_a_thread(ask: Ask, settings: Any) -> None:
    frame = {"cmds": [authorize()]}
    assert ask(commands, meta(frame, HTTP_CLIENTCERT="any")) is not None
    settings.CLIENT_CERT_HEADER = "ClientCert"
    assert ask(commands, meta(frame, HTTP_CLIENTCERT="any")) is None


def test_a_command_at_its_own_path_is_answered_in_the_loop(ask: Ask) -> None:
    arguments = authorize()["args"]

    def asked() -> dict[str, Any]:
        return meta(arguments, AUTHORIZE)

    assert ask(command_path, asked()) == in_thread(command_path, asked())
    assert ask(command_path, meta(arguments, AUTHORIZE, CONTENT_LENGTH="1")) is None


def test_what_the_database_does_not_answer_is_unavailable_to_those_who_asked_it() -> None:
    frame = {"cmds": [authorize(id=1), {"cmd": "/v1/Hello", "id": 2}]}
    begun = commands.begin(meta(frame))
    assert begun is not None

    reply = commands.finish(begun[0], OperationalError("secret detail"))

    assert [item["status"] for item in json.loads(reply.body)["resp"]] == [503, 0]
    assert b"secret detail" not in reply.body


def test_a_verification_that_the_database_does_not_answer_is_an_internal_error(
    recorded: Any,
) -> None:
    begun = verifier.begin(meta(QUESTION, "/deviceverifier"))
    assert begun is not None

    reply = verifier.finish(begun[0], OperationalError("gone"))

    assert json.loads(reply.body) == {"id": 1, "code": "INTERNAL_SERVER_ERROR"}
    assert [entry.reason for entry in recorded] == ["unavailable"]


@pytest.mark.parametrize(
    ("changes", "questions"),
    [
        ({}, {KEYS: ["x" * 36]}),
        ({"deviceid": "x" * 29}, None),
        ({"deviceid": "x" * 41}, None),
        ({"deviceid": "x" * 35 + "\x00"}, None),  # no database takes it
        ({"deviceid": 36}, None),
        ({"devicesecret": f"{one_time_secrets.PREFIX}x"}, None),  # it may end a session
    ],
)
def test_the_loop_asks_for_the_keys_of_what_can_be_a_device(
    changes: dict[str, Any], questions: Any
) -> None:
    begun = verifier.begin(meta({**QUESTION, **changes}, "/deviceverifier"))
    assert (None if begun is None else begun[1]) == questions


def test_what_the_loop_answers_is_counted_once(ask: Ask, recorded: Any) -> None:
    frame = {"cmds": [authorize(), authenticate(), authenticate("wrong, so a thread asks again")]}

    assert ask(commands, meta(frame)) is None
    assert not recorded
    assert ask(commands, meta({"cmds": frame["cmds"][:2]})) is not None
    assert [entry.reason for entry in recorded] == ["allowed", "verified"]
    assert ask(verifier, meta(QUESTION, "/deviceverifier")) is None
    assert len(recorded) == 2


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr("rpc.journal.journal.record", lambda *recorded: found.extend(recorded[-1]))
    return found
