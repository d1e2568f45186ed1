"""Bodies that nobody sends, at every endpoint of a real server: thousands of them."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.support.fuzz import (
    AUTHENTICATE,
    AUTHORIZE,
    CLOUD,
    HARMLESS,
    IDENTIFIER,
    SENSOR,
    THERMOSTAT,
    TIMES,
    UNKNOWN,
    Asked,
    Fuzz,
    fuzzing,
)
from tests.support.servers import demo_server

pytestmark = [pytest.mark.slow, pytest.mark.once(on="postgres")]

EXAMPLES = 25 * TIMES
EACH = 32  # requests of an example
FRAME_PATHS = ["/", "/rpc", "/rpc/", "/rpc?reply=array", "/?reply=array&reply=x"]
SECRET = "its secret"  # stands for the one that is only known once the server runs


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory, report: Callable[[str], None]) -> Iterator[Fuzz]:
    with (
        demo_server(tmp_path_factory.mktemp("fuzz"), LOG_LEVEL="CRITICAL") as server,
        fuzzing(server, report, "fuzz of bodies") as running,
    ):
        yield running


anything = st.text(st.characters(exclude_categories=()), max_size=50)  # NULs, lone surrogates
names = st.sampled_from([IDENTIFIER, IDENTIFIER, SENSOR, THERMOSTAT, CLOUD, UNKNOWN, ""])
commands = st.sampled_from([AUTHENTICATE, AUTHORIZE, *HARMLESS, "/v1/Config.Set", "/v1/Nope"])
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | anything
    | names
    | commands
    | st.just(SECRET)
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(anything, inner, max_size=4),
    max_leaves=12,
)


def mostly(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return what fits, and now and then anything at all."""
    return st.integers(0, 7).flatmap(lambda roll: values if roll == 0 else strategy)


def members(**fitting: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return objects with some of these members, most of which fit."""
    optional = {name: mostly(strategy) for name, strategy in fitting.items()}
    whole = st.fixed_dictionaries(optional)
    return whole | st.fixed_dictionaries({}, optional=optional)


numbers = st.integers(0, 2**64)
verifications = members(
    id=st.integers(0, 2**33),
    method=st.just("verify"),
    deviceid=st.just(IDENTIFIER) | anything,
    devicesecret=st.just(SECRET) | anything.map(lambda text: text + SECRET),
    more=values,
)
credentials = members(psk=st.just(SECRET) | anything, cert=anything)
arguments = (
    members(id=st.just(IDENTIFIER), credentials=credentials)
    | members(src=names, dst=names, cmd=commands | anything)
    | values
)
calls = members(
    cmd=commands, id=numbers, args=arguments, deadline=numbers | st.floats(), timeout=numbers
)
frames = members(v=st.just(1), src=names, dst=names, cmds=st.lists(calls, max_size=6)) | members(
    v=st.just(2),
    id=numbers,
    method=commands,
    args=arguments,
    nr=st.booleans(),
    src=names,
    tag=values,
)


def written(value: Any, secret: str, *, escaped: bool) -> bytes:
    """Return a value as JSON, with the real secret in it and with or without escapes.

    Infinities become numbers that no double holds.
    """
    text = json.dumps(value, ensure_ascii=escaped).replace("Infinity", "1e999")
    return text.replace(SECRET, secret).encode(errors="surrogatepass")


def asked(paths: list[str], content: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    one = st.tuples(st.sampled_from(paths), content, st.booleans())
    return st.lists(one, min_size=EACH, max_size=EACH)


patiently = settings(
    max_examples=EXAMPLES,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def put(fuzz: Fuzz, requests: list[Any]) -> None:
    fuzz.send_all(
        Asked(path, written(content, fuzz.secret, escaped=escaped))
        for path, content, escaped in requests
    )


def counted(fuzz: Fuzz, run: Callable[[], None]) -> None:
    """Run, and assert that as much was sent as is promised."""
    before = fuzz.sent
    run()
    assert fuzz.sent - before >= EXAMPLES * EACH * 0.9


def test_questions_of_rtio(fuzz: Fuzz) -> None:
    @patiently
    @given(asked(["/deviceverifier", "/deviceverifier/"], verifications | values))
    def run(requests: list[Any]) -> None:
        put(fuzz, requests)

    counted(fuzz, run)


def test_frames(fuzz: Fuzz) -> None:
    @patiently
    @given(asked(FRAME_PATHS, frames | values))
    def run(requests: list[Any]) -> None:
        put(fuzz, requests)

    counted(fuzz, run)


def test_the_loop_and_a_thread_answer_alike(fuzz: Fuzz) -> None:
    @patiently
    @given(asked(["/deviceverifier"], verifications) | asked(FRAME_PATHS, frames))
    def run(requests: list[Any]) -> None:
        fuzz.send_all_both_ways(
            Asked(path, written(content, fuzz.secret, escaped=escaped))
            for path, content, escaped in requests
        )

    counted(fuzz, run)


def test_commands_at_their_paths(fuzz: Fuzz) -> None:
    paths = [AUTHENTICATE, AUTHORIZE, *HARMLESS, "/v1/Nope", "/v1/", AUTHENTICATE + "?id=7"]

    @patiently
    @given(asked(paths, arguments))
    def run(requests: list[Any]) -> None:
        put(fuzz, requests)

    counted(fuzz, run)


@st.composite
def broken(draw: st.DrawFn) -> tuple[str, bytes]:
    """Return a path, and a body that was right until some of its bytes were changed."""
    path, content = draw(
        st.sampled_from(
            [
                (
                    "/deviceverifier",
                    {"id": 1, "method": "verify", "deviceid": IDENTIFIER, "devicesecret": SECRET},
                ),
                (
                    "/rpc",
                    {
                        "v": 1,
                        "cmds": [
                            {
                                "cmd": AUTHENTICATE,
                                "id": 1,
                                "args": {"id": IDENTIFIER, "credentials": {"psk": SECRET}},
                            }
                        ],
                    },
                ),
                (AUTHENTICATE, {"id": IDENTIFIER, "credentials": {"psk": SECRET}}),
            ]
        )
    )
    body = json.dumps(content).encode()
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.integers(0, 5)))
        body = body[:start] + draw(st.binary(max_size=5)) + body[end:]
    return path, body


def test_bodies_with_bytes_changed(fuzz: Fuzz) -> None:
    raw = st.tuples(st.sampled_from(["/deviceverifier", "/rpc", AUTHENTICATE]), st.binary())

    @patiently
    @given(st.lists(broken() | raw, min_size=EACH, max_size=EACH))
    def run(requests: list[tuple[str, bytes]]) -> None:
        fuzz.send_all(
            Asked(path, body.replace(SECRET.encode(), fuzz.secret.encode()))
            for path, body in requests
        )

    counted(fuzz, run)


def test_what_is_right_is_still_let_in(fuzz: Fuzz) -> None:
    content = {"id": 1, "method": "verify", "deviceid": IDENTIFIER, "devicesecret": fuzz.secret}
    answer = fuzz.server.ask("POST", "/deviceverifier", json.dumps(content).encode())
    assert json.loads(answer.body) == {"id": 1, "code": "OK"}
