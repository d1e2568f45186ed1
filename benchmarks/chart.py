"""Bar charts as SVG, readable in light and in dark."""

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import number

WIDTH, LABELS, RIGHT = 860, 330, 90  # the whole, what names the bars, what names their values
BAR, GAP, TOP = 14, 12, 64
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 15px }
.line { stroke: #d0d7de }
.range { stroke: #1f2328; stroke-width: 1.5 }
.s0 { fill: #2f6fb5 } .s1 { fill: #d9822b }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .line { stroke: #3d444d }
  .range { stroke: #e6edf3 }
  .s0 { fill: #6ca8e8 } .s1 { fill: #f0a860 }
}
"""


class Bar(NamedTuple):
    """A value, and the least and the most that it was in any round."""

    value: float
    least: float
    most: float


def draw(
    path: Path, title: str, series: Sequence[str], rows: Sequence[tuple[str, Sequence[Bar | None]]]
) -> None:
    """Write a chart with a group of bars for each row, on a logarithmic scale."""
    bars = [bar for _, group in rows for bar in group if bar]
    low, high = floor(log10(min(bar.least for bar in bars))), ceil(log10(max(b.most for b in bars)))
    step = (WIDTH - LABELS - RIGHT) / (high - low)

    def x(value: float) -> float:
        return LABELS + (log10(value) - low) * step

    group_height = BAR * len(series) + GAP
    bottom = TOP + group_height * len(rows)
    parts = [text(0, 18, title, "title")]
    for place, name in enumerate(series):
        left = 240 * place
        parts += [f'<rect class="s{place}" x="{left}" y="30" width="12" height="12"/>']
        parts += [text(left + 18, 41, name)]
    for power in range(low, high + 1):
        at = x(10**power)
        parts += [f'<path class="line" d="M{at:.1f} {TOP - 6}V{bottom}"/>']
        parts += [text(at, bottom + 16, f"{10**power:,}", anchor="middle")]
    for row, (name, group) in enumerate(rows):
        top = TOP + group_height * row
        parts += [text(LABELS - 8, top + group_height / 2 - 1, name, anchor="end")]
        for place, bar in enumerate(group):
            if bar is None:
                continue
            y = top + BAR * place
            end = x(bar.value)
            parts += [
                f'<path class="s{place}" d="M{LABELS} {y}H{end:.1f}v{BAR - 2}H{LABELS}z"/>',
                f'<path class="range" d="M{x(bar.least):.1f} {y + 6}H{x(bar.most):.1f}"/>',
                text(x(bar.most) + 6, y + BAR - 3, number(bar.value)),
            ]
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {bottom + 24}">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(content)}</text>"
    )
