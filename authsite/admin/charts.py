"""Charts as SVG, drawn on the server: classes in place of styles, text in place of colour alone."""

from collections.abc import Sequence
from datetime import UTC, datetime

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

WIDTH, HEIGHT = 600, 150  # units of the drawing, which scales with its page
TOP, BOTTOM = 22, 22  # room for the scale above, for the hours below
LABEL_EVERY = 4  # hours


def hourly_bars(
    hours: Sequence[tuple[datetime, int]], *, title: str, description: str
) -> SafeString:
    """Return bars of what was counted in each hour, oldest first.

    `title` and `description` are what a screen reader says of the picture; the page shows the
    numbers as a table beside it. A script turns the hours into the reader's zone.
    """
    highest = max((count for _hour, count in hours), default=0)
    step = WIDTH / max(len(hours), 1)
    ground = HEIGHT - BOTTOM
    bars = []
    labels = []
    for position, (hour, count) in enumerate(hours):
        height = round((ground - TOP) * count / highest, 1) if count else 0
        if count:
            height = max(height, 1.5)  # one among millions is still seen
        bars.append(
            (
                round(position * step + 1, 1),
                round(ground - height, 1),
                round(step - 2, 1),
                height,
                f"{hour.astimezone(UTC):%Y-%m-%d %H:%M} UTC: {count}",
            )
        )
        if position % LABEL_EVERY == 0:
            labels.append(
                (
                    round(position * step + 1, 1),
                    HEIGHT - 5,
                    f"{hour.astimezone(UTC):%Y-%m-%dT%H:%MZ}",
                    f"{hour.astimezone(UTC):%H:%M}",
                )
            )
    return format_html(
        '<svg class="chart" viewBox="0 0 {} {}" role="img"'
        ' aria-labelledby="chart-title chart-description">'
        '<title id="chart-title">{}</title><desc id="chart-description">{}</desc>'
        '<line x1="0" y1="{}" x2="{}" y2="{}"/><text x="0" y="{}">{}</text>'
        '<line x1="0" y1="{}" x2="{}" y2="{}"/>{}{}</svg>',
        WIDTH,
        HEIGHT,
        title,
        description,
        *(TOP, WIDTH, TOP, TOP - 4, highest),
        *(ground, WIDTH, ground),
        format_html_join(
            "", '<rect x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>', bars
        ),
        format_html_join("", '<text x="{}" y="{}" data-hour="{}">{}</text>', labels),
    )
