"""RTIO's question about a device, in the bytes that its server sends (Go's net/http)."""

import json

PATIENCE = 5.0  # seconds that it waits for an answer, connecting included
EVERY = 2.0  # seconds after which a refused device asks again
Exchange = tuple[bytes, bytes]


def request(path: str, document: object) -> bytes:
    """Return a POST without Content-Type and Accept."""
    body = json.dumps(document, separators=(",", ":")).encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: registry\r\nUser-Agent: Go-http-client/1.1\r\n"
        f"Content-Length: {len(body)}\r\nAccept-Encoding: gzip\r\n\r\n"
    ).encode() + body


def question(number: int, identifier: str, secret: str, *, path: str = "/deviceverifier") -> bytes:
    """Return a verification of a device's secret."""
    return request(
        path,
        {"method": "verify", "id": number, "deviceid": identifier, "devicesecret": secret},
    )


def answer(number: int, code: str = "OK") -> bytes:
    """Return the body that answers it."""
    return b'{"id":%d,"code":"%s"}' % (number, code.encode())
