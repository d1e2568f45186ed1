"""The text of a token of the API: `authsite_IDENTIFIER_SECRET`, with a checksum at its end.

A secret scanner finds one by `TOKEN`; a mistyped or shortened one is refused without a look-up.
The secret has 32 characters of 62, which are 190 random bits; the checksum is a CRC-32 of what
stands before it, in 6 characters.
"""

import re
import secrets
import string
import zlib

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
IDENTIFIER_LENGTH, SECRET_LENGTH, CHECKSUM_LENGTH = 10, 32, 6
TOKEN = re.compile(
    rf"authsite_([0-9A-Za-z]{{{IDENTIFIER_LENGTH}}})_"
    rf"[0-9A-Za-z]{{{SECRET_LENGTH + CHECKSUM_LENGTH}}}",
    re.ASCII,
)
# What could be a part of one, in a text that is logged.
LIKE_A_TOKEN = re.compile(rf"(authsite_[0-9A-Za-z]{{{IDENTIFIER_LENGTH}}}_)[0-9A-Za-z]+", re.ASCII)


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def generate() -> tuple[str, str]:
    """Return the public identifier of a new token, and its whole text, which is the secret."""
    identifier = _random(IDENTIFIER_LENGTH)
    body = f"authsite_{identifier}_{_random(SECRET_LENGTH)}"
    return identifier, body + checksum(body)


def checksum(body: str) -> str:
    """Return the CRC-32 of a text in 6 characters of ALPHABET."""
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


def identifier_of(text: str) -> str | None:
    """Return the identifier in the text of a token; None where it cannot be one."""
    match = TOKEN.fullmatch(text)
    body, end = text[:-CHECKSUM_LENGTH], text[-CHECKSUM_LENGTH:]
    return match[1] if match is not None and checksum(body) == end else None


def redacted(text: str) -> str:
    """Return a text with the secret of each token in it replaced by an ellipsis."""
    return LIKE_A_TOKEN.sub(r"\1…", text) if "authsite_" in text else text
