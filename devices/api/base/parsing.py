"""Bodies of requests: JSON in UTF-8, bounded in length and depth, each name once."""

import json
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import IO, Any

from django.utils.translation import gettext as _
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from devices.api.base.problems import Problem
from devices.values.json_text import (
    TWICE,
    DuplicateNameError,
    LongNumberError,
    is_deeper,
    named_once,
    no_constant,
    whole_number,
)
from devices.values.text import unstorable_in

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 40  # of arrays and objects; attributes may have 32 of them
MAX_FAULT = 100  # characters of a fault that are quoted
UNSTORABLE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")  # may be written so


class BytesParser(BaseParser):
    """Takes a body as it is, of at most `max_body` bytes of its view: such as a file to import."""

    media_type = "*/*"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        view = (parser_context or {}).get("view")
        return self.read(stream, getattr(view, "max_body", MAX_BYTES))

    @staticmethod
    def read(stream: IO[Any], most: int) -> bytes:
        """Return the body; raises Problem (413) for one of more bytes."""
        body: bytes = stream.read(most + 1)
        if len(body) > most:
            text = _("The body is longer than %(most)d bytes.") % {"most": most}
            raise Problem(text, "too-large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return body


class JsonParser(BytesParser):
    """Reads a body of at most MAX_BYTES as JSON, whatever files its view takes."""

    media_type = "application/json"

    def parse(self, stream: IO[Any], *_context: Any, **_named: Any) -> Any:
        return decoded(self.read(stream, MAX_BYTES))


def decoded(body: bytes) -> Any:
    """Return the value of a JSON text; raises ParseError for what is none, or is ambiguous."""
    if is_deeper(body, MAX_DEPTH):
        raise ParseError(_("The body nests more than %(most)d levels deep.") % {"most": MAX_DEPTH})
    try:
        value = json.loads(
            body.decode(),
            object_pairs_hook=named_once,
            parse_constant=no_constant,
            parse_int=whole_number,
        )
    except DuplicateNameError as error:
        raise ParseError(str(TWICE) % {"name": error.name[:MAX_FAULT]}) from None
    except LongNumberError as error:
        raise ParseError(str(error)) from None
    except ValueError as error:  # UnicodeDecodeError, too
        raise ParseError(
            _("The body is not JSON: %(why)s") % {"why": str(error)[:MAX_FAULT]}
        ) from None
    if UNSTORABLE.search(body):
        _check_storable(value)
    return value


def _check_storable(value: Any) -> None:
    """Refuse NUL and halves of surrogate pairs, wherever they stand."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        inner: Iterable[Any] = ()
        if isinstance(one, dict):
            inner = (*one.keys(), *one.values())
        elif isinstance(one, list):
            inner = one
        elif isinstance(one, str) and unstorable_in(one) is not None:
            raise ParseError(_("The body holds NUL, or half of a surrogate pair."))
        waiting.extend(inner)
