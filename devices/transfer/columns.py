"""What the columns of a table mean, and what its cells may say."""

import json
import re
from collections.abc import Callable, Container, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from devices.models import Device
from devices.values import addresses, attributes
from devices.values.moments import parse_moment
from devices.values.text import MAX_QUOTED

MAX_NAME_LENGTH = 100  # of a group
DEVICE_COLUMNS = (
    *("identifier", "kind", "name", "groups", "enabled", "secret", "description", "attributes"),
    *("secret_until", "certificate", "created", "last_seen", "live_keys", "live_certificates"),
)
FIELDS = ("kind", "name", "description", "enabled", "attributes")  # of a device
GROUP_COLUMNS = ("group", "parent", "description")
# What spreadsheets in their users' languages write for truth values, and what people do.
YES = (
    "true", "wahr", "vrai", "verdadero", "verdadeiro", "vero", "waar", "sand", "sant",
    "sann", "tosi", "prawda", "pravda", "igaz", "doğru", "истина", "yes", "on", "1", "ja",
    "oui", "sí", "sim", "да", "是", "真", "对",
)  # fmt: skip
NO = (
    "false", "falsch", "faux", "falso", "onwaar", "falsk", "falskt", "usann", "epätosi",
    "fałsz", "nepravda", "hamis", "yanlış", "yanliş", "ложь", "no", "off", "0", "nein",  # noqa: RUF001
    "non", "não", "нет", "否", "假", "错",
)  # fmt: skip
TRUTHS = {**dict.fromkeys(YES, True), **dict.fromkeys(NO, False)}
# What a spreadsheet shows where something else was entered: a rounded or a long number, a date, a
# truth value in its own language, an error, a column that is too narrow.
DAMAGED = re.compile(
    r"\d+[.,]0+|\d+([.,]\d+)?E[+-]\d+|\d+[.,]\d+E\d+|\d{15}0{2,}"
    r"|\d{1,4}([./-])\d{1,2}\2\d{1,4}( \d{1,2}:\d\d(:\d\d)?)?|\d{1,2}-[^\W\d]{3}(-\d\d)?"
    r"|#+|#(NULL!|DIV/0!|VALUE!|REF!|NAME\?|NUM!|N/A|WERT!|BEZUG!|NV)",
    re.IGNORECASE,
)
WORDS = frozenset(word for word in TRUTHS if len(word) > 3 and word.isalpha())  # noqa: PLR2004
SECRET_COLUMNS = frozenset({"secret", "certificate"})


def is_damaged(identifier: str) -> bool:
    """Whether a spreadsheet may have made an identifier of another one."""
    return bool(DAMAGED.fullmatch(identifier)) or identifier.lower() in WORDS


def quoted(column: str, value: object) -> str:
    """Return a value as error messages quote it; nothing of what may be secret."""
    if column in SECRET_COLUMNS or value is None or value == "":
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    cut = text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…"
    return _(" It says “%(value)s”.") % {"value": cut}


def is_about_group(names: Container[str]) -> bool:
    """Whether rows with these columns are groups: beside `identifier`, `group` means `groups`."""
    return "group" in names and "identifier" not in names


def columns_of(header: Container[str]) -> Sequence[str]:
    """Return the columns of groups or of devices, as a header tells; the one needed is first."""
    return GROUP_COLUMNS if is_about_group(header) else DEVICE_COLUMNS


# --- What cells mean ------------------------------------------------------------------------


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(_("This must be a text."))  # noqa: TRY004 - reported like any other
    return value


def _word(value: object) -> str:
    return _text(value).strip()


def _kind(value: object) -> str:
    kind = _word(value).lower()
    if kind not in Device.Kind.values:
        raise ValueError(_("Write “device” or “backend”."))
    return kind


def _enabled(value: object) -> bool:
    truth = value if isinstance(value, bool) else TRUTHS.get(str(value).strip().lower())
    if truth is None:
        raise ValueError(_("Write “true” or “false”."))
    return truth


SEPARATED = re.compile(r"((?:[^|\\]|\\.|\\\Z)*)(?:\||\Z)", re.DOTALL)


def group_names(text: str) -> list[str]:
    r"""Return the names in a cell, separated by `|`; a `\|` belongs to a name."""
    if "\\" not in text:
        return [name.strip() for name in text.split("|")]
    cells = [match[1] for match in SEPARATED.finditer(text) if match.start() < len(text)]
    return [_unescaped(cell) for cell in cells]


def _unescaped(cell: str) -> str:
    # A space that is escaped belongs to the name: strip what is not, then take escapes away.
    cell = cell.lstrip()
    bare = cell.rstrip()
    escapes = len(bare) - len(bare.rstrip("\\"))
    cell = cell[: len(bare) + escapes % 2]
    return re.sub(r"\\(.)", r"\1", cell, flags=re.DOTALL)


def group_cell(names: Iterable[str]) -> str:
    """Return the cell in which `group_names` finds these names."""
    return "|".join(re.sub(r"[\\|]|^\s|\s$", r"\\\g<0>", name) for name in names)


def _groups(value: object) -> frozenset[str]:
    names = group_names(value) if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(_("Write the names of groups."))
    if not all(addresses.is_storable(name) and len(name) <= MAX_NAME_LENGTH for name in names):
        raise ValueError(_("The name of a group has 1 to 100 characters."))
    return frozenset(names) - {""}


def _attributes(value: object) -> dict[str, Any]:
    try:
        return attributes.parse(value) if isinstance(value, str) else attributes.check(value)
    except ValidationError as error:
        raise ValueError(" ".join(error.messages)) from None


def _moment(value: object) -> datetime:
    found = parse_moment(_word(value), zone=UTC)
    if found is None:
        raise ValueError(_("Write a time such as 2027-01-31 or 2027-01-31T12:00Z."))
    return found


READERS: dict[str, Callable[[object], Any]] = {
    "identifier": _word,
    "kind": _kind,
    "name": _text,
    "description": _text,
    "groups": _groups,
    "enabled": _enabled,
    "attributes": _attributes,
    "secret": _text,
    "secret_until": _moment,
    "certificate": _text,
    "group": _text,
    "parent": _text,
}
# What an empty cell sets. In other columns it leaves the value alone.
EMPTY: dict[str, Any] = {"name": "", "description": "", "groups": frozenset(), "attributes": {}}
