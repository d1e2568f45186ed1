"""The examples of docs/protocols.md, run as they stand against a real server."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from django.conf import settings

from tests.support.servers import Server

pytestmark = pytest.mark.once(on="processes")

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
UNKNOWN = re.compile(r"^ *(?:manage\.py|python)\b|[( ]python (?:manage|examples)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_has_typed_is_found_by_a_shell(page: Path) -> None:
    text = page.read_text()
    typed = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines()
    assert not [line for line in typed if UNKNOWN.search(line)]
    assert "alias manage=" in text or not [line for line in typed if line.startswith("manage ")]


def test_the_first_call_of_the_api_is_answered(server: Server) -> None:
    page = (settings.BASE_DIR / "docs" / "api.md").read_text()
    (program, *_others) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    program = program.replace(WRITTEN, server.url).replace(".venv/bin/python", sys.executable)
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
    assert set(json.loads(done.stdout)["results"][0]) == {"identifier", "enabled"}
