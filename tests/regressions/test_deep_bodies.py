"""A body of 60,000 `[` ended the server's process under Python 3.13: its decoder recursed so deep.

The depth is bounded before any decoder sees a body.

Public reports of this kind: https://github.com/msgspec/msgspec/issues/1033, CVE-2024-27454.
"""

from typing import NoReturn

import pytest
from django.test import Client

from rpc import codec
from rpc.codec import MAX_DEPTH, NotJson, decode


class Untouched:
    """A decoder that must not be asked."""

    def decode(self, body: bytes) -> NoReturn:
        raise AssertionError(body[:20])


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 60_000,
        b'{"a":' * 60_000,
        b"[" * 30_000 + b"]" * 30_000,
        b'["\\"[", ' + b"[" * 60_000,
        b'["\\\\", ' + b"[" * 60_000,
        b'"\\ud800" ' + b"[" * 60_000,
        b"[{}," * 60_000,
    ],
    ids=lambda body: body[:12].decode(),
)
def test_no_decoder_sees_a_deep_body(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_decoder", Untouched())
    with pytest.raises(NotJson, match="too deep"):
        decode(body)


@pytest.mark.parametrize(
    "value",
    [
        [[]] * 10_000,
        "[" * 10_000,
        ['"[[', "\\"] * 5_000,
        {"[": "{" * 1_000},
    ],
    ids=["wide", "a text", "quotes", "a member"],
)
def test_many_brackets_are_no_depth(value: object) -> None:
    assert decode(codec.encode(value)) == value


def test_the_deepest_body_is_read() -> None:
    assert decode(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/deviceverifier", "/", "/rpc", "/v1/Hello"])
def test_each_endpoint_refuses_it(path: str, client: Client) -> None:
    response = client.generic("POST", path, b"[" * 60_000, content_type="")
    assert response.status_code == (200 if path == "/deviceverifier" else 400)
    assert b"BAD_REQUEST" in response.content or b"too deep" in response.content
