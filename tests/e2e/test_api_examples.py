"""The examples of the API's document, in curl and in httpx, run as they stand at a real server."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from authsite.api.document import rendered
from authsite.api.examples import EXAMPLES, Example
from tests.support import pki
from tests.support.servers import Server, demo_server

pytestmark = pytest.mark.once(on="sqlite")

OPERATIONS = {
    operation["operationId"]: (path, operation)
    for path, item in json.loads(rendered())["paths"].items()
    for operation in item.values()
    if path.startswith("/api/")
}
FIRST = ("_create", "_provision", "_import_devices", "_load_list", "_end")  # what makes rows
LAST = ("_delete", "_revoke", "_revoke_credentials", "_bulk_delete")  # of what others need
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with demo_server(tmp_path_factory.mktemp("examples"), API_RATE="0") as server:
        yield server


def in_order() -> list[str]:
    """Return the operations: what makes rows first, what ends them last."""
    return sorted(
        OPERATIONS,
        key=lambda name: (
            2 + LAST.index(end)
            if (end := next((one for one in LAST if name.endswith(one)), None))
            else int(not name.endswith(FIRST))
        ),
    )


class Examples:
    """Runs samples: each sees its rows and its files, and is run with both programs."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder, self.root = server, folder, pki.authority("Root 0")
        text = server.manage("shell", "--verbosity", "0", "-c", TOKEN).split()[-1]
        self.api = httpx.Client(
            base_url=server.url, headers={"Authorization": f"Bearer {text}"}, timeout=30
        )
        self.environment = {
            **server.environment,
            "AUTHSITE_URL": server.url,
            "AUTHSITE_TOKEN": text,
        }

    @contextmanager
    def opened(self) -> "Iterator[Examples]":
        """Close the connections at the end."""
        with self.api:
            yield self

    def row(self, name: str, path: str) -> dict[str, str]:
        """Return the key and the version of the row that an example is about: the newest."""
        if name.startswith("permissions_document"):
            return {"ETAG": self.api.get(path).headers["ETag"]}
        if name.startswith("changes_") and name != "changes_list":
            listed = self.api.get("/api/v1/changes?model=devices.device&limit=2").json()
            newest, before = listed["results"]
            change = before if name == "changes_restore" else newest
            return {"ID": str(change["id"]), "BATCH": change["batch"]}
        collection = "/".join(path.split("/")[:4])
        if name in {"rtio_sessions_end", "devices_bulk_change", "devices_bulk_delete"}:
            collection, query = "/api/v1/devices", {"limit": 1000}
        elif "{id}" not in path:
            return {}
        else:
            query = {"limit": 1000}
        rows = self.api.get(collection, params=query).json()["results"]
        if name == "rtio_sessions_end":
            rows = [row for row in rows if len(row["identifier"]) == 36]
        if name.endswith("_delete"):
            rows = [row for row in rows if not row.get("revoked_at")]
        newest = max(rows, key=lambda row: row["id"])
        return {"ID": str(newest["id"]), "ETAG": newest.get("etag", '"none"')}

    def prepare(self, name: str, number: int) -> None:
        """Write the files that an example sends, and what it counts on."""
        if EXAMPLES.get(name, Example()).file:
            self._write_files(name, number)
        if name == "jobs_delete_devices":
            body = {"identifier": f"//example.com/job-{number}"}
            self.api.post("/api/v1/devices", json=body).raise_for_status()
        if name.startswith("changes_"):
            body = {"identifier": f"//example.com/{name}-{number}"}
            made = self.api.post("/api/v1/devices", json=body).raise_for_status().json()
            self.api.patch(
                f"/api/v1/devices/{made['id']}",
                json={"name": "Lamp"},
                headers={"If-Match": made["etag"]},
            ).raise_for_status()
        if name == "tokens_end":  # not the one that asks
            self.server.manage("create_token", "admin", f"spare {number}", "--read-only")
        if name == "rtio_servers_delete":  # one that no ended session is about
            body = {"name": f"spare {number}", "host": f"10.0.1.{number}"}
            self.api.post("/api/v1/rtio-servers", json=body).raise_for_status()

    def _write_files(self, name: str, number: int) -> None:
        if name == "trust_anchors_create":
            self.root = pki.authority(f"Root {number}")
        leaf = pki.device_certificate(f"//example.com/lamp-{number}", self.root)
        files: dict[str, Any] = {
            "certificate.json": {"device": 1, "certificate": leaf.pem},
            "trust-anchor.json": {"name": f"Root {number}", "certificate": self.root.pem},
            "permissions.json": self.api.get("/api/v1/permissions-document").json(),
        }
        for file, value in files.items():
            (self.folder / file).write_text(json.dumps(value))
        (self.folder / "root.crl").write_bytes(pki.revocation_list(self.root))
        (self.folder / "devices.csv").write_text("identifier,name\n//example.com/from-a-file,x\n")

    def run(self, name: str) -> None:
        """Run both samples of an operation; a new row of the second has another name."""
        path, operation = OPERATIONS[name]
        for number, sample in zip((7, 8), operation["x-codeSamples"], strict=True):
            self.prepare(name, number)
            source = (
                sample["source"].replace("-7", f"-{number}").replace("10.0.0.7", f"10.0.0.{number}")
            )
            if name == "assertions_create":
                source = source.replace("Nuke.Launch", f"Nuke.Launch{number}")
            if name == "jobs_delete_devices" and number == 8:
                source = source.replace("job-", "job-8")
            environment = {**self.environment, **self.row(name, path)}
            if sample["lang"] == "Python":
                with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()):
                    patch.chdir(self.folder)
                    for variable, value in environment.items():
                        patch.setenv(variable, value)
                    exec(compile(source, name, "exec"), {})
                continue
            done = subprocess.run(
                ["sh", "-c", source.replace("curl ", "curl --silent --show-error ", 1)],
                cwd=self.folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=30,
            )
            assert done.returncode == 0, f"{name}: {source}\n{done.stdout}{done.stderr}"


TOKEN = """
from django.contrib.auth.models import Permission, User
from authsite.accounts.tokens.models import ApiToken, names_of
scopes = names_of(Permission.objects.all())
print(ApiToken.objects.issue(owner=User.objects.get(username="admin"), name="x", scopes=scopes)[1])
"""


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl here")
def test_every_example_of_the_document_is_answered(registry: Server, tmp_path: Path) -> None:
    failed = []
    with Examples(registry, tmp_path).opened() as examples:
        for name in in_order():
            try:
                examples.run(name)
            except (AssertionError, ValueError, httpx.HTTPError) as error:
                failed.append(f"{name}: {error!r}")
    assert not failed, "\n\n".join(failed)


def test_there_is_no_example_of_nothing() -> None:
    assert set(EXAMPLES) <= set(OPERATIONS)
