"""A denial that other capitals evade is told of: commands are literal here, but not everywhere.

CWE-178: Mongoose OS looks up handlers without case, so with `/v1/*` allowed and `/v1/Secret.*`
denied it runs `/v1/secret.Get`, which is allowed.
"""

from typing import Any

import pytest
from django.utils import timezone

from acl.analysis.lint import Fault, lint
from acl.engine.decisions import decide
from acl.models import CommandPermission
from tests.support.commands import run


@pytest.fixture
def lamp(make_device: Any, make_group: Any) -> Any:
    return make_device("lamp", groups=[make_group("room", parent=make_group("site"))])


def permit(command: str, *options: str, source: str = "everyone") -> str:
    """Run the command; return what it complained of."""
    words = ("--source", source, "--destination", "everyone", "--command", command, *options)
    return run("permit", *words)[1]


def faults() -> set[tuple[str, str]]:
    found = lint(CommandPermission.objects.all(), now=timezone.now())
    return {(one.rule.pattern, one.other.pattern) for one in found if one.other is not None}


@pytest.mark.parametrize(
    ("allowed", "denied", "source", "is_told"),
    [
        ("/v1/*", "/v1/Secret.*", "everyone", True),
        ("/v1/Secret.*", "/v1/Secret.Get", "everyone", True),
        ("/v1/*", "/v1/Secret.*", "group:site", True),
        ("/v1/*", "/v1/Secret.*", "lamp", True),
        ("/v1/*", "/v1/Secret.*", "group:other", False),
        ("/v1/Secret.Get", "/v1/Secret.*", "everyone", False),
        ("/v1/*", "/v1/1.2", "everyone", False),
        ("/v2/*", "/v1/Secret.*", "everyone", False),
    ],
)
def test_denial_inside_a_wider_allowance_is_told_of(
    lamp: Any, make_group: Any, allowed: str, denied: str, source: str, is_told: bool
) -> None:
    make_group("other")
    complaints = permit(denied, "--deny", source="group:room") + permit(allowed, source=source)
    assert ("leaves a denied command allowed" in complaints) is is_told
    assert ((denied, allowed) in faults()) is is_told
    CommandPermission.objects.filter(pattern=denied).delete()
    complaint = permit(denied, "--deny", source="group:room")
    assert ("leaves a denied command allowed" in complaint) is is_told


def test_commands_stay_literal(lamp: Any) -> None:
    permit("/v1/*")
    permit("/v1/Secret.*", "--deny")
    assert not decide("lamp", "lamp", "/v1/Secret.Get").allowed
    assert decide("lamp", "lamp", "/v1/secret.Get").allowed
    (finding,) = lint(CommandPermission.objects.filter(effect="deny"), now=timezone.now())
    assert finding.fault is Fault.CAPITALS
