"""Attributes: which JSON is one that both databases store, and which two are the same."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError

from devices.values import attributes

pytestmark = pytest.mark.once(on="sqlite")

LARGEST = "9" * attributes.MAX_DIGITS


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{}", None),
        ('{"a":' + LARGEST + "}", None),
        ('{"a":-' + LARGEST + "}", None),
        ('{"a":1' + "0" * attributes.MAX_DIGITS + "}", "number"),
        ('{"a":-1' + "0" * attributes.MAX_DIGITS + "}", "number"),
        ('{"a":' + "9" * 10_000 + "}", "number"),
        ('{"a":1e400}', "number"),
        ('{"a":NaN}', "number"),
        ("[]", "invalid"),
        ("{", "invalid"),
        ('{"a":"\\ud800"}', "character"),
        ('{"\\u0000":1}', "character"),
        ('{"a":' * 31 + "1" + "}" * 31, None),
        ('{"a":' * 32 + "1" + "}" * 32, "depth"),
        ('{"a":{"b":1,"c":2,"b":3}}', "twice"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_both_databases_store_is_taken(text: str, code: str | None) -> None:
    if code is None:
        assert attributes.as_text(attributes.parse(text)).replace(" ", "") == text
        return
    with pytest.raises(ValidationError) as refused:
        attributes.parse(text)
    assert refused.value.code == code
    if code == "twice":
        assert refused.value.messages == ["“b” stands twice in one object."]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ([{"a": 1, "b": 2}], [{"b": 2, "a": 1}], True),
        ([1, 2], [2, 1], False),
        (True, 1, False),
        ({"a": 1}, {"a": True}, False),
        ("\ud800", "\ud800", True),
        (object(), 1, False),
        (1, object(), False),
    ],
)
def test_values_are_the_same_json(one: Any, other: Any, same: bool) -> None:
    assert attributes.is_same(one, other) is same


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": "é", "a": 1}, '{"b": "é", "a": 1}'),
        (["é", "\ud800"], '["\\u00e9", "\\ud800"]'),
    ],
)
def test_the_text_can_be_sent_on(value: Any, text: str) -> None:
    assert attributes.as_text(value) == text
