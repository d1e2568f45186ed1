"""An RTIO server as the wire sees it, written from its contract and its public pages.

A device port that verifies and takes sessions over, a client of the verifier, a client of the hub
configuration, and the check of a token. Nothing of it is RTIO's code.
"""

import base64
import http.client
import json
import secrets
import socket
import socketserver
import ssl
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

VERIFIER_SECONDS = 5  # for everything that RTIO asks its backend
VERIFY_REQUEST, VERIFY_ANSWER = 1, 2
PASSED, FAILED = 1, 3  # by RTIO's page on its device access protocol, and measured
LEEWAY = 10  # seconds
MIN_TOKEN_LENGTH = 160


class RtioError(Exception):
    """What RTIO would log as an error."""


def post(url: str, content: dict[str, Any]) -> dict[str, Any]:
    """Post as RTIO's client does: Go's bytes, no Content-Type, the status ignored."""
    target = urlsplit(url)
    assert target.hostname is not None
    if target.scheme == "https":
        unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            target.hostname, target.port, timeout=VERIFIER_SECONDS, context=unchecked
        )
    else:
        connection = http.client.HTTPConnection(
            target.hostname, target.port, timeout=VERIFIER_SECONDS
        )
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    for char, escape in (("&", "\\u0026"), ("<", "\\u003c"), (">", "\\u003e")):
        text = text.replace(char, escape)
    body = text.encode()
    try:
        connection.putrequest("POST", target.path, skip_accept_encoding=True)
        connection.putheader("User-Agent", "Go-http-client/1.1")
        connection.putheader("Content-Length", str(len(body)))
        if target.username is not None:
            pair = f"{unquote(target.username)}:{unquote(target.password or '')}"
            connection.putheader(
                "Authorization", "Basic " + base64.b64encode(pair.encode()).decode()
            )
        connection.putheader("Accept-Encoding", "gzip")
        connection.endheaders(body)
        answer = connection.getresponse().read()
    finally:
        connection.close()
    parsed: dict[str, Any] = json.loads(answer)
    return parsed


def verify(url: str, identifier: str, secret: str) -> bool:
    """Ask a verifier; "OK" alone admits, whatever else it says."""
    answer = post(
        url,
        {
            "id": secrets.randbits(32),
            "method": "verify",
            "deviceid": identifier,
            "devicesecret": secret,
        },
    )
    return answer.get("code") == "OK"


class HubClient:
    """Keeps the routes of device services by the CRC-32 of their URI; only ever sets some."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.routes: dict[int, str] = {}
        self.digest = 0

    def poll(self) -> None:
        """Ask once; raises RtioError where RTIO would keep what it has."""
        request_id = secrets.randbits(32)
        answer = post(
            self.url,
            {"id": request_id, "method": "getconfig", "deviceid": "", "devicesecret": ""},
        )
        if answer["id"] != request_id:
            raise RtioError("the id does not match")
        if answer["code"] != "OK":
            raise RtioError(answer["code"])
        if answer["digest"] != zlib.crc32(answer["config"].encode()):
            raise RtioError("the digest does not match")
        if answer["digest"] == self.digest:
            return
        self.digest = answer["digest"]
        for uri, url in json.loads(answer["config"])["deviceservicemap"].items():
            self.routes[zlib.crc32(uri.encode())] = url

    def url_for(self, uri: str) -> str | None:
        """Return what is asked for a device's request."""
        return self.routes.get(zlib.crc32(uri.encode()))


def check_token(token: str, public_key: str, identifier: str) -> dict[str, Any]:
    """Return the claims of a token that RTIO's HTTP gateway takes for a device."""
    if len(token) < MIN_TOKEN_LENGTH:
        raise RtioError("too short")
    header, claims, signature = token.split(".")
    if json.loads(_decoded(header))["alg"] != "EdDSA":
        raise RtioError("not EdDSA")
    key = load_pem_public_key(public_key.encode())
    assert isinstance(key, Ed25519PublicKey)
    try:
        key.verify(_decoded(signature), f"{header}.{claims}".encode())
    except InvalidSignature:
        raise RtioError("the signature does not match") from None
    content: dict[str, Any] = json.loads(_decoded(claims))
    if content["exp"] < time.time() - LEEWAY or content["iat"] > time.time() + LEEWAY:
        raise RtioError("expired, or not yet valid")
    if content["sub"] != identifier:
        raise RtioError("for another device")
    return content


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


class _Session(socketserver.BaseRequestHandler):
    """One connection to the device port."""

    server: "_Port"

    def handle(self) -> None:
        simulator = self.server.simulator
        connection: socket.socket = self.request
        try:
            if simulator.tls is not None:
                connection = simulator.tls.wrap_socket(connection, server_side=True)
            if simulator.misbehave is not None:
                simulator.misbehave(connection)
            else:
                self._serve(simulator, connection)
        except OSError:  # TLS that fails is one, too
            pass
        finally:
            connection.close()

    def _serve(self, simulator: "RtioSimulator", connection: socket.socket) -> None:
        identifier = ""
        try:
            while header := _exactly(connection, 5):
                kind, request_id = header[0] >> 4, header[1:3]
                body = _exactly(connection, int.from_bytes(header[3:5], "big"))
                if kind != VERIFY_REQUEST:
                    return
                asked, secret = _credentials(body)
                with simulator.waiting:
                    passed = simulator.verifies(asked, secret)
                code = simulator.passed_code if passed else FAILED
                connection.sendall(bytes([VERIFY_ANSWER << 4 | code]) + request_id + b"\x00\x00")
                if passed:
                    identifier = asked
                    simulator.add(identifier, connection)
        except (ValueError, EOFError):
            return
        finally:
            if identifier:
                simulator.remove(identifier, connection)


def _credentials(body: bytes) -> tuple[str, str]:
    identifier, colon, secret = body[1:].partition(b":")
    if not colon or len(identifier) != 36 or not 24 <= len(secret) <= 64:
        raise ValueError("RTIO closes such a connection")
    return identifier.decode(), secret.decode()


def _exactly(connection: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length:
        part = connection.recv(length - len(received))
        if not part:
            raise EOFError
        received += part
    return received


class _Port(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024
    simulator: "RtioSimulator"


class RtioSimulator:
    """A device port on loopback; `with` starts and ends it.

    `misbehave` gets every connection in place of the protocol; `at_once` bounds what it asks its
    verifier at the same time (RTIO does not).
    """

    def __init__(
        self,
        verifier: str | Callable[[str, str], bool],
        *,
        tls: ssl.SSLContext | None = None,
        passed_code: int = PASSED,
        at_once: int = 256,
    ) -> None:
        self.verifier = verifier
        self.tls = tls
        self.passed_code = passed_code
        self.misbehave: Callable[[socket.socket], None] | None = None
        self.waiting = threading.Semaphore(at_once)
        self.asked: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._sessions: dict[str, socket.socket] = {}
        self._port = _Port(("127.0.0.1", 0), _Session)
        self._port.simulator = self
        self.port: int = self._port.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._port.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._port.shutdown()
        self._port.server_close()
        with self._lock:
            for connection in self._sessions.values():
                _hang_up(connection)

    def verifies(self, identifier: str, secret: str) -> bool:
        self.asked.append((identifier, secret))
        if callable(self.verifier):
            return self.verifier(identifier, secret)
        try:
            return verify(self.verifier, identifier, secret)
        except (OSError, ValueError, http.client.HTTPException):
            return False

    def add(self, identifier: str, connection: socket.socket) -> None:
        """Register a session; an older one of the same device is cancelled before."""
        with self._lock:
            old = self._sessions.pop(identifier, None)
            self._sessions[identifier] = connection
        if old is not None:
            _hang_up(old)

    def remove(self, identifier: str, connection: socket.socket) -> None:
        with self._lock:
            if self._sessions.get(identifier) is connection:
                del self._sessions[identifier]

    @property
    def sessions(self) -> set[str]:
        """The ids that are connected now."""
        with self._lock:
            return set(self._sessions)


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class SimulatedDevice:
    """A device with its one connection; `code` is what it was answered."""

    def __init__(
        self, port: int, identifier: str, secret: str, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.connection: socket.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        if tls is not None:
            self.connection = tls.wrap_socket(self.connection, server_hostname="localhost")
        body = b"\x00" + f"{identifier}:{secret}".encode()
        request_id = secrets.token_bytes(2)
        header = bytes([VERIFY_REQUEST << 4]) + request_id + len(body).to_bytes(2, "big")
        self.connection.sendall(header + body)
        answer = _exactly(self.connection, 5)
        assert answer[0] >> 4 == VERIFY_ANSWER
        assert answer[1:3] == request_id
        self.code = answer[0] & 0b111

    def closes_within(self, seconds: float) -> bool:
        """Whether the server closes the connection within that time."""
        self.connection.settimeout(seconds)
        try:
            return self.connection.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        self.connection.close()
