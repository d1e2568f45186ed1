"""The Cesanta command endpoint: frames in, reply frames out."""

import json
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError
from django.test import Client

from devices.database.slots import SLOTS, NoSlotError
from devices.models import Certificate, CertificateAuthority, Device, PreSharedKey
from rpc.commands.registry import COMMANDS, Command, InvalidArguments
from tests.support.pki import authority, device_certificate
from tests.support.rules import make_rule

pytestmark = pytest.mark.once(on="sqlite")

CLOUD = "//api.cesanta.com/cloud"
SENSOR = "//api.cesanta.com/sensor"
LAMP = "//api.cesanta.com/lamp"
SECRET = "cloud-backend-key-0123456789"
SENSOR_SECRET = "sensor secret 0123456789 abcdef"
AUTHORIZE = "/v1/Auth.AuthorizeCommand"
AUTHENTICATE = "/v1/Auth.Authenticate"

Post = Callable[..., Any]


@pytest.fixture(autouse=True)
def registry(make_device: Callable[..., Device]) -> None:
    cloud = make_device(CLOUD, kind="backend")
    PreSharedKey.objects.register(device=cloud, secret=SECRET, random=True)
    sensor = make_device(SENSOR)
    PreSharedKey.objects.register(device=sensor, secret=SENSOR_SECRET, random=True)
    lamp = make_device(LAMP)
    make_rule(sensor, lamp, "/v1/Light.*")


@pytest.fixture
def post(client: Client) -> Post:
    def send(
        frame: Any, path: str = "/", address: str = "127.0.0.1", **headers: str
    ) -> tuple[int, Any]:
        raw = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
        response = client.generic(
            "POST", path, raw, content_type="", headers=headers, REMOTE_ADDR=address
        )
        if response.status_code == 204:
            assert response.content == b""
            assert "Content-Type" not in response
            return 204, None
        assert response["Content-Type"] == "application/json"
        return response.status_code, json.loads(response.content)

    return send


def authorize(cmd: str = "/v1/Light.On", **changes: Any) -> dict[str, Any]:
    return {"cmd": AUTHORIZE, "args": {"src": SENSOR, "dst": LAMP, "cmd": cmd} | changes}


def one(post: Post, **command: Any) -> dict[str, Any]:
    status, reply = post({"cmds": [command]})
    assert status == 200
    (item,) = reply["resp"]
    assert isinstance(item, dict)
    return item


def test_a_reply_swaps_the_ends_and_echoes_the_ids(post: Post) -> None:
    frame = {
        "v": 1,
        "src": f"{CLOUD}.dispatcher",
        "dst": f"{CLOUD}.registry",
        "resp": ["ignored"],
        "timeout": 5,
        "unknown": {},
        "cmds": [authorize() | {"id": 2**63 - 1}, authorize("/v1/Nuke.Launch") | {"id": 0}],
    }
    assert post(frame) == (
        200,
        {
            "v": 1,
            "src": f"{CLOUD}.registry",
            "dst": f"{CLOUD}.dispatcher",
            "resp": [
                {"id": 2**63 - 1, "status": 0, "resp": True},
                {"id": 0, "status": 0, "resp": False},
            ],
        },
    )


@pytest.mark.parametrize("path", ["/", "/rpc", "/rpc/"])
def test_each_path_is_the_same_endpoint(post: Post, path: str) -> None:
    assert post({"cmds": [{"cmd": "/v1/Hello"}]}, path) == (
        200,
        {"v": 1, "resp": [{"id": 0, "status": 0}]},
    )


def test_a_browser_that_gets_the_root_is_sent_to_the_admin(client: Client) -> None:
    response = client.get("/")
    assert response.status_code == 302
    assert response["Location"] == "/admin/"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/rpc"), ("HEAD", "/rpc/"), ("PUT", "/"), ("OPTIONS", "/"), ("DELETE", "/rpc")],
)
def test_only_post_is_answered(client: Client, method: str, path: str) -> None:
    response = client.generic(method, path)
    assert response.status_code == 405
    assert response["Allow"] == "POST"
    if method != "HEAD":
        assert json.loads(response.content)["error"]["code"] == 405


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b'{"cmds":[', "not JSON"),
        (b"\xff\xfe", "not"),
        (b"[" * 100_000, "nested too deep"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        ({}, "neither cmds nor method"),
        ({"v": 1}, "neither cmds nor method"),
        ({"resp": []}, "neither cmds nor method"),
        ({"v": 1, "method": "/v1/Hello"}, "cmds is required"),
        ({"v": 2, "cmds": []}, "method is required"),
        ({"v": 3, "cmds": []}, "v must be 1 or 2"),
        ({"v": "1", "cmds": []}, "v must be 1 or 2"),
        ({"v": 1.0, "cmds": []}, "v must be 1 or 2"),
        ({"v": True, "cmds": []}, "v must be 1 or 2"),
        ({"v": None, "cmds": []}, "v must be 1 or 2"),
        ({"cmds": {}}, "cmds must be an array"),
        ({"cmds": None}, "cmds must be an array"),
        ({"cmds": ["/v1/Hello"]}, "array of objects"),
        ({"cmds": [{}]}, "cmd must be a string"),
        ({"cmds": [{"cmd": 5}]}, "cmd must be a string"),
        ({"cmds": [{"cmd": "/v1/Hello", "id": "1"}]}, "id must be an integer"),
        ({"cmds": [{"cmd": "/v1/Hello", "id": 1.0}]}, "id must be an integer"),
        ({"cmds": [{"cmd": "/v1/Hello", "id": True}]}, "id must be an integer"),
        ({"cmds": [{"cmd": "/v1/Hello", "id": None}]}, "id must be an integer"),
        ({"cmds": [{"cmd": "/v1/Hello", "id": -1}]}, "id must be an integer"),
        ({"cmds": [{"cmd": "/v1/Hello", "id": 2**63}]}, "id must be an integer"),
        ({"src": 5, "cmds": []}, "src must be a string"),
        ({"dst": [], "cmds": []}, "dst must be a string"),
        ({"cmds": [{"cmd": "/v1/Hello"}] * 1001}, "more than 1000 commands"),
        ({"method": None}, "method must be a string"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_frame_is_refused_whole_and_says_why(
    post: Post, frame: Any, message: str
) -> None:
    status, reply = post(frame)
    assert status == 400
    assert reply["error"]["code"] == 400
    assert reply["error"]["message"].startswith("invalid frame: ")
    assert message in reply["error"]["message"]
    assert list(reply) == ["error"]


def test_a_frame_of_the_limit_is_read_and_a_larger_one_is_not(post: Post) -> None:
    frame = json.dumps({"cmds": [{"cmd": "/v1/Hello"}]}).encode()
    padded = frame + b" " * (256 * 1024 - len(frame))
    assert post(padded)[0] == 200
    status, reply = post(padded + b" ")
    assert (status, reply["error"]["code"]) == (413, 413)


def test_a_thousand_commands_are_answered_in_order(post: Post) -> None:
    cmds = [{"cmd": "/v1/Hello", "id": number} for number in range(1000)]
    _, reply = post({"cmds": cmds})
    assert [item["id"] for item in reply["resp"]] == list(range(1000))


def test_an_array_is_sent_to_who_asks_for_one(post: Post) -> None:
    assert post({"cmds": []}, "/?reply=array") == (200, [{"v": 1, "resp": []}])
    assert post({"cmds": []}, "/rpc?reply=object") == (200, {"v": 1, "resp": []})


@pytest.mark.parametrize(("address", "status"), [("127.0.0.1", 200), ("203.0.113.9", 401)])
def test_a_query_of_any_length_changes_nothing(post: Post, address: str, status: int) -> None:
    query = "/?" + "&".join(["x=1"] * 1500) + "&reply=array"
    assert post({"cmds": []}, query, address) == (status, [{"v": 1, "resp": []}])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({}, "src is required"),
        ({"src": "a", "cmd": "c"}, "dst is required"),
        ({"src": 7, "dst": "b", "cmd": "c"}, "src must be a string"),
        ({"src": "a", "dst": None, "cmd": "c"}, "dst must be a string"),
        ({"src": "a", "dst": "b", "cmd": ["c"]}, "cmd must be a string"),
        ([], "args must be an object"),
        (None, "args must be an object"),
    ],
)
def test_arguments_are_held_against_the_definition(post: Post, args: Any, message: str) -> None:
    assert one(post, cmd=AUTHORIZE, id=5, args=args) == {
        "id": 5,
        "status": 400,
        "status_msg": f"invalid args for AuthorizeCommand: {message}",
    }


@pytest.mark.parametrize(
    ("credentials", "message"),
    [
        ({}, "credentials must have psk or cert"),
        ({"token": "x"}, "credentials must have psk or cert"),
        ("qwerty", "credentials must be an object"),
        (None, "credentials must be an object"),
        ({"psk": 5}, "credentials.psk must be a string"),
        ({"psk": "x", "cert": None}, "credentials.cert must be a string"),
        (..., "credentials is required"),
    ],
)
def test_credentials_are_held_against_the_definition(
    post: Post, credentials: Any, message: str
) -> None:
    args = {"id": SENSOR} | ({} if credentials is ... else {"credentials": credentials})
    item = one(post, cmd=AUTHENTICATE, args=args)
    assert item["status"] == 400
    assert item["status_msg"] == f"invalid args for Authenticate: {message}"


@pytest.mark.parametrize(
    ("identifier", "psk", "answer"),
    [
        (SENSOR, SENSOR_SECRET, True),
        (f"{SENSOR}.ui", SENSOR_SECRET, True),
        (SENSOR, "wrong", False),
        (SENSOR, "", False),
        (LAMP, "any", False),
        ("//api.cesanta.com/nobody", "any", False),
        ("//api.cesanta.com/a.b.c", "any", False),
        ("//api.cesanta.com/%FF", "any", False),
        ("\ud800", "any", False),
        ("nul\x00", "\x00", False),
        ("", "", False),
    ],
)
def test_authenticate_answers_yes_or_no(
    post: Post, identifier: str, psk: str, answer: bool
) -> None:
    item = one(
        post, cmd=AUTHENTICATE, args={"id": identifier, "credentials": {"psk": psk}, "more": 1}
    )
    assert item == {"id": 0, "status": 0, "resp": answer}


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({}, True),
        ({"src": f"{SENSOR}.ui", "dst": f"{LAMP}.api"}, True),
        ({"src": LAMP, "dst": SENSOR}, False),
        ({"src": "//api.cesanta.com/nobody"}, False),
        ({"dst": "//h/a.b.c"}, False),
        ({"cmd": ""}, False),
        ({"cmd": "/v1/light.On"}, False),
        ({"cmd": "\x00"}, False),
        ({"cmd": "/v1/Light." + "\ud800"}, False),
        ({"cmd": "/" * 1000}, False),
        ({"cmd": "x" * 100_000}, False),
    ],
)
def test_authorize_answers_yes_or_no_singly_and_in_a_batch(
    post: Post, changes: dict[str, str], answer: bool
) -> None:
    command = authorize(**changes)
    assert one(post, **command)["resp"] is answer
    _, reply = post({"cmds": [command, authorize(), command]})
    assert [item["resp"] for item in reply["resp"]] == [answer, True, answer]


@pytest.mark.parametrize("name", ["/v1/Auth.Nope", "Auth.Authenticate", "/v1/auth.hello", ""])
def test_an_unknown_command_has_no_handler(post: Post, name: str) -> None:
    assert one(post, cmd=name, id=9) == {
        "id": 9,
        "status": 404,
        "status_msg": f"No handler for {name}",
    }


@pytest.mark.parametrize(
    ("deadline", "status"),
    [
        (0, 504),
        (time.time() - 1, 504),
        (time.time() + 3600, 0),
        (2**70, 0),
        (None, 0),
        ("soon", 400),
        (True, 400),
    ],
)
def test_a_command_past_its_deadline_is_not_run(post: Post, deadline: Any, status: int) -> None:
    item = one(post, cmd="/v1/Hello", id=1, deadline=deadline)
    assert item["status"] == status
    assert ("status_msg" in item) is bool(status)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    def install(failure: Exception) -> None:
        def fail() -> None:
            raise failure

        monkeypatch.setitem(COMMANDS, "/v1/Broken", Command("/v1/Broken", {}, fail))

    return install


@pytest.mark.parametrize(
    ("failure", "status", "message"),
    [
        (RuntimeError("secret detail"), 500, "internal error"),
        (OperationalError("secret detail"), 503, "service unavailable"),
        (InterfaceError("secret detail"), 503, "service unavailable"),
        (InvalidArguments("said by the command"), 400, "said by the command"),
    ],
)
def test_one_that_fails_leaves_the_others_be_and_tells_no_detail(
    post: Post,
    broken: Callable[[Exception], None],
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
    status: int,
    message: str,
) -> None:
    broken(failure)
    with caplog.at_level(logging.ERROR, logger="rpc.commands.execution"):
        _, reply = post({"cmds": [authorize(), {"cmd": "/v1/Broken", "id": 7}, authorize()]})
    assert reply["resp"][1] == {"id": 7, "status": status, "status_msg": message}
    assert [item["status"] for item in reply["resp"]] == [0, status, 0]
    assert ("secret detail" in caplog.text) is (status >= 500)


def test_a_batch_that_fails_is_answered_one_by_one(
    post: Post, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = COMMANDS[AUTHORIZE].run

    def fail(calls: list[Any]) -> Any:
        if len(calls) > 1:
            raise RuntimeError("the batch")
        return run(calls)

    monkeypatch.setattr(COMMANDS[AUTHORIZE], "run", fail)
    _, reply = post({"cmds": [authorize(), authorize("/v1/Nuke.Launch")]})
    assert [item["resp"] for item in reply["resp"]] == [True, False]
    assert "the batch" in caplog.text


def test_a_deadline_that_passes_within_the_frame_counts(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow() -> None:
        time.sleep(0.15)

    monkeypatch.setitem(COMMANDS, "/v1/Slow", Command("/v1/Slow", {}, slow))
    soon = {"cmd": "/v1/Slow", "deadline": time.time() + 0.1}
    _, reply = post({"cmds": [soon, soon]})
    assert [item["status"] for item in reply["resp"]] == [0, 504]


def test_a_frame_full_of_guesses_ends_in_bounded_time(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rpc.commands.execution.GUESSING_SECONDS", 0.3)
    guesses = [
        {"cmd": AUTHENTICATE, "args": {"id": f"//h/{n}", "credentials": {"psk": "guess"}}}
        for n in range(300)
    ]
    right = {
        "cmd": AUTHENTICATE,
        "args": {"id": SENSOR, "credentials": {"psk": SENSOR_SECRET}},
    }
    started = time.monotonic()
    _, reply = post({"cmds": [*guesses, right]})
    assert time.monotonic() - started < 5
    assert [item["resp"] for item in reply["resp"]] == [False] * 300 + [True]


def test_an_object_without_known_properties_is_taken_as_it_is(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = {"args": {"any": {"type": "object"}}}
    monkeypatch.setitem(COMMANDS, "/v1/Any", Command("/v1/Any", definition, lambda any: any))  # noqa: A006
    assert one(post, cmd="/v1/Any", args={"any": {"x": [1]}})["resp"] == {"x": [1]}


@pytest.mark.parametrize("seconds", [0.0, 4.0])
def test_where_the_time_for_guesses_is_spent_no_chosen_secret_is_checked(
    post: Post, make_device: Callable[..., Device], monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    PreSharedKey.objects.register(device=make_device("//h/chosen"), secret="a chosen secret")
    monkeypatch.setattr("rpc.commands.execution.GUESSING_SECONDS", seconds)
    chosen = authentication("//h/chosen", psk="a chosen secret")
    _, reply = post({"cmds": [chosen, authentication(SENSOR, psk=SENSOR_SECRET)]})
    assert [item["resp"] for item in reply["resp"]] == [seconds > 0, True]


class AllTaken(AbstractContextManager[None]):
    """Slots of which none becomes free."""

    def __enter__(self) -> None:
        raise NoSlotError

    def __exit__(self, *_error: object) -> None:
        pass


@pytest.mark.parametrize(
    ("frame", "status"),
    [
        ({"cmds": [{"cmd": "/v1/Hello"}, {"cmd": "/v1/Nothing"}]}, 200),
        ({"cmds": []}, 200),
        ({"cmds": [{"cmd": "/v1/Hello"}, authorize()]}, 503),
        ({"cmds": [{"cmd": "/v1/Hello"}], "src": CLOUD, "key": SECRET}, 503),
    ],
)
def test_what_asks_the_database_nothing_waits_for_no_connection(
    client: Client, frame: Any, status: int
) -> None:
    environ: Any = {"REMOTE_ADDR": "127.0.0.1", SLOTS: AllTaken()}
    answer = client.generic("POST", "/", json.dumps(frame), **environ)
    assert answer.status_code == status


def test_many_authorizations_cost_as_many_statements_as_one(
    post: Post, django_assert_num_queries: Any
) -> None:
    for number in (1, 2, 100):
        with django_assert_num_queries(2):
            _, reply = post({"cmds": [authorize(f"/v1/Light.{n}") for n in range(number)]})
        assert all(item["resp"] for item in reply["resp"])


def authentication(identifier: str, **credentials: str) -> dict[str, Any]:
    return {"cmd": AUTHENTICATE, "args": {"id": identifier, "credentials": credentials}}


def test_many_authentications_cost_as_many_statements_as_one(
    post: Post,
    make_device: Callable[..., Device],
    django_assert_num_queries: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = authority()
    CertificateAuthority.objects.register(presented=root.pem, name="Root")
    asked, expected = [], []
    for number in range(20):
        identifier = f"//h/{number}"
        device = make_device(identifier)
        _, secret = PreSharedKey.objects.issue(device=device)
        own, named = device_certificate("own"), device_certificate(identifier, root)
        Certificate.objects.register(device=device, presented=own.pem)
        asked += [
            authentication(identifier, psk=secret),
            authentication(f"//h/{number + 1}", psk=secret),
            authentication(f"//h/nobody-{number}", psk=secret),
            authentication(identifier, cert=own.pem),
            authentication(identifier, cert=named.pem, psk=secret),
            authentication(identifier, cert=named.pem, psk="wrong"),
            authentication(f"//h/{number + 1}", cert=named.pem),
            authentication(identifier, cert="none at all"),
        ]
        expected += [True, False, False, True, True, False, False, False]
    monkeypatch.setattr("rpc.commands.execution.GUESSING_SECONDS", 0.1)
    for begin, end in ((0, 3), (0, 160)):
        statements = 1 if end <= 3 else 3
        with django_assert_num_queries(statements):
            _, reply = post({"cmds": asked[begin:end]})
        assert [item["resp"] for item in reply["resp"]] == expected[begin:end]


def test_a_thousand_authentications_cost_one_statement(
    post: Post, django_assert_num_queries: Any
) -> None:
    right = authentication(SENSOR, psk=SENSOR_SECRET)
    with django_assert_num_queries(1):
        _, reply = post({"cmds": [right] * 1000})
    assert [item["resp"] for item in reply["resp"]] == [True] * 1000


def test_an_authentication_that_presents_nothing_leaves_the_others_of_its_frame_be(
    post: Post,
) -> None:
    right = authentication(SENSOR, psk=SENSOR_SECRET)
    _, reply = post({"cmds": [right, authentication(SENSOR), right]})
    assert [item["status"] for item in reply["resp"]] == [0, 400, 0]
    assert reply["resp"][1]["status_msg"] == (
        "invalid args for Authenticate: credentials must have psk or cert"
    )


def test_a_deadline_that_passes_before_a_batch_is_run_counts(
    post: Post, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setitem(COMMANDS, "/v1/Slow", Command("/v1/Slow", {}, lambda: time.sleep(0.15)))
    right = authentication(SENSOR, psk=SENSOR_SECRET)
    late = right | {"deadline": time.time() + 0.1}
    with django_assert_num_queries(1):
        wrong = authentication(SENSOR, psk="wrong")
        _, reply = post({"cmds": [{"cmd": "/v1/Slow"}, right, late, wrong, right]})
    assert [item["status"] for item in reply["resp"]] == [0, 0, 504, 0, 0]
    assert [item.get("resp") for item in reply["resp"][1:]] == [True, None, False, True]


class TestCallers:
    """Rules 1, 2 and 4 of who may call, on frames."""

    outside = "203.0.113.9"

    def hello(self, **members: Any) -> dict[str, Any]:
        return {"cmds": [{"cmd": "/v1/Hello", "id": 3}, {"cmd": "/v1/Hello", "id": 4}]} | members

    @pytest.mark.parametrize(
        ("members", "status"),
        [
            ({}, 401),
            ({"src": CLOUD}, 401),
            ({"src": CLOUD, "key": SECRET}, 200),
            ({"src": f"{CLOUD}.dispatcher", "key": SECRET}, 200),
            ({"src": CLOUD, "key": "wrong"}, 401),
            ({"src": CLOUD, "key": ""}, 401),
            ({"src": CLOUD, "key": 5}, 401),
            ({"key": SECRET}, 401),
            ({"src": "//api.cesanta.com/nobody", "key": SECRET}, 401),
            ({"src": "//h/a.b.c", "key": SECRET}, 401),
            ({"src": SENSOR, "key": SENSOR_SECRET}, 403),
        ],
    )
    @pytest.mark.parametrize("address", ["203.0.113.9", "127.0.0.1"])
    def test_a_frames_key_is_a_secret_of_its_src(
        self, post: Post, members: dict[str, Any], status: int, address: str
    ) -> None:
        if address == "127.0.0.1" and "key" not in members:
            status = 200
        code, reply = post(self.hello(**members), address=address)
        assert code == status
        assert [item["id"] for item in reply["resp"]] == [3, 4]
        assert {item["status"] for item in reply["resp"]} == {0 if status == 200 else status}
        for item in reply["resp"]:
            assert set(item) <= {"id", "status", "status_msg"}

    @pytest.mark.parametrize(
        ("name", "secret", "src", "status"),
        [
            (CLOUD, SECRET, None, 200),
            (CLOUD, SECRET, f"{CLOUD}.dispatcher", 200),
            (CLOUD, SECRET, SENSOR, 403),
            (CLOUD, SECRET, "//h/a.b.c", 403),
            (CLOUD, "wrong", CLOUD, 401),
            (SENSOR, SENSOR_SECRET, SENSOR, 403),
        ],
    )
    def test_basic_credentials_are_those_of_the_src(
        self, post: Post, name: str, secret: str, src: str | None, status: int
    ) -> None:
        import base64

        token = base64.b64encode(f"{name}:{secret}".encode()).decode()
        members = {} if src is None else {"src": src}
        code, _ = post(self.hello(**members), address=self.outside, authorization=f"Basic {token}")
        assert code == status

    def test_each_credential_that_is_presented_must_hold(self, post: Post) -> None:
        import base64

        good = base64.b64encode(f"{CLOUD}:{SECRET}".encode()).decode()
        frame = self.hello(src=CLOUD, key="wrong")
        assert post(frame, authorization=f"Basic {good}")[0] == 401
        frame = self.hello(src=CLOUD, key=SECRET)
        assert post(frame, authorization="Basic bm9ib2R5Ong=")[0] == 401

    def test_a_refused_caller_runs_nothing(
        self, post: Post, broken: Callable[[Exception], None], caplog: pytest.LogCaptureFixture
    ) -> None:
        broken(RuntimeError("ran"))
        code, reply = post({"cmds": [{"cmd": "/v1/Broken"}]}, address=self.outside)
        assert code == 401
        assert reply["resp"][0]["status_msg"] == "authentication required"
        assert "ran" not in caplog.text

    def test_a_registry_that_cannot_be_asked_lets_nobody_in(
        self, post: Post, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: Any, **kwargs: Any) -> None:
            raise OperationalError("secret detail")

        monkeypatch.setattr("devices.credentials.pre_shared_keys.KEYS_OF_DEVICES.rows", fail)
        code, reply = post(self.hello(src=CLOUD, key=SECRET))
        assert code == 503
        assert reply == {"error": {"code": 503, "message": "service unavailable"}}

    def test_an_unexpected_failure_outside_any_command_tells_no_detail(
        self, post: Post, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(*args: Any, **kwargs: Any) -> None:
            raise RuntimeError("secret detail")

        monkeypatch.setattr("rpc.views.execution.run", fail)
        assert post(self.hello()) == (500, {"error": {"code": 500, "message": "internal error"}})
        assert "secret detail" in caplog.text


class TestVersion2:
    """The protocol's later form."""

    def test_a_result_or_an_error_stands_in_the_frame_itself(self, post: Post) -> None:
        frame = {"v": 2, "src": CLOUD, "dst": LAMP, "id": 9, "method": AUTHORIZE}
        args = {"src": SENSOR, "dst": LAMP, "cmd": "/v1/Light.On"}
        assert post(frame | {"args": args}) == (
            200,
            {"v": 2, "src": LAMP, "dst": CLOUD, "id": 9, "result": True},
        )
        assert post(frame) == (
            200,
            {
                "v": 2,
                "src": LAMP,
                "dst": CLOUD,
                "id": 9,
                "error": {
                    "code": 400,
                    "message": "invalid args for AuthorizeCommand: src is required",
                },
            },
        )

    def test_of_args_and_params_the_latter_win(self, post: Post) -> None:
        args, frame = authorize("/v1/Nuke.Launch")["args"], {"method": AUTHORIZE}
        params = authorize()["args"]
        assert post(frame | {"params": params}) == (200, {"v": 2, "result": True})
        assert post(frame | {"params": params, "args": args}) == (200, {"v": 2, "result": True})

    @pytest.mark.parametrize("tag", ["x", {"deep": [1]}, None])
    def test_a_tag_comes_back_as_it_came(self, post: Post, tag: Any) -> None:
        assert post({"method": "/v1/Hello", "tag": tag}) == (200, {"v": 2, "tag": tag})
        assert post({"cmds": [], "tag": tag}) == (200, {"v": 1, "resp": []})

    def test_everything_but_the_method_may_be_left_out(self, post: Post) -> None:
        assert post({"method": "/v1/Hello"}) == (200, {"v": 2})
        assert post({"method": "/v1/No"}) == (
            200,
            {"v": 2, "error": {"code": 404, "message": "No handler for /v1/No"}},
        )

    def test_no_reply_means_none(self, post: Post) -> None:
        assert post({"method": "/v1/Hello", "id": 1, "nr": True}) == (204, None)
        assert post({"method": "/v1/No", "nr": True}) == (204, None)
        assert post({"method": "/v1/Hello", "nr": False})[0] == 200

    def test_a_refusal_is_an_error_with_its_status(self, post: Post) -> None:
        assert post({"method": "/v1/Hello", "id": 1}, address="203.0.113.9") == (
            401,
            {"v": 2, "id": 1, "error": {"code": 401, "message": "authentication required"}},
        )

    def test_a_frame_with_both_is_version_1(self, post: Post) -> None:
        assert post({"method": "/v1/Hello", "cmds": []}) == (200, {"v": 1, "resp": []})


def test_a_lone_surrogate_comes_back_as_it_came(post: Post) -> None:
    _, reply = post(b'{"src":"\\ud800","cmds":[]}')
    assert reply == {"v": 1, "dst": "\ud800", "resp": []}
