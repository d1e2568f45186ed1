"""Charts as SVG, drawn on the server: classes in place of styles, text in place of colour alone."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple

from django.utils.formats import date_format, number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

WIDTH, HEIGHT = 720, 200  # units of the drawing, which scales with its page
LEFT, TOP, BOTTOM = 52, 22, 22  # room for the scale, its unit above it, and the hours below
GROUND = HEIGHT - BOTTOM  # where the bars begin
LABEL_EVERY = 4  # hours
STEPS = (1, 2, 5)  # of a scale, times a power of ten
MAX_LINES = 4  # of a scale

MONTHS_WIDTH, CELL_WIDTH, CELL_HEIGHT, CELLS_TOP = 110, 50, 32, 40  # of a calendar
DAYS = ("1–7", "8–14", "15–21", "22–28", "29–31")  # of a month, on which its weeks begin
MAX_SHADE = 4  # of a week in a calendar


class Week(NamedTuple):
    """How much happens in a week; None where it was not counted. `url` lists it."""

    begins: date  # a Monday
    total: int | None
    url: str


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
            if step * power * MAX_LINES >= highest:
                return [n * step * power for n in range(-(-highest // (step * power)) + 1)]
        power *= 10


def hourly_bars(hours: Sequence[Hour], *, title: str, description: str) -> SafeString:
    """Return bars of the calls of each hour, oldest first: refused ones below, allowed ones above.

    `title` and `description` are what a screen reader says of the picture; the page shows the
    numbers as a table beside it. A script turns the hours into the reader's zone.
    """
    marks = scale(max((hour.allowed + hour.refused for hour in hours), default=0)) or [0]
    top = max(marks[-1], 1)
    step = (WIDTH - LEFT) / max(len(hours), 1)
    bars, labels = [], []
    for position, hour in enumerate(hours):
        left = round(LEFT + position * step + 1, 1)
        bars += _bars_of(hour, left, round(step - 2, 1), top)
        if position % LABEL_EVERY == 0:
            utc = hour.begins.astimezone(UTC)
            labels.append((left, HEIGHT - 5, f"{utc:%Y-%m-%dT%H:%MZ}", f"{utc:%H:%M}"))
    lines = []
    for mark in marks:
        level = GROUND - (GROUND - TOP) * mark / top
        name = number_format(mark, force_grouping=True)
        ends = (LEFT, round(level, 1), WIDTH, round(level, 1))
        lines.append((*ends, LEFT - 6, round(level + 4, 1), name))
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


def _bars_of(hour: Hour, left: float, width: float, top: int) -> list[tuple[object, ...]]:
    """Return the two bars of an hour: kind, x, y, width, height, title. `top` is the highest mark.

    One call among millions is still seen.
    """
    bars: list[tuple[object, ...]] = []
    level = float(GROUND)
    at = f"{hour.begins.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    for kind, count, name in (
        ("refused", hour.refused, _("refused")),
        ("allowed", hour.allowed, _("allowed")),
    ):
        height = max(round((GROUND - TOP) * count / top, 1), 1.5) if count else 0
        level = round(level - height, 1)
        bars.append((kind, left, level, width, height, f"{at}: {count} {name}"))
    return bars


def week_calendar(weeks: Sequence[Week], *, name: str, title: str, description: str) -> SafeString:
    """Return weeks as the cells of a calendar, a month a row; each that has something is a link.

    A shade stands for a power of ten: 1 to 9, 10 to 99, 100 to 999, 1,000 and more. `name` tells
    the calendars of a page apart, and `description` is what a screen reader says of the whole.
    """
    months = list(dict.fromkeys((week.begins.year, week.begins.month) for week in weeks))
    cells, labels = [], []
    for row, (year, month) in enumerate(months):
        text = date_format(date(year, month, 1), "YEAR_MONTH_FORMAT")
        labels.append((CELLS_TOP + row * CELL_HEIGHT + CELL_HEIGHT // 2 + 4, text))
    for week in weeks:
        row = months.index((week.begins.year, week.begins.month))
        left = MONTHS_WIDTH + (week.begins.day - 1) // 7 * CELL_WIDTH
        cells.append(_cell(week, left, CELLS_TOP + row * CELL_HEIGHT))
    return format_html(
        '<svg class="chart weeks" viewBox="0 0 {} {}" role="group" aria-labelledby="{}-title'
        ' {}-description"><title id="{}-title">{}</title><desc id="{}-description">{}</desc>'
        '<text x="{}" y="12">{}</text>{}{}{}</svg>',
        MONTHS_WIDTH + len(DAYS) * CELL_WIDTH,
        CELLS_TOP + len(months) * CELL_HEIGHT,
        *(name, name, name, title, name, description),
        *(MONTHS_WIDTH, _("The week begins on Monday the …")),
        format_html_join(
            "",
            '<text x="{}" y="{}" text-anchor="middle">{}</text>',
            (
                (MONTHS_WIDTH + position * CELL_WIDTH + CELL_WIDTH // 2, CELLS_TOP - 8, days)
                for position, days in enumerate(DAYS)
            ),
        ),
        format_html_join("", '<text x="0" y="{}">{}</text>', labels),
        format_html_join("", "{}", ((cell,) for cell in cells)),
    )


def _cell(week: Week, left: int, top: int) -> SafeString:
    digits = len(str(week.total)) if week.total else 0
    kind = "uncounted" if week.total is None else f"heat-{min(digits, MAX_SHADE)}"
    day = date_format(week.begins, "DATE_FORMAT")
    shown = "…" if week.total is None else number_format(week.total, force_grouping=True)
    said = _("not counted") if week.total is None else shown
    label = _("Week from %(day)s: %(n)s") % {"day": day, "n": said}
    box = format_html(
        '<rect class="{}" x="{}" y="{}" width="{}" height="{}" rx="4"><title>{}</title></rect>',
        *(kind, left + 1, top + 1, CELL_WIDTH - 2, CELL_HEIGHT - 2, label),
    )
    if week.total == 0:
        return box
    return format_html(
        '<a href="{}" aria-label="{}">{}<text class="{}" x="{}" y="{}" text-anchor="middle">{}'
        "</text></a>",
        *(week.url, label, box, f"on-{kind}"),
        *(left + CELL_WIDTH // 2, top + CELL_HEIGHT // 2 + 4, shown),
    )


def member_bar(members: int, below: int, longest: int) -> SafeString:
    """Return a bar of a group's devices, and of those in the groups in it, on a common scale."""
    own, others = (100 * count / max(longest, 1) for count in (members, below))
    return format_html(
        '<svg class="bar" aria-hidden="true"><rect class="track" width="100%" height="100%"/>'
        '<rect class="own" width="{}%" height="100%"/>'
        '<rect class="below" x="{}%" width="{}%" height="100%"/></svg>',
        *(f"{share:.2f}" for share in (own, own, others)),
    )


def member_scale(marks: Sequence[int]) -> SafeString:
    """Return the scale of such bars: its ends, and what it counts."""
    return format_html(
        '<svg class="chart bar-scale" aria-hidden="true"><text x="0" y="13">0</text>'
        '<text x="50%" y="13" text-anchor="middle">{}</text>'
        '<text x="100%" y="13" text-anchor="end">{}</text></svg>',
        *(_("devices"), number_format(marks[-1], force_grouping=True)),
    )
