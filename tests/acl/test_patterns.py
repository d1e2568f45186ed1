"""Patterns: what staff may write, and what can match a command."""

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from acl import patterns
from acl.models import CommandPermission


@pytest.mark.parametrize(
    "pattern", ["*", "/*", "/v1/*", "/v1/Config.*", "Config.*", "/v1/Config.Get", "x", "Ä.*"]
)
def test_patterns_that_are_right(pattern: str) -> None:
    patterns.validate_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "is needed"),
        ("/v1/*/Get", "only at the end. Write /v1/*,"),
        ("*.Get", "only at the end. Write *,"),
        ("/v1/**", "only at the end. Write /v1/*,"),
        ("/v1/Conf*", "Did you mean /v1/*?"),
        ("Conf*", "Did you mean *?"),
        ("set:reading", "Choose the command set"),
        ("/v1/Config Get", "no spaces"),
        ("/v1/Config.Get\n", "no spaces"),
        ("/v1/\x00", "control characters"),
        ("/v1/\ud800", "control characters"),
        ("/" * 33, "at most 32"),
        ("x" * 10_240, "this one has 10240"),
    ],
)
def test_patterns_that_are_wrong_say_how_to_mend_them(pattern: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        patterns.validate_pattern(pattern)
    assert message in caught.value.messages[0]


def test_the_candidates_of_a_command_go_from_wide_to_close() -> None:
    assert patterns.candidates("/v1/Config.Get") == (
        *("*", "/*", "/v1/*", "/v1/Config.*"),
        "/v1/Config.Get",
    )
    assert patterns.candidates("Get") == ("*", "Get")
    assert patterns.candidates("/v1/") == ("*", "/*", "/v1/*", "/v1/")


def test_a_star_in_a_command_is_no_pattern() -> None:
    assert patterns.candidates("/v1/Config*") == ("*", "/*", "/v1/*")


def test_wider_patterns_cover_narrower_ones() -> None:
    assert patterns.covers("*", "/v1/*")
    assert patterns.covers("/v1/*", "/v1/Config.Get")
    assert patterns.covers("/v1/Config.Get", "/v1/Config.Get")
    assert not patterns.covers("/v1/Config.*", "/v1/*")
    assert not patterns.covers("/v1/Config.Get", "/v1/Config.Got")


@pytest.mark.parametrize("pattern", ["*5", "/v1/*/Get", "/v1/Conf*", "/v1/**", "**"])
def test_the_database_refuses_a_stray_star(db: None, pattern: str) -> None:
    with (
        pytest.raises(IntegrityError, match="acl_permission_pattern_well_formed"),
        transaction.atomic(),
    ):
        CommandPermission.objects.create(
            source_kind="everyone", destination_kind="everyone", pattern=pattern
        )
