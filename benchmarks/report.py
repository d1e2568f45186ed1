"""Tables, and the places in docs/performance.md that benchmarks write them to."""

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.machine import demand_quiet

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first hold numbers."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def number(value: float) -> str:
    """Return a number with as many digits as it is worth."""
    return f"{value:,.1f}" if value < 10 else f"{value:,.0f}"


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return what the command line says, with `--write`, for which the machine must be quiet."""
    parser.add_argument("--write", action="store_true", help="into docs/performance.md, too")
    options = parser.parse_args()
    if options.write:
        demand_quiet()
    return options


def publish(name: str, text: str, *, write: bool) -> None:
    """Print a text; with `write`, put it between the page's markers of that name, too."""
    print(f"\n{text}", flush=True)
    if not write:
        return
    begin, end = f"<!-- measured: {name} -->", f"<!-- end: {name} -->"
    page = PAGE.read_text()
    if page.count(begin) != 1 or page.count(end) != 1:
        raise SystemExit(f"{PAGE} must have one “{begin}” and one “{end}” after it")
    section = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    PAGE.write_text(section.sub(lambda _: f"{begin}\n{text}\n{end}", page))
