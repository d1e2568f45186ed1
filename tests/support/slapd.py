"""A real directory for the tests: OpenLDAP's slapd, on a folder and a port of its own."""

import ipaddress
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.support.pki import SERVER, authority, issue
from tests.support.postgres import free_port

SCHEMAS = Path("/etc/ldap/schema")
MODULES = Path("/usr/lib/ldap")
PLACES = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
STARTING = 10  # seconds
BASE = "dc=example,dc=com"
ADMIN = f"cn=admin,{BASE}"
PASSWORD = "the-password-of-the-directory"

CONFIGURATION = """
include {schemas}/core.schema
include {schemas}/cosine.schema
include {schemas}/inetorgperson.schema
pidfile "{folder}/pid"
modulepath {modules}
moduleload back_mdb
TLSCertificateFile "{folder}/ldap.crt"
TLSCertificateKeyFile "{folder}/ldap.key"
database mdb
directory "{folder}/data"
suffix {base}
rootdn {admin}
rootpw {password}
access to attrs=userPassword by anonymous auth by * none
access to * by * none
"""


class Directory:
    """The running directory; `url` is without TLS until it is asked for by StartTLS."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.tls_port = free_port(), free_port()
        self.url = f"ldap://127.0.0.1:{self.port}"
        self.tls_url = f"ldaps://127.0.0.1:{self.tls_port}"
        self.authority = folder / "authority.crt"
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self, ldif: str) -> None:
        """Write its configuration, its certificate and what it holds."""
        (self.folder / "data").mkdir()
        root = authority("Root of the directory")
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        own = issue("directory", root, extensions=[SERVER, x509.SubjectAlternativeName([address])])
        self.authority.write_text(root.pem)
        (self.folder / "ldap.crt").write_text(own.pem)
        (self.folder / "ldap.key").write_bytes(
            own.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        text = CONFIGURATION.format(
            folder=self.folder,
            schemas=SCHEMAS,
            modules=MODULES,
            base=BASE,
            admin=ADMIN,
            password=PASSWORD,
        )
        (self.folder / "slapd.conf").write_text(text)
        self._tool("slapadd", "-f", str(self.folder / "slapd.conf"), stdin=ldif)

    def start(self) -> None:
        """Serve, and wait until it answers."""
        command = [
            shutil.which("slapd", path=PLACES) or "slapd",
            *("-f", str(self.folder / "slapd.conf"), "-d", "0"),
            *("-h", f"{self.url}/ {self.tls_url}/"),
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        import ldap

        until = time.monotonic() + STARTING
        while True:
            try:
                ldap.initialize(self.url).simple_bind_s()
            except ldap.SERVER_DOWN:
                assert time.monotonic() < until, (self.folder / "log").read_text()
                time.sleep(0.02)
            except ldap.LDAPError:
                return
            else:
                return

    def modify(self, ldif: str) -> None:
        """Change what it holds."""
        words = ["-H", self.url, "-x", "-D", ADMIN, "-w", PASSWORD]
        self._tool("ldapmodify", *words, stdin=ldif)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(STARTING)
            self._process = None

    @staticmethod
    def _tool(name: str, *words: str, stdin: str) -> None:
        done = subprocess.run(
            [shutil.which(name, path=PLACES) or name, *words],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"


@contextmanager
def directory(folder: Path, ldif: str) -> Iterator[Directory]:
    """Yield a running directory; skips the test where slapd or python-ldap is missing."""
    pytest.importorskip("ldap", reason="python-ldap is not installed: requirements-ldap.txt")
    for name in ("slapd", "slapadd", "ldapmodify"):
        if shutil.which(name, path=PLACES) is None:
            pytest.skip(f"there is no {name} (Debian: apt-get install slapd ldap-utils)")
    if not (SCHEMAS / "core.schema").exists() or not (MODULES / "back_mdb.la").exists():
        pytest.skip("slapd's schemas and modules are not where Debian has them")
    found = Directory(folder)
    found.prepare(ldif)
    try:
        found.start()
        yield found
    finally:
        found.stop()
