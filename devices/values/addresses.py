"""Addresses of the Cesanta protocol and the IDs within them.

`address = ID ["." component]`, `ID = "//" host "/" path`. The component is what follows the only
unescaped dot of the last path segment; it is split off first, then the ID is percent-decoded.
Short ids, which do not start with `//`, are taken literally. The registry stores IDs.
"""

from urllib.parse import unquote_to_bytes

from django.utils.translation import gettext_lazy as _

MAX_LENGTH = 255


class AddressError(ValueError):
    """The text is no address: nothing can be registered under it, so nothing matches it."""


def split(address: str) -> tuple[str, str | None]:
    """Return the ID that an address names, decoded, and its component where it has one.

    Raises AddressError where the dot is not the only one or an escape is not UTF-8.
    """
    if not address.startswith("//"):
        return address, None
    host, slash, path = address[2:].partition("/")
    parent, last_slash, segment = path.rpartition("/")
    name, *components = segment.split(".")
    if len(components) > 1:
        raise AddressError(
            _(
                "an address has one dot in its last segment, before the component; "
                "write a dot that belongs to the ID as %2E"
            )
        )
    identifier = f"//{host}{slash}{parent}{last_slash}{name}"
    if "%" in identifier:
        try:
            identifier = unquote_to_bytes(identifier).decode()
        except UnicodeDecodeError:
            raise AddressError(_("an escape in the address is not UTF-8")) from None
    return identifier, components[0] if components else None


def written(identifier: str) -> str:
    """Return the address that names an ID, so that `split` gives the ID back."""
    if not identifier.startswith("//"):
        return identifier
    host, slash, path = identifier[2:].replace("%", "%25").partition("/")
    parent, last_slash, segment = path.rpartition("/")
    return f"//{host}{slash}{parent}{last_slash}{segment.replace('.', '%2E')}"


def entity_id(address: str) -> str:
    """Return the ID that an address names; raises AddressError like `split`."""
    return split(address)[0]


def is_storable(text: str) -> bool:
    """Whether a database can hold the text at all: no NUL, no lone surrogate, not too long.

    What is not storable is not registered, and is never sent to the database to find out.
    """
    if len(text) > MAX_LENGTH or "\x00" in text:
        return False
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)
