"""Management commands, as a script runs them; and Python in a process of its own."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

PROJECT = Path(__file__).resolve().parents[2]


def run(name: str, *args: str, stdin: str = "", code: int = 0) -> tuple[str, str]:
    """Run a command; return what it printed and what it complained of."""
    out, err = io.StringIO(), io.StringIO()
    ended = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        try:
            call_command(name, *args, stdout=out, stderr=err)
        except CommandError as error:
            ended = error.returncode
            err.write(str(error))
        except SystemExit as error:
            ended = int(str(error.code))
    assert ended == code, (out.getvalue(), err.getvalue())
    return out.getvalue(), err.getvalue()


def answer(name: str, *args: str, **options: Any) -> dict[str, Any]:
    """Run a command; return what it printed as JSON."""
    printed, _ = run(name, *args, "--json", **options)
    document: dict[str, Any] = json.loads(printed)
    return document


def python(
    *words: object, check: bool = False, **options: Any
) -> "subprocess.CompletedProcess[str]":
    """Run Python in a process of its own, whatever comes of it; with `check` it must succeed."""
    command = [sys.executable, *map(str, words)]
    options = {"cwd": PROJECT, "timeout": 60, **options}
    return subprocess.run(command, capture_output=True, text=True, check=check, **options)
