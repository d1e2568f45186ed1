"""Two servers on one registry: what one changes holds in the other at the very next request."""

import http.client
import http.cookiejar
import json
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Self

import pytest

from devices.credentials import throttle
from tests.support import pki
from tests.support.servers import PATIENCE, Server, demo_database

CHOSEN = "a chosen secret"
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


class Pair(NamedTuple):
    """Two servers; staff sign in to the first, devices are verified by the second."""

    staffed: Server
    asked: Server


class Registered(NamedTuple):
    """A device of a test, and one of its keys."""

    identifier: str
    device: int
    key: int
    secret: str


class Verifier:
    """A keep-alive connection to one server, so that one process of it answers everything."""

    def __init__(self, server: Server) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        self.connection.connect()
        self.socket = self.connection.sock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def post(self, path: str, document: object) -> dict[str, object]:
        self.connection.request("POST", path, json.dumps(document))
        answer: dict[str, object] = json.loads(self.connection.getresponse().read())
        assert self.connection.sock is self.socket, "the server closed the connection"
        return answer

    def code(self, identifier: str, secret: str) -> str:
        """Return RTIO's code for a secret."""
        question = {"id": 1, "method": "verify", "deviceid": identifier, "devicesecret": secret}
        return str(self.post("/deviceverifier", question)["code"])

    def accepts(self, identifier: str, certificate: str) -> object:
        """Return what Authenticate says of a certificate."""
        args = {"id": identifier, "credentials": {"cert": certificate}}
        command = {"cmd": "/v1/Auth.Authenticate", "id": 1, "args": args}
        frame = self.post("/", {"v": 1, "src": "//api.cesanta.com/cloud", "cmds": [command]})
        (item,) = frame["resp"]  # type: ignore[misc]
        return item["resp"]  # type: ignore[has-type]


class Admin:
    """Staff at the admin of one server."""

    def __init__(self, server: Server) -> None:
        self.url = server.url
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self.opener = urllib.request.build_opener(cookies)
        name, password = server.staff
        self.submit("/admin/login/?next=/admin/", username=name, password=password)

    def submit(self, path: str, **fields: str) -> None:
        """Fill in the form on a page; fails where the answer finds fault with it."""
        page = self.opener.open(self.url + path, timeout=PATIENCE).read().decode()
        token = TOKEN.search(page)
        assert token, page
        content = urllib.parse.urlencode({"csrfmiddlewaretoken": token[1], **fields}).encode()
        with self.opener.open(self.url + path, content, timeout=PATIENCE) as answer:
            assert "errornote" not in answer.read().decode()


def start(folder: Path, url: str, **environment: str) -> Server:
    return Server(folder, url, WORKERS="1", **environment)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    with demo_database(folder) as (url, staff):
        first, second = start(folder, url), start(folder, url)
        first.staff = staff
        with first, second:
            yield Pair(first, second)


@pytest.fixture(scope="module")
def admin(pair: Pair) -> Admin:
    return Admin(pair.staffed)


Register = Callable[..., Registered]

# Registers a device for each of the words, as `add_device` does: one process for all of them.
REGISTER = """
import django, io, json, sys, uuid
django.setup()
from django.core.management import call_command
from devices.models import Device
chosen = sys.stdin.read()
for word in sys.argv[1:]:
    identifier, printed = str(uuid.uuid4()), io.StringIO()
    sys.stdin = io.TextIOWrapper(io.BytesIO(chosen.encode()))
    call_command("add_device", identifier, word, "--json", stdout=printed)
    added, device = json.loads(printed.getvalue()), Device.objects.get(identifier=identifier)
    print(json.dumps([identifier, device.pk, added["key"], added.get("secret", chosen)]))
"""
HOW = {False: "--generate-secret", True: "--secret-stdin"}
MANY = 8  # devices of each kind, for the tests of one pair


@pytest.fixture(scope="module")
def register(pair: Pair) -> Register:
    """Return what hands out devices that nobody has asked about yet."""
    spare = {chosen: registered(pair.staffed, *[chosen] * MANY) for chosen in HOW}
    return lambda *, chosen: spare[chosen].pop()


def registered(server: Server, *chosen: bool) -> list[Registered]:
    """Register devices by commands, each with a chosen or a generated secret."""
    printed = server.run("-c", REGISTER, *(HOW[one] for one in chosen), stdin=CHOSEN)
    return [Registered(*json.loads(line)) for line in printed.splitlines()]


def shell(server: Server, expression: str) -> str:
    """Return what an expression over the registry's models is, as text."""
    program = f"from devices.models import *; print({expression})"
    return server.manage("shell", "--no-imports", "-c", program).strip()


kinds = pytest.mark.parametrize("chosen", [False, True], ids=["generated", "chosen"])


@kinds
def test_a_key_revoked_in_one_server_is_refused_by_the_other_at_once(
    pair: Pair, admin: Admin, register: Register, chosen: bool
) -> None:
    known = register(chosen=chosen)
    with Verifier(pair.asked) as verifier:
        for _ in range(3):  # from the second on, a chosen secret is remembered
            assert verifier.code(known.identifier, known.secret) == "OK"

        admin.submit(f"/admin/devices/presharedkey/{known.key}/revoke/", reason="lost")

        assert verifier.code(known.identifier, known.secret) == "VERIFICATION_FAILED"


@pytest.mark.once(on="postgres")
@kinds
def test_a_key_revoked_by_a_command_is_refused_by_a_server_at_once(
    pair: Pair, register: Register, chosen: bool
) -> None:
    known = register(chosen=chosen)
    with Verifier(pair.asked) as verifier:
        for _ in range(3):
            assert verifier.code(known.identifier, known.secret) == "OK"

        pair.staffed.manage("revoke_key", known.identifier, "--reason", "lost")

        assert verifier.code(known.identifier, known.secret) == "VERIFICATION_FAILED"


@kinds
def test_a_device_disabled_in_one_server_is_refused_by_the_other_at_once(
    pair: Pair, admin: Admin, register: Register, chosen: bool
) -> None:
    known = register(chosen=chosen)
    with Verifier(pair.asked) as verifier:
        for _ in range(3):
            assert verifier.code(known.identifier, known.secret) == "OK"

        admin.submit(f"/admin/devices/device/{known.device}/disable/")
        assert verifier.code(known.identifier, known.secret) == "VERIFICATION_FAILED"

        admin.submit(f"/admin/devices/device/{known.device}/enable/")
        assert verifier.code(known.identifier, known.secret) == "OK"


@pytest.mark.once(on="postgres")
def test_a_certificate_revoked_in_one_server_is_refused_by_the_other_at_once(
    pair: Pair, admin: Admin, register: Register
) -> None:
    known = register(chosen=False)
    leaf = pki.device_certificate(known.identifier).pem
    added = pair.staffed.manage("add_certificate", known.identifier, "-", "--json", stdin=leaf)
    certificate = json.loads(added)["certificate"]
    with Verifier(pair.asked) as verifier:
        for _ in range(3):
            assert verifier.accepts(known.identifier, leaf) is True

        admin.submit(f"/admin/devices/certificate/{certificate}/revoke/", reason="stolen")

        assert verifier.accepts(known.identifier, leaf) is False


@pytest.mark.once(on="postgres")
def test_a_trust_anchor_switched_off_by_one_process_vouches_for_nobody_in_another(
    pair: Pair, register: Register
) -> None:
    known = register(chosen=False)
    root = pki.authority(f"Root of {known.identifier}")
    leaf = pki.pem(pki.device_certificate(known.identifier, root))
    name = known.identifier
    pair.staffed.manage("add_trust_anchor", name, "-", stdin=root.pem)
    with Verifier(pair.asked) as verifier:
        for _ in range(3):
            assert verifier.accepts(known.identifier, leaf) is True

        anchors = f"CertificateAuthority.objects.filter(name='{name}')"
        assert shell(pair.staffed, f"{anchors}.update(enabled=False)") == "1"

        assert verifier.accepts(known.identifier, leaf) is False


@pytest.mark.once(on="postgres")
def test_a_verification_is_in_the_database_within_seconds(pair: Pair, register: Register) -> None:
    known = register(chosen=False)
    with Verifier(pair.asked) as verifier:
        assert verifier.code(known.identifier, known.secret) == "OK"
    time.sleep(3)  # three times EVIDENCE_INTERVAL
    seen = f"Device.objects.get(pk={known.device}).last_seen is not None"
    used = f"PreSharedKey.objects.get(pk={known.key}).last_used is not None"
    assert shell(pair.staffed, f"{seen}, {used}") == "True True"


def test_servers_that_verify_and_staff_who_write_never_fail_each_other(
    pair: Pair, admin: Admin, register: Register
) -> None:
    devices = [register(chosen=number % 2 == 0) for number in range(4)]
    ends = time.monotonic() + 6

    def verify(server: Server) -> list[str]:
        codes = []
        with Verifier(server) as verifier:
            while time.monotonic() < ends:
                codes += [verifier.code(known.identifier, known.secret) for known in devices]
        return codes

    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(verify, server) for server in pair]
        written = 0
        while time.monotonic() < ends:
            admin.submit("/admin/devices/devicegroup/add/", name=f"group {written}")
            admin.submit(f"/admin/devices/device/{devices[0].device}/issue-key/", label="more")
            written += 1
    for answer in answers:
        codes = answer.result()
        assert set(codes) == {"OK"}
        assert len(codes) > 100
    assert written >= 4
    for server in pair:
        assert "Traceback" not in server.log


@pytest.mark.once(on="postgres")
def test_with_a_shared_cache_failures_in_both_servers_add_up_to_the_limit(tmp_path: Path) -> None:
    cache = "dbcache://authsite_cache"
    with demo_database(tmp_path) as (url, _):
        first, second = (start(tmp_path, url, CACHE_URL=cache) for _ in range(2))
        first.manage("createcachetable")
        (known,) = registered(first, True)
        with first, second:  # which have verified nobody yet

            def fail(server: Server) -> None:
                with Verifier(server) as verifier:
                    for number in range((throttle.FAILURES - 1) // 2):
                        code = verifier.code(known.identifier, f"guess {number}")
                        assert code == "VERIFICATION_FAILED"

            with ThreadPoolExecutor(2) as pool:
                list(pool.map(fail, (first, second)))
            with Verifier(first) as one, Verifier(second) as other:
                assert one.code(known.identifier, CHOSEN) == "OK"  # one short of the limit
                assert one.code(known.identifier, "one guess more") == "VERIFICATION_FAILED"
                assert other.code(known.identifier, CHOSEN) == "VERIFICATION_FAILED"
                assert one.code(known.identifier, CHOSEN) == "OK"  # remembered


@pytest.mark.once(on="postgres")
def test_without_a_shared_cache_each_server_counts_failures_alone(
    pair: Pair, register: Register
) -> None:
    known = register(chosen=True)
    with Verifier(pair.staffed) as first, Verifier(pair.asked) as second:
        for number in range(throttle.FAILURES):
            assert first.code(known.identifier, f"guess {number}") == "VERIFICATION_FAILED"
        assert first.code(known.identifier, CHOSEN) == "VERIFICATION_FAILED"
        assert second.code(known.identifier, CHOSEN) == "OK"
