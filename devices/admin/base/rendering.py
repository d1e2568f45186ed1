"""How pages show what many of them show: moments, and states."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from operator import attrgetter
from typing import Any

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy, ngettext

from devices.values.moments import in_utc
from devices.verdicts import Outcome

NOTHING = "—"
SOON = timedelta(days=30)
CREDENTIAL_STATES = {
    Outcome.NOT_YET_VALID: gettext_lazy("not valid yet"),
    Outcome.EXPIRED: gettext_lazy("expired"),
    Outcome.REVOKED: gettext_lazy("revoked"),
    Outcome.PEPPER_MISSING: gettext_lazy("pepper missing"),
}


class Tone(StrEnum):
    """What a state means to staff. Each has a colour and a shape of its own."""

    GOOD = "good"
    SOON = "soon"  # good for now
    BAD = "bad"
    OFF = "off"
    PLAIN = "plain"


def moment(value: datetime | None, classes: str = "moment") -> SafeString | str:
    """Return a moment as `<time>`: UTC, which a script turns into the reader's zone.

    The element's title is UTC to the second. `classes` are its CSS classes: with "day" among them,
    only the day is shown.
    """
    if value is None:
        return NOTHING
    utc = value.astimezone(UTC)
    return format_html(
        '<time class="{}" datetime="{}" title="{}">{}</time>',
        classes,
        f"{utc:%Y-%m-%dT%H:%M:%SZ}",
        f"{utc:%Y-%m-%d %H:%M:%S} UTC",
        in_utc(utc),
    )


def badge(tone: str, text: object) -> SafeString:
    """Return a state as a badge: its text, beside the shape of its tone."""
    return format_html('<span class="badge badge-{}">{}</span>', Tone(tone).value, text)


def enabled_badge(enabled: bool) -> SafeString:
    return badge(Tone.GOOD, _("enabled")) if enabled else badge(Tone.OFF, _("disabled"))


def state_badge(outcome: Outcome) -> SafeString:
    """Return whether a credential admits its device, as a badge."""
    if outcome is Outcome.VERIFIED:
        return badge(Tone.GOOD, _("usable"))
    tone = Tone.SOON if outcome is Outcome.NOT_YET_VALID else Tone.BAD
    return badge(tone, CREDENTIAL_STATES.get(outcome, outcome.label))


def _left(ends: datetime, now: datetime) -> SafeString:
    if ends <= now:
        return badge(Tone.BAD, _("expired"))
    days, hours = (ends - now).days, (ends - now).seconds // 3600
    left = (
        ngettext("in %(n)d day", "in %(n)d days", days) % {"n": days}
        if days
        else ngettext("in %(n)d hour", "in %(n)d hours", hours) % {"n": hours}
    )
    return badge(Tone.SOON, left)


def expiry(ends: datetime | None, now: datetime) -> SafeString | str:
    """Return when something ends, with a badge where that is soon or past."""
    if ends is None:
        return NOTHING
    if ends > now + SOON:
        return moment(ends)
    return format_html("{} {}", moment(ends), _left(ends, now))


def expiry_in_list(ends: datetime | None, now: datetime) -> SafeString | str:
    """Return when something ends, in one word: the days left where they are few, else the day."""
    if ends is None or ends > now + SOON:
        return moment(ends, "moment day")
    utc = f"{ends.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return format_html('<span title="{}">{}</span>', utc, _left(ends, now))


def field_column(field: str, description: Any, show: Callable[[Any], Any] | None = None) -> Any:
    """Return a column of an admin's list or page that shows a field under a head of its own.

    It is a function of a row; the stubs of Django's admin know of no functions in fieldsets. The
    field may be that of a related row (`owner__name`). `show` makes what is shown of a value;
    without it the value itself is shown.
    """
    read = attrgetter(field.replace("__", "."))

    @admin.display(description=description, ordering=field)
    def column(row: Any) -> Any:
        value = read(row)
        return show(value) if show else value

    column.__name__ = field
    return column


def moment_column(field: str, description: Any) -> Any:
    return field_column(field, description, moment)


CREATED = moment_column("created", gettext_lazy("Created"))
UPDATED = moment_column("updated", gettext_lazy("updated"))
LAST_SEEN = moment_column("last_seen", gettext_lazy("Last seen"))
LAST_USED = moment_column("last_used", gettext_lazy("Last used"))
REVOKED = moment_column("revoked_at", gettext_lazy("revoked"))
VALID_FROM = moment_column("not_before", gettext_lazy("valid from"))
VALID_UNTIL = moment_column("not_after", gettext_lazy("valid until"))
