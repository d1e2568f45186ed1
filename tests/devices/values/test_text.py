"""Texts: what they must not hold, and which look alike."""

import pytest
from django.utils import translation

from devices.values import text as texts

pytestmark = pytest.mark.once(on="sqlite")


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("", None),
        ("plain text", None),
        ("caf\u00e9\u00a0bar\u3000", None),  # spaces of other widths are seen
        ("a\u2028b", "\u2028"),
        ("a\tb", "\t"),
        ("a\u200bb", "\u200b"),
        ("a\u202eb", "\u202e"),
        ("\u3164", "\u3164"),
        ("a\u200d", None),
        ("a \u200d", None),
        ("\u200da", "\u200d"),
        (" \u200d", "\u200d"),
    ],
)
def test_what_nobody_sees_is_found(text: str, hidden: str | None) -> None:
    assert texts.hidden_in(text) == hidden


@pytest.mark.parametrize(
    ("text", "skeleton"),
    [("Sensor-1", "sensor-1"), ("Ünïté", "unite"), ("ЅЕΝЅOR", "sensor"), ("Straße", "strasse")],  # noqa: RUF001
)
def test_what_is_easily_overlooked_is_left_out(text: str, skeleton: str) -> None:
    assert texts.skeleton(text) == skeleton
    assert skeleton in texts.variants(text) - {text}


@pytest.mark.parametrize(
    ("text", "mixed"),
    [("sensor", False), ("ѕensor", True), ("датчик", False), ("датчик-1 \u2460", False)],  # noqa: RUF001
)
def test_letters_of_scripts_that_look_alike_are_not_mixed(text: str, mixed: bool) -> None:
    assert texts.mixes_scripts(text) is mixed


@pytest.mark.parametrize(
    ("n", "is_cut", "text"), [(7, False, "7"), (10_000, False, "10,000"), (10_000, True, "10,000+")]
)
def test_a_count_that_was_cut_says_so(n: int, is_cut: bool, text: str) -> None:
    assert texts.count_text(n, is_cut=is_cut) == text


@pytest.mark.parametrize(
    ("language", "text"),
    [("en", "x: 2 y, z, …"), ("zh-hans", "x：2 个y、z、…")],  # noqa: RUF001
)
def test_names_and_numbers_stand_as_the_language_has_it(language: str, text: str) -> None:
    with translation.override(language):
        assert texts.labelled("x", texts.joined([texts.number_of(2, "y"), *"zzz"], 2)) == text
