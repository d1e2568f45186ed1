"""The examples of documents, run as they stand against a real server; what documents name."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from django.conf import settings
from django.core.management import BaseCommand, get_commands, load_command_class
from django.urls import resolve

from authsite import roles
from authsite.accounts.sign_on import refusals
from authsite.admin.handbook import slug
from devices.events.kinds import Kind
from devices.transfer.columns import DEVICE_COLUMNS, GROUP_COLUMNS
from devices.verdicts import Outcome
from rpc.models import CallReason, Endpoint, reasons
from tests.support.servers import Server

pytestmark = pytest.mark.once(on="sqlite")

PAGE = (settings.BASE_DIR / "docs" / "protocols.md").read_text()
WRITTEN = "http://localhost:17217"
EXAMPLE = re.compile(r"```(sh|python)\n(.*?)```\n+```json\n(.*?)```", re.DOTALL)
ENDPOINTS = {"/deviceverifier", "/", "/rpc", "/v1/"}


class Example(NamedTuple):
    """A documented program and what it prints."""

    language: str
    text: str
    printed: str


EXAMPLES = [Example(*found) for found in EXAMPLE.findall(PAGE)]


def path_of(example: Example) -> str:
    """Return the endpoint that an example asks."""
    if example.language == "python":
        (path,) = set(re.findall(r'post\(\s*"(/[a-z]+)"', example.text)) or {""}
    else:
        path = ""
    _, _, after = example.text.partition(WRITTEN)
    path = path or re.split(r"[\s'\"?]", after)[0] or "/v1/"
    return "/v1/" if path.startswith("/v1/") else path


def test_each_endpoint_has_an_example_of_each_sort_and_none_is_without_its_output() -> None:
    for language in ("sh", "python"):
        asked = {path_of(example) for example in EXAMPLES if example.language == language}
        assert asked == ENDPOINTS
    assert len(EXAMPLES) == PAGE.count("```sh\n") + PAGE.count("```python\n")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: f"{one.language} {path_of(one)}")
def test_it_prints_what_the_page_says(example: Example, server: Server) -> None:
    program = example.text.replace(WRITTEN, server.url)
    assert server.url in program
    if example.language == "python":
        command = [sys.executable, "-c", program]
    elif shutil.which("curl"):
        command = ["sh", "-c", program.replace("curl ", "curl --silent --show-error ", 1)]
    else:
        pytest.skip("there is no curl on this machine")
    environment = server.environment | {"CLOUD_SECRET": "cloud-backend-key-0123456789"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(example.printed)


def test_no_example_is_longer_than_a_glance() -> None:
    for example in EXAMPLES:
        lines = [line for line in example.text.splitlines() if line.strip()]
        assert len(lines) <= 22, path_of(example)


PAGES = [settings.BASE_DIR / "README.md", *sorted((settings.BASE_DIR / "docs").glob("*.md"))]
needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl here")
UNKNOWN = re.compile(r"^ *(?:manage\.py|python)\b|[( ]python (?:manage|examples)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_has_typed_is_found_by_a_shell(page: Path) -> None:
    text = page.read_text()
    typed = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines()
    assert not [line for line in typed if UNKNOWN.search(line)]
    assert "alias manage=" in text or not [line for line in typed if line.startswith("manage ")]


@needs_curl
def test_the_first_call_of_the_api_is_answered(server: Server) -> None:
    page = (settings.BASE_DIR / "docs" / "api.md").read_text()
    (program, *_others) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    program = program.replace(WRITTEN, server.url).replace(
        ".venv/bin/python", shlex.quote(sys.executable)
    )
    assert server.url in program
    done = subprocess.run(
        ["sh", "-c", program],
        cwd=settings.BASE_DIR,
        env=server.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = re.search(r'"results": (\[.*?\])', page)
    assert printed
    assert json.loads(done.stdout)["results"] == json.loads(printed[1])


README = re.findall(r"^\$ (curl .*)\n(.*)", PAGES[0].read_text(), re.MULTILINE)


@needs_curl
@pytest.mark.parametrize(("program", "printed"), README)
def test_the_first_page_is_true(program: str, printed: str, server: Server) -> None:
    command = program.replace(WRITTEN, server.url).replace("curl ", "curl --silent ", 1)
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=True, timeout=30)
    assert done.stdout.decode() == printed


# --- What pages name ----------------------------------------------------------------------------

TEXTS = {page: page.read_text() for page in [*PAGES, settings.BASE_DIR / "deploy" / "README.md"]}
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)#?([^)\s]*)\)")
LOOSE_ROW = re.compile(r"\n\n\|.*\n(?!\|[-: |]+\n)")  # of a table that something interrupts
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")
SHELL = re.compile(r"```(?:sh)?\n(.*?)```", re.DOTALL)
CALL = re.compile(
    r"^(?:\$ )?(?:export )?(?:\w+=\$?\(?\S+ )*(?:\.venv/bin/python )?(?:manage\.py|manage) "
)
PLACE = re.compile(
    r"(?:authsite|devices|acl|rpc|tests|benchmarks|drills|deploy|docs|examples|locale|templates)"
    r"/[\w./-]*(?:/|\.\w+)"
)
SETTING = re.compile(r"(?:^|`) *(?:export )?([A-Z][A-Z_]+)=", re.MULTILINE)
OTHERS = {  # of make, Django, tests and examples; and a form of a value
    *("PYTHON", "UPGRADE", "FULL", "FUZZ", "RTIO_SERVER", "DJANGO_SETTINGS_MODULE"),
    *("CLOUD_SECRET", "AUTHSITE_URL", "AUTHSITE_TOKEN", "REGISTRY", "CALLER", "VALUE"),
}
COMMANDS = get_commands()


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    return {slug(heading) for heading in HEADING.findall(FENCE.sub("", TEXTS[page]))}


def calls(text: str) -> list[list[str]]:
    """Return the words of each call of a command that a page has: in a block, or in a sentence."""
    lines = "".join(SHELL.findall(text)).replace("\\\n", "").splitlines()
    lines += CODE.findall(FENCE.sub("", text))
    typed = [CALL.sub("", line.partition(" #")[0]) for line in lines if CALL.match(line)]
    named = [line for line in lines if line.split(" ")[0] in COMMANDS]
    return [words.split() for words in [*typed, *named] if not words.startswith("COMMAND ")]


def options(name: str) -> set[str]:
    """Return the options of a management command."""
    app = COMMANDS[name]
    command = app if isinstance(app, BaseCommand) else load_command_class(app, name)
    return set(re.findall(r"--[\w-]+", command.create_parser("manage.py", name).format_help()))


OTHER_PAGES = {  # of which the links alone are about what is there now
    page: page.read_text()
    for page in (
        settings.BASE_DIR / "CHANGELOG.md",
        settings.BASE_DIR / "docs" / "screenshots" / "README.md",
    )
}


@pytest.mark.parametrize(
    "page", [*TEXTS, *OTHER_PAGES], ids=lambda page: f"{page.parent.name}/{page.name}"
)
def test_links_lead_to_pages_and_headings_that_are_there(page: Path) -> None:
    links = LINK.findall(FENCE.sub("", {**TEXTS, **OTHER_PAGES}[page]))
    for target, anchor in links:
        place = (page.parent / target).resolve() if target else page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), f"{target}#{anchor}"


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_what_a_page_names_is_there(page: Path) -> None:
    text = TEXTS[page]
    for name in CODE.findall(text):
        if PLACE.fullmatch(name) and "/xx/" not in name:  # a language that is to be added
            assert (settings.BASE_DIR / name).exists(), name
    for command, *words in calls(text):
        assert command in COMMANDS, command
        for word in words:
            option = word.strip("[])").partition("=")[0]
            assert not option.startswith("--") or option in options(command) | {"--help"}, words
    assert not LOOSE_ROW.search(FENCE.sub("", text))
    sample = (settings.BASE_DIR / ".env.example").read_text()
    known = set(re.findall(r"^#?([A-Z_]+)=", sample, re.MULTILINE))
    given = {name.removesuffix("_FILE") for name in SETTING.findall(text)}
    assert not given - known - OTHERS


OURS = sorted(
    name for name, app in COMMANDS.items() if app in {"authsite", "devices", "acl", "rpc"}
)


def test_each_command_is_on_the_page_of_commands() -> None:
    page = TEXTS[settings.BASE_DIR / "docs" / "commands.md"]
    assert not set(OURS) - set(CODE.findall(page))


DOCS = settings.BASE_DIR / "docs"
ROW = re.compile(r"^\| (`.*?) \|", re.MULTILINE)  # its first cell, where that is code


def first_cells(text: str) -> list[str]:
    """Return the code in the first cells of tables."""
    return CODE.findall("\n".join(ROW.findall(text)))


def test_each_kind_of_event_is_on_the_page_of_events_and_no_other() -> None:
    named: set[str] = set()
    noun = ""
    text = TEXTS[DOCS / "events.md"].partition("| kinds |")[2]
    for name in first_cells(text.partition("## ")[0]):
        noun = name.partition(".")[0] or noun  # `.changed` goes on with the one before
        kinds = {kind for kind in Kind.values if kind.startswith(f"{noun}.")}
        found = kinds if name.endswith(".*") else kinds & {f"{noun}.{name.partition('.')[2]}"}
        assert found, name
        named |= found
    assert named == set(Kind.values)


def test_reasons_are_explained_and_are_none_that_nobody_sees() -> None:
    journal = set(first_cells(TEXTS[DOCS / "journal.md"]))
    assert not journal - reasons().keys()
    assert not set(CallReason.values) - {CallReason.ANSWERED} - journal
    assert all(str(label) in TEXTS[DOCS / "journal.md"] for label in Endpoint.labels)
    outcomes = first_cells(TEXTS[DOCS / "certificates.md"].partition("## Reasons")[2])
    assert not set(outcomes) - set(Outcome.values)
    said = TEXTS[DOCS / "sign-on.md"].partition("## When it does not work")[2]
    refused = {name.partition(":")[0] for name in first_cells(said)}
    assert not {reason.name.lower() for reason in refusals.Reason} - refused


def test_columns_of_files_are_on_the_page_of_files() -> None:
    text = TEXTS[DOCS / "transfer.md"]
    columns = text.partition("## Columns")[2].partition("A group in another group")[0]
    assert set(first_cells(columns)) == set(DEVICE_COLUMNS)
    assert f"`{','.join(GROUP_COLUMNS)}`" in text


def test_addresses_of_the_api_are_there() -> None:
    listed = re.findall(r"`((?:[a-z-]+/)+[a-z-]+)`", TEXTS[DOCS / "api.md"])
    assert len(listed) > 5
    for address in listed:
        resolve(f"/api/v1/{address}")  # raises where there is none


def test_metrics_of_pages_are_counted() -> None:
    source = (settings.BASE_DIR / "authsite" / "operations" / "metrics.py").read_text()
    named = set(re.findall(r"`(authsite_[a-z_]+)[`{]", "\n".join(TEXTS.values())))
    assert len(named) > 5
    assert not named - set(re.findall(r'"(authsite_\w+)"', source))


def test_programs_and_targets_of_pages_are_there() -> None:
    text = "\n".join(TEXTS.values())
    for name in set(re.findall(r"python -m ((?:authsite|benchmarks|drills|tests)[\w.]*)", text)):
        place = settings.BASE_DIR / name.replace(".", "/")
        assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), name
    targets = re.findall(r"^([a-z-]+):", (settings.BASE_DIR / "Makefile").read_text(), re.MULTILINE)
    blocks = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    typed = re.findall(r"^make ([^#\n]*)", blocks, re.MULTILINE)
    typed += re.findall(r"`make ([^`\n]*)`", text)
    made = {word for words in typed for word in words.split() if "=" not in word}
    assert len(made) > 5
    assert not made - set(targets)


CATALOGUE = settings.BASE_DIR / "locale" / "zh_Hans" / "LC_MESSAGES" / "django.po"
LABEL = re.compile(r"(?<![\w*\\])\*([^*]+)\*(?![\w*])")
OF_PAGES = ("admin", "accounts", "certificates", "credentials", "events", "history", "journal")
OTHER_WORDS = {  # of a sentence; of commands; labels with a name in them
    *("resend", "same-group", "same group", "Berlin only", "Berlin and the groups in it"),
    *roles.ROLES,
}


@pytest.mark.parametrize("name", [*OF_PAGES, "rtio", "transfer"])
def test_labels_that_a_page_names_are_on_pages(name: str) -> None:
    texts = " ".join(
        re.findall(r'^(?:msgid(?:_plural)? )?"(.*)"$', CATALOGUE.read_text(), re.MULTILINE)
    )
    texts = texts.casefold()
    text = CODE.sub("", FENCE.sub("", TEXTS[DOCS / f"{name}.md"])).replace("**", "")
    labels = {" ".join(found.split()) for found in LABEL.findall(text)} - OTHER_WORDS
    assert labels
    for label in labels:
        for part in re.split(r" → |, through .*|…", label):
            assert part.casefold() in texts, label


UNEXPLAINED = re.compile(r"^  (?! )\S+(?: \S+)*\n(?! {3})", re.MULTILINE)  # no text beside or below


@pytest.mark.parametrize("name", OURS)
def test_help_explains_each_argument_and_fits_a_terminal(name: str) -> None:
    command = load_command_class(COMMANDS[name], name)
    assert max(len(line) for line in command.help.splitlines()) <= 90
    printed = command.create_parser("manage.py", name).format_help()
    _description, _, arguments = printed.replace(command.help, "").partition("\n\n")
    assert not UNEXPLAINED.findall(arguments)


DEPLOYED = re.compile(
    r"ExecStart=\S*python \S*/manage\.py (.*)|^ *(?:args|command): \[(\w+(?:, *[^\]]+)?)\]",
    re.MULTILINE,
)


def test_what_a_deployment_runs_is_a_command_with_what_it_needs() -> None:
    folder = settings.BASE_DIR / "deploy"
    places = [path for path in folder.rglob("*") if path.suffix in {".service", ".yaml"}]
    typed = [
        (unit or listed.replace(",", " ")).split()
        for path in places
        for unit, listed in DEPLOYED.findall(path.read_text())
    ]
    assert {"serve", "deliver", "migrate", "prune_journal", "expiring"} <= {
        name for name, *_ in typed
    }
    for name, *words in typed:
        app = COMMANDS[name]
        command = app if isinstance(app, BaseCommand) else load_command_class(app, name)
        command.create_parser("manage.py", name).parse_args(words)  # raises for what is missing


def test_an_image_gets_what_it_copies() -> None:
    let_through = (settings.BASE_DIR / ".containerignore").read_text().splitlines()
    image = (settings.BASE_DIR / "deploy" / "Containerfile").read_text()
    copied = re.findall(r"^COPY (?!--)(\S+)", image, re.MULTILINE)
    assert copied
    assert {f"!{place}" for place in copied} <= set(let_through)
