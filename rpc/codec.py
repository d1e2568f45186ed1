"""Read and write JSON bodies as machines send them: any Content-Type, chunked, hostile or not."""

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import msgspec

from devices.values.json_text import is_deeper, no_constant

MAX_INTEGER_DIGITS = 1000  # digits
MAX_DEPTH = 200  # arrays and objects within each other; what is asked here has five


class Number(float):
    """A number that no double holds, or an integer too long to convert: it goes out as it came."""

    text: str

    def __new__(cls, text: str) -> Self:
        """Return what compares like it: an infinity."""
        number = super().__new__(cls, text)
        number.text = text
        return number


def _as_it_came(value: object) -> msgspec.Raw:
    if isinstance(value, Number):
        return msgspec.Raw(value.text.encode())
    raise TypeError(type(value))


_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder(enc_hook=_as_it_came)


class BodyTooLarge(Exception):
    """The body is longer than its endpoint takes."""


class BodyCutOff(Exception):
    """The body ended before the length that was announced."""


class NotJson(Exception):
    """The body is not JSON in UTF-8, or nests deeper than anything sensible does."""


class Reply(NamedTuple):
    """An answer: its body is JSON, or empty. `more` are headers beside those of the content."""

    body: bytes
    status: int = 200
    more: tuple[tuple[str, str], ...] = ()

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Return the headers; without content there is no type of it either."""
        if not self.body:
            return [*self.more]
        length = ("Content-Length", str(len(self.body)))  # or it would go out in chunks
        return [("Content-Type", "application/json"), length, *self.more]


def read_body(meta: Mapping[str, Any], *, limit: int) -> bytes:
    """Return the body of the request that `meta` describes, at most `limit` bytes of it.

    Django takes a body without Content-Length for empty; a chunked one has none and is read from
    the server's stream. Raises BodyTooLarge without reading a body that announces too much, and
    BodyCutOff where the client stopped sending.
    """
    if "chunked" in meta.get("HTTP_TRANSFER_ENCODING", "").lower():
        announced = None
    else:
        try:
            announced = int(meta.get("CONTENT_LENGTH") or 0)
        except ValueError:
            announced = 0
        if announced > limit:
            raise BodyTooLarge
        if announced <= 0:
            return b""
    stream = meta["wsgi.input"]
    try:
        body: bytes = stream.read(limit + 1 if announced is None else announced)
    except OSError as error:
        raise BodyCutOff from error
    if announced is None and len(body) > limit:
        raise BodyTooLarge
    if announced is not None and len(body) < announced:
        raise BodyCutOff
    return body


def decode(body: bytes) -> Any:
    """Return the value of a JSON text in UTF-8; of duplicate keys the last wins.

    Raises NotJson.
    """
    if len(body) > MAX_DEPTH and is_deeper(body, MAX_DEPTH):
        raise NotJson("nested too deep")
    try:
        return _decoder.decode(body)
    except UnicodeDecodeError as error:
        raise NotJson("not UTF-8") from error
    except msgspec.DecodeError:
        return _decode_leniently(body)


def _integer(digits: str) -> float:
    """Return a whole number; one that Python will not convert is beyond every limit here."""
    return int(digits) if len(digits) <= MAX_INTEGER_DIGITS else Number(digits)


def _fraction(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else Number(text)


def _decode_leniently(body: bytes) -> Any:
    """Decode what the fast decoder refuses though it is JSON: lone surrogates, huge numbers."""
    try:
        return json.loads(
            body.decode(),
            parse_constant=no_constant,
            parse_int=_integer,
            parse_float=_fraction,
        )
    except ValueError as error:
        raise NotJson("not JSON") from error


def encode(value: object) -> bytes:
    """Return a value as JSON; a lone surrogate goes out as the escape that it came in as."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encode_leniently(value)


def _encode_leniently(value: object) -> bytes:
    """Encode, part by part, what the fast encoder refuses: it holds lone surrogates."""
    if isinstance(value, dict):
        members = (
            _encode_leniently(name) + b":" + _encode_leniently(member)
            for name, member in value.items()
        )
        return b"{" + b",".join(members) + b"}"
    if isinstance(value, list | tuple):
        return b"[" + b",".join(map(_encode_leniently, value)) + b"]"
    return json.dumps(value).encode("ascii") if isinstance(value, str) else _encoder.encode(value)
