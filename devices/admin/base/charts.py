"""Charts as SVG, drawn on the server: classes in place of styles, text in place of colour alone."""

from collections.abc import Sequence
from datetime import date, datetime
from itertools import groupby
from typing import NamedTuple

from django.template.loader import render_to_string
from django.utils.formats import date_format, number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

WIDTH, HEIGHT = 720, 200  # units of the drawing, which scales with its page
LEFT, TOP, BOTTOM = 52, 22, 22  # room for the scale, its unit above it, and the hours below
GROUND = HEIGHT - BOTTOM  # where the bars begin
STEPS = (1, 2, 5)  # of a scale, times a power of ten
MAX_LINES = 4  # of a scale

MONTHS_WIDTH, CELL_WIDTH, CELL_HEIGHT, CELLS_TOP = 110, 50, 32, 40  # of a calendar
GAP = 2  # between its cells
MONDAYS = ("1–7", "8–14", "15–21", "22–28", "29–31")  # days of a month, by column
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
    marks = scale(max((hour.allowed + hour.refused for hour in hours), default=0))
    unit = (GROUND - TOP) / max(marks[-1], 1)
    step = (WIDTH - LEFT) / max(len(hours), 1)

    def height(count: int) -> float:  # one call among millions is still seen
        return max(round(count * unit, 1), 1.5) if count else 0

    bars = [
        (hour, round(LEFT + n * step + 1, 1), height(hour.refused), height(hour.allowed))
        for n, hour in enumerate(hours)
    ]
    lines = [
        (round(GROUND - mark * unit, 1), number_format(mark, force_grouping=True)) for mark in marks
    ]
    size = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "ground": GROUND}
    shown = {"title": title, "description": description, "lines": lines, "bars": bars}
    return render_to_string(
        "admin/charts/hours.html", {**size, **shown, "bar_width": round(step - 2, 1)}
    )


def week_calendar(weeks: Sequence[Week], *, name: str, title: str, description: str) -> SafeString:
    """Return weeks as the cells of a calendar, a month a row; each that has something is a link.

    A shade stands for a power of ten: 1 to 9, 10 to 99, 100 to 999, 1,000 and more. `name` tells
    the calendars of a page apart, and `description` is what a screen reader says of the whole.
    """
    by_month = groupby(weeks, key=lambda week: week.begins.replace(day=1))
    months = [
        (CELLS_TOP + row * CELL_HEIGHT, month, [_cell(week) for week in of_month])
        for row, (month, of_month) in enumerate(by_month)
    ]
    middle = CELL_WIDTH // 2
    size = {
        "width": MONTHS_WIDTH + len(MONDAYS) * CELL_WIDTH,
        "height": CELLS_TOP + len(months) * CELL_HEIGHT,
        "left": MONTHS_WIDTH,
        "cell_width": CELL_WIDTH - GAP,
        "cell_height": CELL_HEIGHT - GAP,
        "middle": middle,
        "columns": [(n * CELL_WIDTH + middle, days) for n, days in enumerate(MONDAYS)],
    }
    shown = {"name": name, "title": title, "description": description, "months": months}
    return render_to_string("admin/charts/weeks.html", {**size, **shown})


def _cell(week: Week) -> dict[str, object]:
    digits = len(str(week.total)) if week.total else 0
    shown = "…" if week.total is None else number_format(week.total, force_grouping=True)
    said = {
        "day": date_format(week.begins, "DATE_FORMAT"),
        "n": _("not counted") if week.total is None else shown,
    }
    return {
        "week": week,
        "left": MONTHS_WIDTH + (week.begins.day - 1) // 7 * CELL_WIDTH,
        "kind": "uncounted" if week.total is None else f"heat-{min(digits, MAX_SHADE)}",
        "shown": shown,
        "label": _("Week from %(day)s: %(n)s") % said,
    }
