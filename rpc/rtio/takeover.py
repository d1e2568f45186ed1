"""A connection to an RTIO server's device port, made to take over a device's session.

RTIO cancels the session of a device id when a second connection with that id is verified.
(contract: RTIO, "Ending a live session".)
"""

import asyncio
import contextlib
import os
import ssl
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from django.utils.translation import gettext as _

from devices.background.attempts import tls_context
from rpc.rtio.models import RtioServer, TlsMode
from rpc.rtio.models.server import is_near

HEADER_BYTES = 5
VERIFY_REQUEST, VERIFY_ANSWER = 1, 2
# Codes of an answer. RTIO's page has 1 for success, others have 0, which RTIO answers where it
# cannot ask its verifier: what tells a success is that the registry was asked about the secret.
UNKNOWN_ERROR, FAILED = 0, 3
REQUEST_ID = 1  # there is one request in a connection
CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 7.0  # RTIO waits up to 5 s for its verifier
HOLD_SECONDS = 1.0  # how long the connection stays, so that RTIO closes the old one before


class Unreachable(Exception):
    """The server cannot be asked, or what answers is no RTIO; the text says why, to staff."""


def verify_request(identifier: str, secret: str) -> bytes:
    """Return the bytes with which a device asks to be verified."""
    body = b"\x00" + f"{identifier}:{secret}".encode()
    return _header(VERIFY_REQUEST, 0, len(body)) + body


def _header(kind: int, code: int, length: int) -> bytes:
    return bytes([kind << 4 | code]) + REQUEST_ID.to_bytes(2, "big") + length.to_bytes(2, "big")


def answer_code(header: bytes) -> int:
    """Return the code of the answer to our request; raises Unreachable where it is none."""
    code = header[0] & 0b111
    if header != _header(VERIFY_ANSWER, code, 0):
        raise Unreachable(_("what answers there is no RTIO"))
    return code


@lru_cache(maxsize=64)
def tls_of(mode: str, certificate: str) -> ssl.SSLContext | None:
    """Return how TLS is spoken in a mode; None where it is not."""
    if mode not in (TlsMode.CHECKED, TlsMode.PINNED):
        return None
    if mode == TlsMode.CHECKED:
        return tls_context(certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the certificate itself is compared instead
    return context


@lru_cache(maxsize=64)
def _der(certificate: str) -> bytes:
    return x509.load_pem_x509_certificate(certificate.encode()).public_bytes(Encoding.DER)


class TakeOver:
    """One attempt: `ask` returns RTIO's code, `close` ends the connection a moment later."""

    def __init__(self, server: RtioServer) -> None:
        self._server = server
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, identifier: str, secret: str) -> int:
        """Connect, show the secret, and return the answer's code.

        Raises Unreachable, before anything is sent where the server is not the one on record.
        """
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await self._connect()
            async with asyncio.timeout(ANSWER_SECONDS):
                writer.write(verify_request(identifier, secret))
                await writer.drain()
                return answer_code(await reader.readexactly(HEADER_BYTES))
        except TimeoutError:
            raise Unreachable(_("it did not answer in time")) from None
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "") or error.reason or str(error)
            raise Unreachable(_("TLS failed: %s") % reason) from None
        except (asyncio.IncompleteReadError, ConnectionResetError, BrokenPipeError):
            raise Unreachable(_("it closed the connection without an answer")) from None
        except OSError as error:
            # asyncio's own text is Python's, with the address as a tuple.
            number = error.errno or 0
            reason = os.strerror(number) if number > 0 else error.strerror or str(error)
            raise Unreachable(_("no connection: %s") % reason) from None

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        server = self._server
        context = tls_of(server.tls, server.certificate)
        reader, self._writer = await asyncio.open_connection(
            server.host, server.port, ssl=context, server_hostname=server.host if context else None
        )
        peer: Any = self._writer.get_extra_info("peername")
        if server.tls == TlsMode.NONE and not is_near(peer[0]):
            raise Unreachable(_("its address is outside private networks, and TLS is off"))
        if server.tls == TlsMode.PINNED:
            shown = self._writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            if shown != _der(server.certificate):
                raise Unreachable(_("TLS failed: it shows another certificate"))
        return reader, self._writer

    async def close(self, *, after: float = 0.0) -> None:
        """Close the connection; RTIO then forgets the device's id."""
        if self._writer is None:
            return
        await asyncio.sleep(after)
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                await self._writer.wait_closed()
