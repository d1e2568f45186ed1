"""Bodies: chunked, cut off, announced wrongly."""

import io
from typing import Any

import pytest

from rpc.codec import BodyCutOff, BodyTooLarge, NotJson, Reply, decode, encode, read_body

pytestmark = pytest.mark.once(on="sqlite")


def meta(body: bytes, **headers: str) -> dict[str, Any]:
    return {"wsgi.input": io.BytesIO(body), **headers}


def test_a_body_is_read_to_its_announced_length() -> None:
    assert read_body(meta(b"hello", CONTENT_LENGTH="5"), limit=5) == b"hello"
    assert read_body(meta(b"hello world", CONTENT_LENGTH="5"), limit=100) == b"hello"


@pytest.mark.parametrize("length", [None, "", "0", "-5", "many"])
def test_without_a_usable_length_there_is_no_body(length: str | None) -> None:
    headers = {} if length is None else {"CONTENT_LENGTH": length}
    assert read_body(meta(b"hello", **headers), limit=100) == b""


def test_a_chunked_body_is_read_to_its_end() -> None:
    headers = {"HTTP_TRANSFER_ENCODING": "Chunked"}
    assert read_body(meta(b"hello", **headers), limit=5) == b"hello"
    described = meta(b"hello" * 1000, **headers)
    with pytest.raises(BodyTooLarge):
        read_body(described, limit=5)
    assert described["wsgi.input"].tell() == 6  # and no further


def test_a_body_that_announces_too_much_is_not_read() -> None:
    described = meta(b"hello", CONTENT_LENGTH="6")
    with pytest.raises(BodyTooLarge):
        read_body(described, limit=5)
    assert described["wsgi.input"].tell() == 0


def test_a_body_that_ends_early_is_cut_off() -> None:
    with pytest.raises(BodyCutOff):
        read_body(meta(b"hel", CONTENT_LENGTH="5"), limit=5)


def test_a_connection_that_breaks_is_a_cut() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise ConnectionResetError

    with pytest.raises(BodyCutOff):
        read_body({"wsgi.input": Broken(), "CONTENT_LENGTH": "5"}, limit=5)


def test_an_answer_without_content_has_no_headers_of_it() -> None:
    more = (("Allow", "POST"),)
    assert Reply(b"", 204, more).headers == [*more]
    assert dict(Reply(b"{}", 200, more).headers)["Content-Length"] == "2"


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'"\\ud800"', "\ud800"),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"\\udc00\\ud800"', "\udc00\ud800"),
        (b'{"a":1,"a":2,"b":"\\ud800"}', {"a": 2, "b": "\ud800"}),
        (b'["\\ud800",1e999]', ["\ud800", float("inf")]),
    ],
)
def test_lone_surrogates_are_read_and_written(body: bytes, value: object) -> None:
    assert decode(body) == value
    assert decode(encode(decode(body))) == value


@pytest.mark.parametrize(
    "body",
    [
        b"1e999",
        b"-1e309",
        b"1e" + b"9" * 400,
        b"9" * 5_000,
        b"-" + b"9" * 5_000,
        b'["\\ud800",1e999]',
        b'{"\\ud800":[[1e999],"\\udc00"],"x":' + b"9" * 5_000 + b"}",
        b'[1e999,{"a":null,"b":[true,-0.0]}]',
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_no_double_holds_goes_out_as_it_came(body: bytes) -> None:
    assert encode(decode(body)) == body


def test_a_number_of_any_length_is_json() -> None:
    assert decode(b'{"id":5,"x":' + b"9" * 5_000 + b"}")["id"] == 5
    assert decode(b"9" * 900 + b"\n") == int("9" * 900)


@pytest.mark.parametrize(
    "body",
    [
        b'"\\ud800" x',
        b'["\\ud800",NaN]',
        b'["\\ud800",Infinity]',
        b'["\\ud800",' + b"[" * 100_000,
        b'"\\ud800\xff"',
        b'"\\ud800\n"',
        b'{"a":"\xff"}',
    ],
    ids=lambda body: repr(body[:20]),
)
def test_the_lenient_reader_is_no_more_lenient_than_that(body: bytes) -> None:
    with pytest.raises(NotJson):
        decode(body)
