"""Calls to the provider: bounded in time and size, and to its hosts only."""

import io
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from authlib.integrations.requests_client import OAuth2Session
from django.conf import settings
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from devices.database.slots import released

CONNECT_SECONDS = 3.0
READ_SECONDS = 5.0  # from one packet to the next
WHOLE_SECONDS = 8.0  # names, connection, answer
MAX_BYTES = 512 * 1024  # of an answer, unpacked
MAX_ADDRESS = 2000  # characters of an address that it publishes
MAX_CALLS = 8  # of a process at once
TAKE_BYTES = 16 * 1024

Result = TypeVar("Result")


class Calls:
    """Calls that may hang: each is waited for so long, and so many are under way at most."""

    def __init__(self, count: int = MAX_CALLS) -> None:
        self._places = threading.BoundedSemaphore(count)

    def within(self, seconds: float, call: Callable[[], Result]) -> Result:
        """Return what a call returns, made in a thread of its own; raises TimeoutError."""
        until = time.monotonic() + seconds
        if not self._places.acquire(timeout=seconds):
            raise TimeoutError("too many calls wait for an answer")
        future: Future[Result] = Future()

        def run() -> None:
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 (raised again by whoever waits)
                future.set_exception(error)
            finally:
                self._places.release()

        threading.Thread(target=run, name="sign-on call", daemon=True).start()
        try:
            return future.result(max(0.0, until - time.monotonic()))
        except TimeoutError:
            raise TimeoutError("no whole answer in time") from None


_calls = Calls()


class ForeignAddressError(requests.RequestException):
    """An address that is not of the configured provider."""


class UnusableAnswerError(requests.RequestException):
    """An answer that is too large, leads elsewhere, or is not what was asked for."""


def belongs_to_provider(address: object) -> bool:
    """Whether an address is one of the provider's, as far as the settings say."""
    if not isinstance(address, str) or not address.isprintable() or len(address) > MAX_ADDRESS:
        return False
    issuer = urlsplit(settings.OIDC_ISSUER)
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    if parts.scheme not in {"https", issuer.scheme} or parts.username is not None:
        return False
    return parts.netloc == issuer.netloc or parts.netloc in settings.OIDC_OTHER_HOSTS


class BoundedSession(OAuth2Session):
    """Authlib's session, on connections that are bounded; it follows no redirect."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for scheme in ("https://", "http://"):
            self.mount(scheme, BoundedAdapter())

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request to the provider; raises requests.RequestException."""
        if not belongs_to_provider(url):
            raise ForeignAddressError(f"{url[:200]!r} is not of the provider: OIDC_OTHER_HOSTS")
        kwargs["allow_redirects"] = False
        response: requests.Response = super().request(method, url, *args, **kwargs)
        if response.is_redirect:
            raise UnusableAnswerError("a redirect, which is not followed")
        return response


class BoundedAdapter(HTTPAdapter):
    """Sends a request and reads its answer in a thread of its own, which is waited for so long.

    A name that is not resolved and a byte every four seconds are outlasted, too. Whoever waits
    leaves its slot, and with it the database connection, to others.
    """

    def send(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        """Return the answer, read to its end; a session names all that it sends besides."""
        kwargs |= {"stream": True, "timeout": (CONNECT_SECONDS, READ_SECONDS)}
        try:
            with released():
                return _calls.within(WHOLE_SECONDS, lambda: self._read(request, kwargs))
        except TimeoutError as error:
            raise requests.Timeout(str(error)) from None

    def _read(self, request: requests.PreparedRequest, kwargs: Any) -> requests.Response:
        response = super().send(request, **kwargs)
        until = time.monotonic() + WHOLE_SECONDS
        body = bytearray()
        try:
            while piece := response.raw.read1(TAKE_BYTES, decode_content=True):
                body += piece
                if len(body) > MAX_BYTES:
                    raise UnusableAnswerError(f"an answer of more than {MAX_BYTES} bytes")
                if time.monotonic() > until:
                    raise requests.Timeout("the answer did not end in time")
        except HTTPError as error:
            raise requests.ConnectionError(f"the answer broke off: {error}") from error
        finally:
            response.raw.close()
        response.raw = io.BytesIO(bytes(body))
        return response
