"""A provider of OpenID Connect that says whatever a test wants, with keys of its own."""

import json
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

KEY = RSAKey.generate_key(2048, {"kid": "first", "use": "sig"})
OTHER_KEY = RSAKey.generate_key(2048, {"kid": "first", "use": "sig"})
NEXT_KEY = RSAKey.generate_key(2048, {"kid": "second", "use": "sig"})

Response = tuple[int, dict[str, str], bytes]


def unsigned(claims: dict[str, Any], alg: str = "none") -> str:
    """Return a token without a signature."""
    header = {"alg": alg, "kid": "first"}
    parts = (urlsafe_b64encode(json.dumps(part).encode()).decode() for part in (header, claims))
    return ".".join(part.rstrip("=") for part in parts) + "."


class LyingProvider:
    """What it says is in its attributes; `asked` are the paths that it was asked for."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.metadata: dict[str, Any] = {
            "issuer": url,
            "authorization_endpoint": url + "/authorize",
            "token_endpoint": url + "/token",
            "jwks_uri": url + "/jwks",
            "userinfo_endpoint": url + "/userinfo",
            "end_session_endpoint": url + "/end",
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }
        self.key = KEY
        self.keys: list[Any] = [KEY]
        self.nonce = ""
        self.claims: dict[str, Any] = {}
        self.without: tuple[str, ...] = ()
        self.userinfo: dict[str, Any] = {"sub": "subject-1"}
        self.sign: Callable[[dict[str, Any]], str] = self.signed
        self.responses: dict[str, Callable[[], Response]] = {}
        self.asked: list[str] = []
        self.forms: list[dict[str, str]] = []

    def signed(self, claims: dict[str, Any]) -> str:
        """Return an honest token."""
        kid = self.key.as_dict(private=False)["kid"]
        return jwt.encode({"alg": "RS256", "kid": kid}, claims, self.key)

    def id_token(self) -> str:
        """Return the token for whoever signs on, as `claims` change it."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": "subject-1",
            "aud": "authsite",
            "iat": now,
            "exp": now + 300,
            "auth_time": now,
            "nonce": self.nonce,
            "preferred_username": "kim",
            "groups": ["registry-viewers"],
            **self.claims,
        }
        return self.sign({name: claims[name] for name in claims if name not in self.without})

    def answer(self, path: str) -> Response:
        """Return status, headers and body for a path."""
        self.asked.append(path)
        if path in self.responses:
            return self.responses[path]()
        found: dict[str, Any] = {
            "/.well-known/openid-configuration": lambda: self.metadata,
            "/jwks": lambda: {"keys": [key.as_dict(private=False) for key in self.keys]},
            "/token": lambda: {
                "access_token": "the-access-token",
                "token_type": "Bearer",
                "id_token": self.id_token(),
            },
            "/userinfo": lambda: self.userinfo,
        }
        if path not in found:
            return 404, {}, b"{}"
        return 200, {}, json.dumps(found[path]()).encode()


@contextmanager
def lying_provider() -> Iterator[LyingProvider]:
    """Yield a provider that listens on a port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = provider.answer(urlsplit(self.path).path)
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            provider.forms.append({name: value[0] for name, value in parse_qs(body).items()})
            self.do_GET()

        def log_message(self, *_args: Any) -> None:
            """Stay silent."""

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:  # the other side has hung up, as some tests want it to
                return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    provider = LyingProvider(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
