"""Each file here says which public report, or which kind of weakness (CWE), it is an example of."""

import ast
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.once(on="sqlite")

SOURCE = re.compile(r"https://\S+\d|CVE-\d{4}-\d+|CWE-\d+|OWASP")


def test_each_fault_names_where_it_is_known_from() -> None:
    others = [path for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__)]
    said = {path.name: ast.get_docstring(ast.parse(path.read_text())) or "" for path in others}

    assert others
    assert [name for name, text in said.items() if not SOURCE.search(text)] == []
