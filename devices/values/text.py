"""Characters that a text must not hold: invisible ones, and those that no database stores.

Also texts that look alike (`variants`, which are found by equality in an index), and what stands in
a line of text: names with right-to-left letters (`isolated`; Unicode Standard Annex 9), counts that
may be cut (`count_text`).
"""

import re
import unicodedata
from collections.abc import Iterable

from django.core.exceptions import ValidationError
from django.utils.translation import gettext, gettext_lazy as _

MAX_TEXT_LENGTH = 131_072  # characters of what staff write, and of a cell that is imported
MAX_QUOTED = 60  # characters of what somebody wrote, in an error message
# Letters and emoji are made with these: after what is visible.
JOINERS = "\u200c\u200d\ufe0e\ufe0f"
# Printable to Python, yet nothing is seen of them (Default_Ignorable_Code_Point, blank Braille).
BLANK = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
    + "".join(map(chr, [*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]))
)
# Letters of other scripts that look like Latin ones in most fonts, and digits that do.
LOOKALIKES = str.maketrans(
    "аАеЕоОрРсСхХуУіІјЈѕЅԁһНВКМТꓲΑΒΕΖΗΙΚΜΝΟΡΤΥΧοανıℓ",  # noqa: RUF001
    "aAeEoOpPcCxXyYiIjJsSdhHBKMTIABEZHIKMNOPTYXoavil",
)
# Classes of characters by direction (Unicode Standard Annex 9).
CONTROLS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
# What a terminal obeys, or shows in another order; not ends of lines, nor what `isolated` writes.
OF_TERMINALS = re.compile("\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066\u2067]")
RIGHT_TO_LEFT = {"R", "AL", "AN"}
ISOLATE = "\u2068"  # begins what stands apart, whatever its direction
SCRIPTS = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE")  # whose letters look alike


def capitalized(text: str) -> str:
    """Return a text with its first letter as a capital, and the others as they are."""
    return text[:1].upper() + text[1:]


def joined(names: Iterable[object], most: int | None = None) -> str:
    """Return names with what the reader's language puts between them, and “…” beyond `most`."""
    texts = [str(name) for name in names]
    cut = texts if most is None or len(texts) <= most else [*texts[:most], "…"]
    return gettext(", ").join(cut)


def labelled(name: object, value: object) -> str:
    return gettext("%(name)s: %(value)s") % {"name": name, "value": value}


def number_of(n: object, what: object) -> str:
    """Return so many of something: Chinese has a word for units between the two."""
    return gettext("%(n)s %(what)s") % {"n": n, "what": what}


def is_blank(char: str) -> bool:
    """Whether nobody sees a character, or it only changes how others are shown."""
    return char in BLANK or not (char.isprintable() or char == " ")


def hidden_in(text: str) -> str | None:
    """Return the first character that a line of text must not hold; None where there is none."""
    if text.isascii() and text.isprintable():
        return None
    seen = False
    for char in text:
        if char in JOINERS:
            if not seen:
                return char
        elif is_blank(char) and not (char.isspace() and unicodedata.category(char) == "Zs"):
            return char
        seen = seen or not char.isspace()
    return None


def unstorable_in(text: str) -> str | None:
    """Return the first character that no database stores: NUL, or half of a surrogate pair."""
    if text.isascii() and "\x00" not in text:
        return None
    return next((char for char in text if char == "\x00" or "\ud800" <= char <= "\udfff"), None)


def storable(text: str) -> str:
    """Return a text as it can be kept and shown: U+FFFD stands for what no database stores."""
    if unstorable_in(text) is None:
        return text
    return "".join("\ufffd" if unstorable_in(char) else char for char in text)


def refusal(char: str) -> ValidationError:
    """Return what staff are told of such a character."""
    return ValidationError(
        _("It holds %(char)s, a character that nobody sees or that changes how others are shown."),
        code="hidden",
        params={"char": f"U+{ord(char):04X}"},
    )


def too_long(characters: int) -> ValidationError:
    """Return what staff are told of a text that an import of their files would refuse."""
    return ValidationError(
        _("It has %(n)d characters; at most %(most)d are kept."),
        code="max_length",
        params={"n": characters, "most": MAX_TEXT_LENGTH},
    )


def check_visible(text: str) -> None:
    """Raise ValidationError where a line of text holds what nobody sees."""
    if (char := hidden_in(text)) is not None:
        raise refusal(char)


def in_latin(text: str) -> str:
    """Return a text in lower case, with Latin letters for those of other scripts that look so."""
    return text.translate(LOOKALIKES).lower()


def skeleton(text: str) -> str:
    """Return a text without what is easily overlooked: accents, case, look-alikes of Latin."""
    apart = unicodedata.normalize("NFKD", text)
    plain = "".join(char for char in apart if not unicodedata.combining(char))
    return plain.translate(LOOKALIKES).casefold()


def variants(text: str) -> set[str]:
    """Return texts that look like this one: composed, decomposed, in Latin letters."""
    forms = {unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")}
    return {*forms, text.translate(LOOKALIKES), skeleton(text)} - {text}


def mixes_scripts(text: str) -> bool:
    """Whether letters of several scripts stand together that look alike."""
    if text.isascii():
        return False
    names = {unicodedata.name(char, "").partition(" ")[0] for char in text if char.isalpha()}
    return len(names.intersection(SCRIPTS)) > 1


def visible(name: object) -> str:
    """Return a name with what only controls the direction of text written out."""
    text = str(name)
    if text.isascii():
        return text
    return "".join(
        f"\\u{ord(char):04x}" if unicodedata.bidirectional(char) in CONTROLS else char
        for char in text
    )


def printable(text: str) -> str:
    """Return a text for a terminal; what would move or colour it is written out (CWE-150)."""
    return OF_TERMINALS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def isolated(name: object) -> str:
    """Return a name for a line of text; its right-to-left letters do not affect what is beside it.

    A name with letters from right to left stands between U+2068 and U+2069.
    """
    text = visible(name)
    if text.isascii() or not RIGHT_TO_LEFT & {unicodedata.bidirectional(char) for char in text}:
        return text
    return f"{ISOLATE}{text}\u2069"


def count_text(n: int, *, is_cut: bool) -> str:
    """Return a count; one that was ended there, since there are more, with a plus sign."""
    return f"{n:,}+" if is_cut else f"{n:,}"
