"""Factories for rules."""

from collections.abc import Callable

import pytest

from acl.models import CommandPermission, CommandSet
from tests.support import rules


@pytest.fixture
def make_set(db: None) -> Callable[..., CommandSet]:
    def make(name: str, *patterns: str) -> CommandSet:
        command_set = CommandSet(name=name)
        command_set.full_clean(validate_constraints=False)
        command_set.save()
        for pattern in patterns:
            row = command_set.patterns.model(command_set=command_set, pattern=pattern)
            row.full_clean(validate_constraints=False)
            row.save()
        return command_set

    return make


@pytest.fixture
def make_rule(db: None) -> Callable[..., CommandPermission]:
    return rules.make_rule
