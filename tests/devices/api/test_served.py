"""The API of a real server, with a real token: what only a server's process can show."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.servers import Server, demo_server

pytestmark = [pytest.mark.e2e, pytest.mark.once(on="postgres")]
SCOPES = [
    *(f"devices.{verb}_device" for verb in ("view", "add", "change", "delete")),
    "devices.add_presharedkey",
]
PATIENCE = 30  # seconds
DEVICE = "f3f0c9d2-6d5b-4b7e-9a0e-2b7f0f6a1c11"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("api")
    with demo_server(folder) as server:
        yield server


@pytest.fixture(scope="module")
def token(registry: Server) -> str:
    scopes = [word for scope in SCOPES for word in ("--scope", scope)]
    said = registry.manage("create_token", registry.staff.name, "robot", "--json", *scopes)
    text: str = json.loads(said)["token"]
    return text


@pytest.fixture
def client(registry: Server, token: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {token}"}
    base = f"{registry.url}/api/v1/"
    with httpx.Client(base_url=base, headers=headers, timeout=PATIENCE) as client:
        yield client


def test_asks_for_a_token_in_json(registry: Server) -> None:
    answer = httpx.get(f"{registry.url}/api/v1/devices")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "Set-Cookie" not in answer.headers


def test_provisions_a_device_that_is_let_in(registry: Server, client: httpx.Client) -> None:
    made = client.post("devices/provision", json={"identifier": DEVICE, "key": {}})
    assert made.status_code == 201, made.text
    question = {"id": 1, "deviceid": DEVICE, "devicesecret": made.json()["key"]["secret"]}
    verdict = httpx.post(
        f"{registry.url}/deviceverifier", json={"method": "verify", "id": 1, **question}
    )
    assert verdict.json()["code"] == "OK", verdict.text


def test_refuses_what_is_sent_in_chunks(client: httpx.Client) -> None:
    answer = client.post("devices", content=iter([b'{"identifier": ', b'"chunked"}']))
    assert (answer.status_code, answer.json()["code"]) == (411, "length-required")


def test_streams_all_to_the_last_line(client: httpx.Client) -> None:
    with client.stream("GET", "devices/export") as answer:
        lines: list[dict[str, Any]] = [json.loads(line) for line in answer.iter_lines()]
    assert lines[-1] == {"complete": True, "rows": len(lines) - 1}
    assert len(lines) > 1


def test_a_thread_of_the_server_does_jobs(client: httpx.Client) -> None:
    file = "identifier\n" + "".join(f"imported-{number}\n" for number in range(500))
    asked = client.post(
        "jobs/import-devices?format=csv",
        content=file.encode(),
        headers={"Content-Type": "text/csv"},
    )
    assert asked.status_code == 202, asked.text
    deadline = time.monotonic() + PATIENCE
    while (job := client.get(f"jobs/{asked.json()['id']}").json())["finished"] is None:
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
    assert (job["state"], job["result"]["new"]) == ("done", 500), job
    found = client.get("devices", params={"identifier": "imported-499"}).json()["results"]
    assert len(found) == 1
