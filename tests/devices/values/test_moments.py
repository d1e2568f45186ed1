"""Moments as people, documents and addresses write them."""

from datetime import UTC, datetime

import pytest

from devices.values.moments import parse_moment

pytestmark = pytest.mark.once(on="sqlite")

NOON = datetime(2030, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "strict", "lenient"),
    [
        ("2030-01-31T12:00:00Z", NOON, NOON),
        ("2030-01-31 14:00+02:00", NOON, NOON),
        ("2030-01-31T12:00", None, NOON),
        ("2030-01-31", None, NOON.replace(hour=0)),
        ("2030-1-31", None, NOON.replace(hour=0)),
        ("2030-02-30T12:00Z", None, None),
        ("2030-02-30", None, None),
        ("0001-01-01T00:00+01:00", None, None),
        ("9999-12-31T23:59-01:00", None, None),
        ("abc", None, None),
        ("", None, None),
    ],
)
def test_reads_one_moment_everywhere(
    text: str, strict: datetime | None, lenient: datetime | None
) -> None:
    assert parse_moment(text) == strict
    assert parse_moment(text, zone=UTC) == lenient
