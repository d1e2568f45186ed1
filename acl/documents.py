"""Documents as texts: written as YAML or JSON so that they are stable, read so that all counts.

Permissions as code (`acl.as_code`) and routes as code (`rpc.rtio.as_code`) are such documents. Of
one, nothing is overlooked: not a name that stands twice, nor what an entry has no field for.
"""

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
import yaml
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from devices.values.json_text import (
    MAX_DIGITS,
    TWICE,
    DuplicateNameError,
    LongNumberError,
    is_deeper,
    named_once,
)
from devices.values.text import MAX_QUOTED, storable

MAX_DEPTH = 10  # levels of lists and objects
MAX_ALIASED = 1_000_000  # values, and characters of texts, that all aliases stand for
MERGE = "tag:yaml.org,2002:merge"  # what YAML 1.1 calls the key `<<`

# What a database can store: no NUL, and no half of a surrogate pair.
Text = Annotated[str, msgspec.Meta(pattern="^[^\x00\ud800-\udfff]*$")]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An entry of a section; what is as usual is left out."""


# --- Writing --------------------------------------------------------------------------------


def represent_text(dumper: Any, text: str) -> Any:
    """Return the YAML node of a text: one with a NEL (U+0085) in double quotes, as an escape.

    PyYAML without libyaml writes that character as it is, and reads it as a space.
    """
    style = '"' if "\x85" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    pass


_Dumper.add_representer(str, represent_text)


def dump(document: dict[str, Any], *, as_json: bool = False) -> str:
    """Return the document as YAML or JSON text, ending in a line break."""
    if as_json:
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return yaml.dump(
        document,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=10_000,
    )


def digest_of(text: str) -> str:
    """Return the short name of one state of the registry, by its export."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def difference(before: str, after: str) -> list[str]:
    return list(
        difflib.unified_diff(
            before.splitlines(), after.splitlines(), "registry", "document", lineterm="", n=2
        )
    )


# --- Reading --------------------------------------------------------------------------------


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads moments as the text that they are, so that one parser judges them.

    A name that stands twice is refused: what the first one says would be lost, and be deleted.
    So is a merge key (`<<: *name`), by which an object takes over what another one says: YAML 1.2
    knows none, and an entry says itself all that it does.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = set()
        for key, _value in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.tag == MERGE:
                raise ValidationError(
                    _(
                        "Line %(line)d: merge keys (<<) are not read. Write out what the object "
                        "takes over from another one."
                    ),
                    code="merge",
                    params={"line": key.start_mark.line + 1},
                )
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in names:
                raise ValidationError(
                    _("Line %(line)d: “%(name)s” stands twice in one object."),
                    code="twice",
                    params={
                        "line": key.start_mark.line + 1,
                        "name": storable(key.value[:MAX_QUOTED]),
                    },
                )
            names.add(key.value)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Return a whole number; `1:1:…` is one, and takes the square of its length."""
        if len(node.value) > MAX_DIGITS:
            raise LongNumberError
        found: int = super().construct_yaml_int(node)
        return found


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_scalar)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
# What its constructors raise for texts such as `!!int ""` and `!!bool x`, beside YAMLError.
UNREADABLE = (yaml.YAMLError, ValueError, LookupError, OverflowError, RecursionError)


def load(text: str) -> Any:
    """Return the values of a YAML or JSON text, unchecked.

    YAML is parsed twice: what nests deeper than a document ever does would exhaust the stack of
    the parser that builds values.
    """
    twice = None
    try:
        return _load_json(text)
    except DuplicateNameError as error:
        twice = ValidationError(TWICE, code="twice", params={"name": error.name[:MAX_QUOTED]})
    except ValueError:
        pass  # what is wrong with JSON is told as of YAML, with its place
    try:
        _bound(yaml.parse(text, Loader=_Loader))
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader's child
    except UNREADABLE as error:
        raise twice or ValidationError(_("This is neither YAML nor JSON: %s") % error) from None


def _load_json(text: str) -> Any:
    """Return the values of a JSON text; raises ValueError.

    YAML takes most of JSON, but no pairs of escapes (emoji), no tabs between values and no control
    characters such as U+0085, which it reads as a line break.
    """
    if is_deeper(text.encode(errors="surrogatepass"), MAX_DEPTH):
        raise ValueError(_("it nests too deep"))
    return json.loads(text, object_pairs_hook=named_once)


def _bound(events: Iterable[yaml.Event]) -> None:
    """Refuse what nests too deep, or what aliases (`*name`) make far larger than it is written."""
    size = aliased = 0  # values and characters of texts, those that aliases stand for included
    begun: list[tuple[str | None, int]] = []  # what has not ended: its name, and the size before it
    sizes: dict[str | None, int] = {}
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            size += sizes.get(event.anchor, 0)
            aliased += sizes.get(event.anchor, 0)
        elif isinstance(event, yaml.NodeEvent):
            begun.append((event.anchor, size))
            size += 1 + len(getattr(event, "value", ""))
        if len(begun) > MAX_DEPTH + isinstance(event, yaml.ScalarEvent):
            raise ValueError(_("it nests too deep"))
        if aliased > MAX_ALIASED:
            raise ValueError(_("its aliases stand for too much: write it out"))
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionEndEvent):
            name, before = begun.pop()
            sizes[name] = size - before


# --- What is wrong with one -----------------------------------------------------------------


def complaint(error: Exception) -> tuple[str, str]:
    """Return where in a value msgspec found what is wrong, such as `.name`, and what it is."""
    text, _at, path = str(error).partition(" - at `$")
    if "matching regex" in text:
        text = _("this must not hold a NUL character or half a surrogate pair")
    return path.rstrip("`"), text


def twice(section: str, names: Iterable[str]) -> list[str]:
    """Return what is wrong with names of a section: those that are there more often than once."""
    return [
        _("%(section)s: “%(name)s” is there twice") % {"section": section, "name": name}
        for name, number in Counter(names).items()
        if number > 1
    ]
