"""The whole story of an ended session: a device, a browser, and an RTIO server.

`RTIO_SERVER=/path/to/rtio` runs it with the real server, else with the simulator.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import settings
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import sign_in
from tests.support.commands import python
from tests.support.postgres import free_port
from tests.support.rtio_simulator import (
    FAILED,
    PASSED,
    HubClient,
    RtioSimulator,
    SimulatedDevice,
    check_token,
    post,
)
from tests.support.servers import Server, demo_server

pytestmark = pytest.mark.once(on="processes")

BACKEND = "//rtio.example/one"
BATCH = 500
Connect = Callable[..., SimulatedDevice]


def device_id(number: int) -> str:
    return f"5d0b6d52-6a1c-4c55-9a9b-{number:012d}"


class Story:
    """A registry, an RTIO server that it knows, and the devices that connect there."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.connected: list[SimulatedDevice] = []
        self.secret = self.added(BACKEND, "--kind", "backend")
        self.verifier = (
            f"http://{quote(BACKEND, safe='')}:{quote(self.secret, safe='')}"
            f"@127.0.0.1:{server.port}/deviceverifier"
        )
        self.port = 0

    def added(self, identifier: str, *words: str) -> str:
        """Register a device and return its generated secret."""
        answer = self.server.manage("add_device", identifier, *words, "--generate-secret", "--json")
        secret: str = json.loads(answer)["secret"]
        return secret

    def know(self, name: str, port: int, **more: Any) -> None:
        """Have the registry know an RTIO server beside those that it knows."""
        document = json.loads(self.server.manage("export_rtio", "--json"))
        document["servers"].append({"name": name, "host": "127.0.0.1", "port": port, **more})
        self.server.manage("import_rtio", "-", stdin=json.dumps(document))

    def connect(self, identifier: str, secret: str) -> SimulatedDevice:
        device = SimulatedDevice(self.port, identifier, secret)
        self.connected.append(device)
        return device


@contextmanager
def rtio_server(verifier: str) -> Iterator[int]:
    """Yield the device port of a real RTIO server, or of the simulator."""
    program = os.environ.get("RTIO_SERVER")
    if program is None:
        with RtioSimulator(verifier) as simulator:
            yield simulator.port
        return
    port = free_port()
    process = subprocess.Popen(
        [
            program,
            f"-deviceaccess.addr=127.0.0.1:{port}",
            f"-backend.rpc.addr=127.0.0.1:{free_port()}",
            f"-httpaccess.addr=127.0.0.1:{free_port()}",
            f"-backend.deviceverifier={verifier}",
            "-disable.hubconfiger",
        ]
    )
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                SimulatedDevice(port, device_id(0), "x" * 32).close()
                break
            except OSError:
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("rtio")
    with demo_server(folder, WORKERS="2") as server:
        story = Story(server, folder)
        with rtio_server(story.verifier) as port:
            story.port = port
            story.know("rtio-1", port, calls_as=BACKEND)
            yield story
            for device in story.connected:
                device.close()


@pytest.fixture
def page(browser: Browser, story: Story) -> Iterator[Page]:
    with browser.new_context(
        base_url=story.server.url, storage_state=sign_in(browser, story.server)
    ) as context:
        yield context.new_page()


def open_device(page: Page, identifier: str) -> None:
    page.goto(f"/admin/devices/device/?q={identifier}")


def test_revoked_in_the_browser_closed_in_under_a_second_refused_on_return(
    story: Story, page: Page
) -> None:
    identifier = device_id(1)
    secret = story.added(identifier)
    device = story.connect(identifier, secret)
    assert device.code == PASSED
    time.sleep(2.5)  # the journal of the server is written every second
    open_device(page, identifier)
    page.locator("table.credentials tbody th a").click()
    page.get_by_role("link", name="Revoke").click()
    started = time.monotonic()
    page.get_by_role("button", name="Revoke").click()
    assert device.closes_within(1)
    assert time.monotonic() - started < 2
    assert story.connect(identifier, secret).code == FAILED
    open_device(page, identifier)
    panel = page.locator("section.panel", has_text="Sessions at RTIO servers")
    expect(panel).to_contain_text("through rtio-1")
    expect(panel).to_contain_text("its last credential was revoked")
    page.wait_for_timeout(300)
    page.reload()
    expect(panel).to_contain_text("ended at rtio-1 after")


def test_ended_on_purpose_the_device_comes_back(story: Story, page: Page) -> None:
    identifier = device_id(2)
    secret = story.added(identifier)
    device = story.connect(identifier, secret)
    open_device(page, identifier)
    page.get_by_role("link", name="End its session now").click()
    page.get_by_role("button", name="End its session now").click()
    assert device.closes_within(1)
    assert story.connect(identifier, secret).code == PASSED


def batch(story: Story, begins: int) -> list[SimulatedDevice]:
    """Register and connect a batch of devices, whose identifiers begin alike."""
    file = story.folder / "batch.csv"
    secrets = [
        f"{begins}-{number:03d}-secret-of-a-machine-{number * 7919:09d}" for number in range(BATCH)
    ]
    rows = [
        f"{device_id(begins * 1000 + number)},{secret}" for number, secret in enumerate(secrets)
    ]
    file.write_text("\n".join(["identifier,secret", *rows, ""]))
    story.server.manage("import_devices", str(file), "--random")
    return [
        story.connect(device_id(begins * 1000 + number), secret)
        for number, secret in enumerate(secrets)
    ]


def disable_all(page: Page, search: str) -> None:
    page.goto(f"/admin/devices/device/?q={search}")
    page.locator("#action-toggle").check()
    page.locator(".actions .question a").click()
    page.get_by_label("Action:").select_option(label="Disable selected devices")
    page.locator(".actions button[name=index]").click()
    page.get_by_role("button", name="Disable").click()
    page.wait_for_url("**/admin/devices/device/**")


def test_batch_of_500_is_ended_in_seconds_with_one_of_two_servers_down(
    story: Story, page: Page
) -> None:
    story.know("rtio-down", free_port())
    devices = batch(story, 7)
    assert {device.code for device in devices} == {PASSED}
    disable_all(page, device_id(7000)[:-3])
    started = time.monotonic()
    for device in devices:  # 5 s with the other suites beside; some machines are half as fast
        assert device.closes_within(max(0.01, started + 15 - time.monotonic()))
    page.goto("/admin/rpc/sessionending/?state__exact=waiting")
    expect(page.locator("#result_list")).to_contain_text("rtio-down")


def test_killed_worker_s_work_is_taken_up(story: Story) -> None:
    """What a command changes has no process of its own to end it: the server's take it up."""
    identifier = device_id(3)
    device = story.connect(identifier, story.added(identifier))
    os.kill(min(story.server.workers), signal.SIGKILL)
    story.server.manage("revoke_key", identifier, "--all")
    assert device.closes_within(5)


def test_command_ends_a_session_with_a_receipt(story: Story) -> None:
    identifier = device_id(4)
    device = story.connect(identifier, story.added(identifier))
    answer = json.loads(
        story.server.manage("end_sessions", identifier, "--server", "rtio-1", "--json")
    )
    assert device.closes_within(1)
    (receipt,) = answer["receipts"]
    assert receipt["state"] in {"ended", "not-connected"}
    assert receipt["ended_after_ms"] < 2000


def test_hub_and_tokens_are_what_rtio_takes(story: Story) -> None:
    hub = HubClient(story.verifier.replace("/deviceverifier", "/hubconfiger"))
    hub.poll()
    document = json.loads(story.server.manage("export_rtio", "--json"))
    document["routes"] = [{"uri": "/echo", "url": "http://127.0.0.1:17517/echo"}]
    story.server.manage("import_rtio", "-", stdin=json.dumps(document))
    hub.poll()
    assert hub.url_for("/echo") == "http://127.0.0.1:17517/echo"


def test_token_for_an_app(tmp_path: Path) -> None:
    key = python("manage.py", "make_jwt_key", "--id", "k", "--json", check=True)
    pair = json.loads(key.stdout)
    device, app = device_id(1), "//apps.example/phone"
    with demo_server(tmp_path, JWT_SIGNING_KEYS=pair["setting"]) as server:
        server.manage("add_device", device)
        answer = server.manage(
            "add_device", app, "--kind", "backend", "--generate-secret", "--json"
        )
        secret = json.loads(answer)["secret"]
        server.manage(
            *("permit", "--source", app, "--destination", device, "--command", "/rtio/Jwt.Issue")
        )
        address = f"http://{quote(app, safe='')}:{secret}@127.0.0.1:{server.port}/jwtissuer"
        token = post(address, {"method": "jwtissuer", "id": 1, "deviceid": device})["jwt"]
        assert check_token(token, pair["public"], device)["iss"] == "rtio"
        assert "/jwtissuer is off" not in server.log
        assert pair["setting"] not in server.log


def test_device_service_asks_whether_the_device_may(server: Server) -> None:
    """The documented example, as it stands, in a network of the backend."""
    _ask_device_service(server)


def test_device_service_elsewhere_shows_who_it_is(tmp_path: Path) -> None:
    with demo_server(tmp_path, BACKEND_NETWORKS="") as server:
        _ask_device_service(server, CALLER="//api.cesanta.com/cloud:cloud-backend-key-0123456789")


def _ask_device_service(server: Server, **variables: str) -> None:
    device, port = "//api.cesanta.com/device_123", free_port()
    program = subprocess.Popen(
        [sys.executable, "examples/device_service.py"],
        cwd=settings.BASE_DIR,
        env={
            **os.environ,
            "REGISTRY": f"{server.url}/v1/Auth.AuthorizeCommand",
            "SERVICE_PORT": str(port),
            **variables,
        },
        stderr=subprocess.DEVNULL,
    )
    question = {"method": "copost", "id": 7, "deviceid": device, "data": "aGVsbG8="}

    def asked() -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", json.dumps(question).encode())
        deadline = time.monotonic() + 10
        while True:
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    return json.load(answer)
            except urllib.error.URLError:
                assert time.monotonic() < deadline
                time.sleep(0.1)

    try:
        assert asked() == {"id": 7, "code": "BAD_REQUEST"}
        server.manage("add_device", "//services.example/echo")
        server.manage(
            *("permit", "--source", device, "--destination", "//services.example/echo"),
            *("--command", "/echo/Call"),
        )
        assert asked() == {"id": 7, "code": "OK", "data": "ZWNobzogaGVsbG8="}
    finally:
        program.terminate()
        program.wait(10)
