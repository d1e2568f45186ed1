"""Charts as SVG, drawn on the server: classes in place of styles, text in place of colour alone."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from django.utils.formats import number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

WIDTH, HEIGHT = 720, 200  # units of the drawing, which scales with its page
LEFT, TOP, BOTTOM = 52, 22, 22  # room for the scale, its unit above it, and the hours below
LABEL_EVERY = 4  # hours
STEPS = (1, 2, 5)  # of a scale, times a power of ten
LINES = 4  # of a scale, at most


class Hour(NamedTuple):
    """What was answered in one hour: how many calls were let through, and how many refused."""

    begins: datetime
    allowed: int
    refused: int


def scale(highest: int) -> list[int]:
    """Return the numbers of a scale from 0 to at least `highest`, in round steps."""
    power = 1
    while True:
        for step in STEPS:
            if step * power * LINES >= highest:
                return [n * step * power for n in range(-(-highest // (step * power)) + 1)]
        power *= 10


def hourly_bars(hours: Sequence[Hour], *, title: str, description: str) -> SafeString:
    """Return bars of the calls of each hour, oldest first: refused ones below, allowed ones above.

    `title` and `description` are what a screen reader says of the picture; the page shows the
    numbers as a table beside it. A script turns the hours into the reader's zone.
    """
    marks = scale(max((hour.allowed + hour.refused for hour in hours), default=0)) or [0]
    top = max(marks[-1], 1)
    ground = HEIGHT - BOTTOM
    step = (WIDTH - LEFT) / max(len(hours), 1)

    def high(count: int) -> float:
        # One among millions is still seen.
        return max(round((ground - TOP) * count / top, 1), 1.5) if count else 0

    bars, labels = [], []
    for position, hour in enumerate(hours):
        left = round(LEFT + position * step + 1, 1)
        level = float(ground)
        at = f"{hour.begins.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        for kind, count, name in (
            ("refused", hour.refused, _("refused")),
            ("allowed", hour.allowed, _("allowed")),
        ):
            level = round(level - high(count), 1)
            bars.append(
                (kind, left, level, round(step - 2, 1), high(count), f"{at}: {count} {name}")
            )
        if position % LABEL_EVERY == 0:
            utc = hour.begins.astimezone(UTC)
            labels.append((left, HEIGHT - 5, f"{utc:%Y-%m-%dT%H:%MZ}", f"{utc:%H:%M}"))
    lines = [
        (
            *(LEFT, round(ground - (ground - TOP) * mark / top, 1)),
            *(WIDTH, round(ground - (ground - TOP) * mark / top, 1)),
            *(LEFT - 6, round(ground - (ground - TOP) * mark / top + 4, 1)),
            number_format(mark, force_grouping=True),
        )
        for mark in marks
    ]
    return format_html(
        '<svg class="chart" viewBox="0 0 {} {}" role="img"'
        ' aria-labelledby="chart-title chart-description">'
        '<title id="chart-title">{}</title><desc id="chart-description">{}</desc>'
        '<text x="0" y="10">{}</text>{}{}{}</svg>',
        *(WIDTH, HEIGHT, title, description, _("calls an hour")),
        format_html_join(
            "",
            '<line x1="{}" y1="{}" x2="{}" y2="{}"/>'
            '<text x="{}" y="{}" text-anchor="end">{}</text>',
            lines,
        ),
        format_html_join(
            "",
            '<rect class="{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>',
            bars,
        ),
        format_html_join("", '<text x="{}" y="{}" data-hour="{}">{}</text>', labels),
    )
