"""Client certificates through a real TLS front: nginx, configured as docs/callers.md says."""

import http.client
import ipaddress
import json
import re
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from django.conf import settings

from tests.support.nginx import install
from tests.support.pki import NOW, Party, authority, device_certificate
from tests.support.postgres import free_port
from tests.support.servers import PATIENCE, Answer, Server, demo_server

pytestmark = [pytest.mark.e2e, pytest.mark.once(on="sqlite")]

FRONT = "127.0.0.2"  # where nginx calls from; the tests themselves call from 127.0.0.1
CLOUD = "//api.cesanta.com/cloud"
DEVICE = "//api.cesanta.com/device_123"
KEY = "cloud-backend-key-0123456789"
LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
OWN = device_certificate("front", extensions=[x509.SubjectAlternativeName([LOOPBACK])])
HELLO = {"cmds": [{"cmd": "/v1/Hello"}]}
FRAME = """
daemon off; master_process off; pid pid; error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c;
    uwsgi_temp_path d; scgi_temp_path e;
    {documented}
}}
"""


class Front:
    """nginx in front of a server; `ask` goes through it."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder = folder
        self.server = server
        self.port = free_port()

    def configuration(self) -> str:
        """Return the documented configuration with the tests' ports and files in it."""
        page = (settings.BASE_DIR / "docs" / "callers.md").read_text()
        (documented,) = re.findall(r"```nginx\n(.*?)```", page, re.DOTALL)
        for written, here in {
            "listen 8443 ssl": f"listen 127.0.0.1:{self.port} ssl",
            "/etc/nginx/registry.crt": f'"{self.saved(OWN)[0]}"',
            "/etc/nginx/registry.key": f'"{self.folder / "front.key"}"',
            "http://127.0.0.1:17217;": f"{self.server.url}; proxy_bind {FRONT};",
        }.items():
            assert documented.count(written) == 1, written
            documented = documented.replace(written, here)
        return FRAME.format(documented=documented)

    def saved(self, party: Party, name: str = "front") -> tuple[str, str]:
        """Write a certificate and its key, and return their paths."""
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        certificate.write_text(party.pem)
        key.write_bytes(
            party.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return str(certificate), str(key)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run nginx within the block."""
        path = self.folder / "nginx.conf"
        path.write_text(self.configuration())
        log = (self.folder / "nginx.log").open("wb")
        command = [install(), "-e", "stderr", "-p", str(self.folder), "-c", str(path)]
        with log, subprocess.Popen(command, stderr=log) as process:
            try:
                self.await_answer(process)
                yield
            finally:
                process.terminate()

    def await_answer(self, process: "subprocess.Popen[bytes]") -> None:
        """Return once nginx answers."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and process.poll() is None:
            try:
                self.ask("/v1/Hello", {})
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError((self.folder / "nginx.log").read_text())

    def ask(
        self,
        path: str,
        body: object,
        shown: Party | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Post through nginx, showing a certificate if one is given, and return the answer."""
        context = ssl.create_default_context(cafile=str(self.folder / "front.crt"))
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if shown is not None:
            context.load_cert_chain(*self.saved(shown, "client"))
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=PATIENCE, context=context
        )
        try:
            connection.request("POST", path, json.dumps(body).encode(), headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("mtls")
    environment = {
        "BACKEND_NETWORKS": "",
        "TRUSTED_PROXIES": f"{FRONT}/32",
        "CLIENT_CERT_HEADER": "ClientCert",
    }
    with demo_server(folder, **environment) as server:
        front = Front(folder, server)
        with front.running():
            yield front


Register = Callable[..., Party]


@pytest.fixture(scope="module")
def register(front: Front) -> Register:
    """Return what registers a certificate of a name, once."""

    @cache
    def pin(name: str, identifier: str = CLOUD) -> Party:
        party = device_certificate(name)
        front.server.manage("add_certificate", identifier, "-", stdin=party.pem)
        return party

    return pin


def assert_refused(answer: Answer) -> None:
    """Assert a refusal that every client of the endpoints can read."""
    assert answer.status == 401
    assert answer.headers["Content-Type"] == "application/json"
    assert "true" not in answer.body.decode()
    assert isinstance(json.loads(answer.body), dict)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", HELLO),
        ("/rpc", HELLO | {"src": f"{CLOUD}.dispatcher"}),
        ("/", {"method": "/v1/Hello"}),
        ("/v1/Hello", {}),
        (
            "/deviceverifier",
            {"id": 1, "method": "verify", "deviceid": "x" * 36, "devicesecret": "xyz"},
        ),
    ],
)
def test_a_good_certificate_is_let_in_and_none_or_a_wrong_one_is_not(
    front: Front, register: Register, path: str, body: object
) -> None:
    good = register("good")

    assert front.ask(path, body, good).status == 200
    assert_refused(front.ask(path, body))
    assert_refused(front.ask(path, body, device_certificate("wrong")))


def test_a_certificate_answers_for_its_own_entity_only(front: Front, register: Register) -> None:
    good = register("good")
    assert_refused(front.ask("/", HELLO | {"src": "//api.cesanta.com/thermostat"}, good))
    a_device_s = register("device", DEVICE)
    assert front.ask("/", HELLO | {"src": DEVICE}, a_device_s).status == 403


def test_an_expired_certificate_is_refused_in_json(front: Front, register: Register) -> None:
    expired = device_certificate("expired", ends=NOW - timedelta(days=1))
    assert_refused(front.ask("/", HELLO, expired))


def test_an_anchor_vouches_for_a_backend(front: Front) -> None:
    root = authority()
    front.server.manage("add_trust_anchor", "Root", "-", stdin=root.pem)
    assert front.ask("/", HELLO, device_certificate(CLOUD, root)).status == 200
    assert_refused(front.ask("/", HELLO, device_certificate("//api.cesanta.com/nobody", root)))


def test_revoking_works_at_the_next_request(front: Front, register: Register) -> None:
    party = register("to be revoked")
    assert front.ask("/", HELLO, party).status == 200
    front.server.manage("revoke_certificate", CLOUD, "--file", "-", stdin=party.pem)
    assert_refused(front.ask("/", HELLO, party))


@pytest.mark.parametrize("header", ["ClientCert", "clientcert", "CLIENTCERT"])
def test_a_forged_header_is_believed_neither_directly_nor_through_the_front(
    front: Front, register: Register, header: str
) -> None:
    stolen = register("stolen")  # the certificate, which is public
    forged = {header: quote(stolen.pem, safe="")}
    body = json.dumps(HELLO).encode()

    assert_refused(front.server.ask("POST", "/", body, forged))
    assert_refused(front.server.ask("POST", "/", body, forged | {"X-Forwarded-For": FRONT}))
    assert_refused(front.ask("/", HELLO, headers=forged))
    assert_refused(front.ask("/", HELLO, device_certificate("own"), forged))
    assert front.ask("/", HELLO, stolen, {header: "forged"}).status == 200


def test_a_wrong_certificate_is_refused_beside_a_right_key(
    front: Front, register: Register
) -> None:
    good = register("good")
    keyed = HELLO | {"src": CLOUD, "key": KEY}
    assert front.ask("/", keyed).status == 200
    assert front.ask("/", keyed, good).status == 200
    assert_refused(front.ask("/", keyed, device_certificate("wrong")))
    assert_refused(front.ask("/", keyed | {"key": "wrong"}, good))
