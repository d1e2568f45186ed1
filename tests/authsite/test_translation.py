"""Staff read the admin in their browser's language; machines, commands and logs know English only.

The catalogue is held against what the sources mark, without GNU gettext.
"""

import ast
import gettext
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from babel.messages.catalog import Catalog, TranslationError
from babel.messages.checkers import checkers
from babel.messages.pofile import read_po
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.template import Template
from django.template.base import DebugLexer, TokenType
from django.templatetags.i18n import BlockTranslateNode, TranslateNode
from django.test import Client
from django.utils import translation
from django.utils.functional import Promise

from authsite import third_party_strings
from devices.models import PreSharedKey
from tests.contract.test_cases import load_cases

pytestmark = pytest.mark.once(on="sqlite")

ROOT = Path(settings.BASE_DIR)
OURS = ("acl", "authsite", "devices", "rpc")
FOLDERS = [path for path in (ROOT / "locale").iterdir() if path.is_dir()]
CATALOGUES = [path for folder in FOLDERS for path in folder.glob("LC_MESSAGES/*.po")]
TEMPLATES = [
    *(ROOT / "templates").rglob("*.html"),
    *(path for app in OURS for path in (ROOT / app).glob("templates/**/*.html")),
]
ZH = {"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"}
HAN = re.compile(r"[\u4e00-\u9fff]")

SINGLE = {"_", "gettext", "gettext_lazy", "gettext_noop"}
COUNTED = {"ngettext", "ngettext_lazy"}


class Marked(NamedTuple):
    """A text that the sources mark for translation."""

    text: str
    plural: str = ""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def catalogue(path: Path) -> Catalog:
    with path.open("rb") as file:
        return read_po(file, locale=path.parent.parent.name)


def messages(path: Path) -> Iterator[Any]:
    return (message for message in catalogue(path) if message.id)


def marked_in_code(path: Path) -> Iterator[Marked]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        texts = [one.value for one in node.args if isinstance(one, ast.Constant)]
        if node.func.id in SINGLE and texts:
            yield Marked(str(texts[0]))
        elif node.func.id in COUNTED:
            yield Marked(str(texts[0]), str(texts[1]))


def marked_in_template(path: Path) -> Iterator[Marked]:
    nodes = Template(path.read_text(encoding="utf-8")).nodelist
    for node in nodes.get_nodes_by_type(TranslateNode):
        yield Marked(str(node.filter_expression.var.literal))  # type: ignore[attr-defined]
    for block in nodes.get_nodes_by_type(BlockTranslateNode):
        assert isinstance(block, BlockTranslateNode)
        texts = [block.render_token_list(one)[0] for one in (block.singular, block.plural) if one]
        if block.trimmed:
            texts = [translation.trim_whitespace(text) for text in texts]
        yield Marked(*texts)


def marked() -> set[Marked]:
    code = [
        path
        for app in OURS
        for path in (ROOT / app).rglob("*.py")
        if "migrations" not in path.parts
    ]
    return {
        *(one for path in code for one in marked_in_code(path)),
        *(one for path in TEMPLATES for one in marked_in_template(path)),
    }


# --- The catalogue --------------------------------------------------------------------------


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_everything_marked_is_in_the_catalogue_and_nothing_else(folder: Path) -> None:
    in_code = marked()
    assert len(in_code) > 900
    texts = {one.text for one in in_code if not one.plural}
    counted = {(one.text, one.plural) for one in in_code if one.plural}
    singles = texts - {single for single, _plural in counted}  # gettext keeps the two as one
    kept = {message.id for message in messages(folder / "LC_MESSAGES" / "django.po")}
    assert kept == singles | counted, "run `make messages`, then translate what is new"


@pytest.mark.parametrize("path", CATALOGUES, ids=name_of)
def test_each_text_is_translated_with_its_placeholders(path: Path) -> None:
    whole = catalogue(path)
    wrong = []
    for message in messages(path):
        forms = message.string if isinstance(message.string, tuple) else (message.string,)
        if message.fuzzy or not all(forms):
            wrong.append(f"not translated: {message.id}")
        if isinstance(message.id, tuple) and len(forms) != whole.num_plurals:
            wrong.append(f"needs {whole.num_plurals} forms: {message.id}")
        for check in checkers:
            try:
                check(whole, message)
            except TranslationError as error:
                wrong.append(f"{error}: {message.id}")
        original = message.id[-1] if isinstance(message.id, tuple) else message.id
        wrong += [
            f"placeholders or tags differ: {original} / {form}"
            for form in forms
            if held(form) != held(original)
        ]
    assert wrong == []


def held(text: str) -> list[str]:
    """Return what a translation must keep: placeholders, tags, and what stands in code."""
    return sorted(re.findall(r"%\(\w+\)[sd]|%[sd]|\{\w*\}|</?\w+[^>]*>|`[^`]+`|\n", text))


@pytest.mark.parametrize("path", CATALOGUES, ids=name_of)
def test_the_compiled_file_is_what_the_catalogue_says(path: Path) -> None:
    with path.with_suffix(".mo").open("rb") as file:
        compiled: dict[Any, str] = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    said: dict[Any, str] = {}
    for message in messages(path):
        within = f"{message.context}\x04" if message.context else ""
        if isinstance(message.id, tuple):
            key = within + message.id[0]
            said |= {(key, number): form for number, form in enumerate(message.string)}
        else:
            said[within + message.id] = str(message.string)
    assert {key: text for key, text in compiled.items() if key} == said


def test_what_is_borrowed_from_others_they_still_have_and_do_not_translate() -> None:
    sources = {
        "DJANGO": "django",
        "AXES": "axes",
        "WEBAUTHN": "django_otp_webauthn",
    }
    for name, package in sources.items():
        folder = Path(__import__(package).__file__ or "").parent
        source = "".join(
            path.read_text(encoding="utf-8")
            for pattern in ("**/*.py", "**/templates/**/*.html")
            for path in folder.glob(pattern)
        )
        source = re.sub(r'"\s*\n\s*"', "", source)
        for text in getattr(third_party_strings, name):
            if isinstance(text, str):
                assert text in source, text


def test_scripts_of_others_still_say_what_is_kept_for_them() -> None:
    for path in CATALOGUES:
        if path.stem != "djangojs":
            continue
        for message in messages(path):
            (package, _line) = message.locations[0]
            folder = Path(apps.get_app_config(package.rpartition(".")[2]).path)
            source = "".join(
                script.read_text(encoding="utf-8") for script in folder.glob("static/**/*.js")
            )
            assert message.id in source.replace('\\"', '"').replace("\\'", "'"), message.id


# --- What is marked -------------------------------------------------------------------------

SHOWN = {"aria-label", "placeholder", "title", "alt"}
SAID_ALIKE = {"Authsite", "HTTP", "POST", "UTC"}  # names, in every language


class Words(HTMLParser):
    """Collects the words that a page shows, without what stands in code."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.within: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.found += [value or "" for name, value in attrs if name in SHOWN]
        if tag == "input" and named.get("type") in {"submit", "button"}:
            self.found.append(named.get("value") or "")
        if tag in {"code", "script", "style"}:
            self.within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.within and self.within[-1] == tag:
            self.within.pop()

    def handle_data(self, data: str) -> None:
        if not self.within:
            self.found.append(data)


def unmarked(source: str) -> list[str]:
    """Return the words of a template that nothing translates."""
    kept, skipping = [], ""
    for token in DebugLexer(source).tokenize():
        first = token.contents.split()[0] if token.contents.split() else ""
        if token.token_type is TokenType.BLOCK:
            if skipping:
                skipping = "" if first == f"end{skipping}" else skipping
            elif first in {"blocktranslate", "comment"}:
                skipping = first
            elif token.contents in {"block coltype", "block bodyclass"}:
                skipping = "block"
        elif token.token_type is TokenType.TEXT and not skipping:
            kept.append(token.contents)
    words = Words()
    words.feed("".join(kept))
    words.close()
    found = (re.findall(r"[^\W\d_]{2,}", text) for text in words.found)
    return [word for some in found for word in some if word not in SAID_ALIKE]


@pytest.mark.parametrize("path", TEMPLATES, ids=name_of)
def test_templates_show_no_text_that_is_not_marked(path: Path) -> None:
    assert unmarked(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("<p>Plain</p>", ["Plain"]),
        ('<a title="Said">{% translate "Right" %}</a>', ["Said"]),
        ('<input type="submit" value="Go">', ["Go"]),
        ("{% blocktranslate %}Right{% endblocktranslate %} <b>Wrong</b>", ["Wrong"]),
        ("{% comment %}A note{% endcomment %}<code>manage.py</code> {{ value }} →", []),
    ],
)
def test_text_that_is_not_marked_is_noticed(source: str, words: list[str]) -> None:
    assert unmarked(source) == words


def test_models_name_themselves_and_their_fields_translatably() -> None:
    plain = []
    for app in OURS:
        for model in apps.get_app_config(app).get_models():
            meta = model._meta
            unseen = not meta.default_permissions and not admin.site.is_registered(model)
            if hasattr(model, "history_type") or meta.auto_created or unseen:
                continue
            said: dict[str, object] = {"": meta.verbose_name, "s": meta.verbose_name_plural}
            for field in meta.concrete_fields:
                if field.editable and not field.primary_key:
                    said[field.name] = field.verbose_name
                    said |= {f"{field.name}?": field.help_text} if field.help_text else {}
                    said |= {f"{field.name}={value}": label for value, label in field.flatchoices}
            plain += [
                f"{meta.label} {name}" for name, text in said.items() if not translatable(text)
            ]
    assert plain == []


def translatable(text: object) -> bool:
    """Whether a text that is made once, as the process starts, is in each reader's language."""
    return isinstance(text, Promise)


# --- Who reads what -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh-hans"),
        ("zh-Hans", "zh-hans"),
        ("zh-SG", "zh-hans"),
        ("en-GB,en", "en"),
        ("de-DE,de", "en"),
        ("", "en"),
    ],
)
@pytest.mark.django_db
def test_the_browser_chooses_the_language(client: Client, asked: str, given: str) -> None:
    answer = client.get("/admin/login/", headers={"Accept-Language": asked})
    page = answer.content.decode()
    assert f'<html lang="{given}"' in page
    assert answer.headers["Content-Language"] == given
    assert "Accept-Language" in answer.headers["Vary"]
    assert ("登录" in page) == (given == "zh-hans")


def test_errors_are_told_in_the_browsers_language_too(admin_client: Client) -> None:
    missing = admin_client.get("/admin/nowhere/", headers=ZH)
    assert missing.status_code == 404
    assert "此页面不存在" in missing.content.decode()


@pytest.mark.django_db
def test_machines_are_answered_alike_after_a_browser_in_chinese(make_device: Any) -> None:
    make_device("//api.cesanta.com/device_123")
    device = make_device("cfa09baa-4913-4ad7-a936-2e26f9671b05")
    PreSharedKey.objects.register(device=device, secret="mb6bgso4EChvyzA05thF9+wH")
    asked = [
        case["request"]
        for name in ("rtio_cases.jsonl", "cesanta_cases.jsonl")
        for case in load_cases(name)
    ]
    machine = Client(REMOTE_ADDR="127.0.0.1")

    def ask() -> list[tuple[int, bytes]]:
        answers = []
        for request in asked:
            answer = machine.generic(
                request["method"],
                request["path"],
                request.get("body", ""),
                content_type="application/json",
                headers=request.get("headers", {}),
            )
            answers.append((answer.status_code, answer.content))
        return answers

    before = ask()
    Client().get("/admin/login/", headers=ZH)
    assert translation.get_language() == "zh-hans"  # what the thread is left with
    assert ask() == before
    definitions = machine.post("/v1/Services.Get", "{}", content_type="application/json")
    assert not HAN.search(definitions.content.decode())


@pytest.mark.django_db
def test_the_document_for_programs_is_in_english_and_its_page_is_not(client: Client) -> None:
    assert HAN.search(client.get("/api/", headers=ZH).content.decode())
    assert not HAN.search(client.get("/api/openapi.json", headers=ZH).content.decode())


def test_commands_print_english_wherever_they_run() -> None:
    environment = {**os.environ, "LANG": "zh_CN.UTF-8", "LC_ALL": "zh_CN.UTF-8", "LANGUAGE": "zh"}
    command = [sys.executable, "manage.py", "expiring", "--help"]
    told = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    assert told.stdout
    assert not HAN.search(told.stdout.decode())
