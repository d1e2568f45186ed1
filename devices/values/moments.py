"""Moments as people, documents and addresses write them."""

from datetime import UTC, datetime, tzinfo

from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime


def parse_moment(text: str, *, zone: tzinfo | None = None) -> datetime | None:
    """Return the moment, in UTC, that an ISO 8601 text means; None where it means none.

    `zone` is where a text without an offset is from, and lets a date alone mean its midnight;
    without it, such a text means no moment.
    """
    try:
        parsed = parse_datetime(text)
        if zone is not None:
            day = parse_date(text) if parsed is None else None
            parsed = datetime.combine(day, datetime.min.time()) if day is not None else parsed
            if parsed is not None and timezone.is_naive(parsed):
                parsed = timezone.make_aware(parsed, zone)
        if parsed is None or timezone.is_naive(parsed):
            return None
        return parsed.astimezone(UTC)
    except (ValueError, OverflowError):  # no such day; within a day of the calendar's ends
        return None


def in_utc(moment: datetime) -> str:
    """Return a moment as people read it: in UTC, to the minute, such as 2027-01-31 12:00 UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def written(moment: datetime) -> str:
    """Return a moment as documents write it: by ISO 8601, in UTC, such as 2027-01-31T12:00:00Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
