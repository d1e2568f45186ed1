"""The project's settings in a language whose texts are 40 % longer, as German ones are.

Django's own texts are its German ones. `write_catalog` makes ours from the texts that are marked;
`LENGTHENED` names the folder that it wrote to.
"""

import os
import re
from math import ceil
from pathlib import Path
from typing import Any

from babel.messages import mofile, pofile
from babel.messages.catalog import Catalog

from authsite.settings import *  # noqa: F403

LANGUAGE_CODE = "de"
LANGUAGES = [("de", "Deutsch")]
LOCALE_PATHS = [Path(os.environ.get("LENGTHENED", ""))]

MARKED = Path(__file__).resolve().parents[2] / "locale/zh_Hans/LC_MESSAGES"
# What is filled in, and marks: these stay as they are.
KEPT = re.compile(r"(%\(\w+\)[a-z]|%[a-z%]|\{\w*\}|<[^>]+>|&\w+;)")
WORD = re.compile(r"[^\W\d_]{2,}")


def lengthened(text: Any) -> str:
    """Return a text each of whose words is 40 % longer."""
    parts = KEPT.split(text)
    parts[::2] = [
        WORD.sub(lambda word: word[0] + word[0][-ceil(0.4 * len(word[0])) :], part)
        for part in parts[::2]
    ]
    return "".join(parts)


def write_catalog(folder: Path) -> None:
    """Write the longer texts of pages and scripts, for gettext."""
    target = folder / "de" / "LC_MESSAGES"
    target.mkdir(parents=True)
    for name in ("django", "djangojs"):
        longer = Catalog(locale="de")
        with (MARKED / f"{name}.po").open("rb") as file:
            for message in pofile.read_po(file):
                if not message.id:
                    continue
                forms = message.id if isinstance(message.id, tuple) else (message.id,)
                text = tuple(map(lengthened, forms))
                longer.add(
                    message.id,
                    text if len(forms) > 1 else text[0],
                    context=message.context,
                )
        with (target / f"{name}.mo").open("wb") as file:
            mofile.write_mo(file, longer)
