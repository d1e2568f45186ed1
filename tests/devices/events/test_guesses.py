"""Guesses at devices' secrets, and broken assertions, are events."""

from typing import Any

import pytest
from django.core.cache import cache
from django.db import OperationalError, transaction

from acl.analysis.what_if import DecisionsBefore, consequences_of
from acl.models import Assertion
from devices.authentication import authenticate
from devices.credentials import throttle
from devices.events import guesses
from devices.events.kinds import Kind
from devices.events.models import Event
from devices.models import PreSharedKey
from tests.support.rules import make_rule

pytestmark = pytest.mark.django_db


def told() -> list[Any]:
    guesses.worker.flush()
    rows = Event.objects.filter(kind=Kind.CREDENTIAL_GUESSED).order_by("pk")
    return [row.data["device"]["identifier"] for row in rows]


def test_a_device_is_told_of_once_its_guesses_are_used_up(
    make_device: Any, make_group: Any, django_assert_num_queries: Any
) -> None:
    group = make_group()
    device = make_device(groups=[group])
    PreSharedKey.objects.register(device=device, secret="a chosen one, long enough")
    for number in range(throttle.FAILURES):
        authenticate(device.identifier, secret=f"wrong {number}")
    assert told() == []
    for number in range(3):
        authenticate(device.identifier, secret=f"more {number}")
    assert told() == [device.identifier]
    event = Event.objects.latest("pk")
    assert (event.groups, event.data["origin"]) == ([group.pk], "registry")
    authenticate(device.identifier, secret="and more")
    assert told() == [device.identifier], "once in a while"
    assert "more" not in str(Event.objects.latest("pk").data)


def test_guesses_that_a_full_cache_does_not_note_are_told_later(
    make_device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were lost: Valkey and Redis that are full still read, and refuse to write."""
    names = sorted(make_device().identifier for _ in range(3))
    for name in names:
        guesses.worker.note(name)
    add, asked = cache.add, []

    def fail_at_the_second(*given: Any) -> Any:
        asked.append(given)
        if len(asked) > 1:
            raise OSError("used memory > 'maxmemory'")
        return add(*given)

    with monkeypatch.context() as patch:
        patch.setattr(cache, "add", fail_at_the_second)
        assert len(told()) == 1
    assert len(asked) == 2, "each would wait for it"
    assert sorted(told()) == names


def test_guesses_that_a_locked_database_does_not_take_are_told_later(
    make_device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = make_device().identifier

    def is_locked(*_given: Any, **_named: Any) -> None:
        raise OperationalError("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(Event.objects, "record", is_locked)
        with pytest.raises(OperationalError):
            guesses.worker.write([(name, None)])
    guesses.worker.note(name)
    assert told() == [name]


def test_of_strangers_nothing_is_told_and_little_is_kept() -> None:
    for number in range(guesses.MAX_NAMES + 5):
        guesses.worker.note(f"nobody-{number}")
    assert guesses.worker.waiting() == guesses.MAX_NAMES
    assert told() == []
    assert guesses.worker.waiting() == 0


@pytest.mark.parametrize("name", ["\ud800", "nobody\x00"])
def test_a_name_that_no_database_stores_hides_no_guesses(make_device: Any, name: str) -> None:
    """Its batch was not written: whoever guesses could keep all events of guesses from staff."""
    device = make_device()
    for guessed in (name, device.identifier):
        for number in range(throttle.FAILURES + 1):
            authenticate(guessed, secret=f"wrong {number}")

    assert told() == [device.identifier]


def test_an_assertion_that_a_change_breaks_is_an_event(make_device: Any) -> None:
    device = make_device("pump")
    Assertion.objects.create(text="pump may not /v1/Sys.Reboot itself")

    def permit() -> None:
        make_rule(device, "itself")

    consequences_of(permit)
    broken = Event.objects.filter(kind=Kind.ASSERTION_BROKEN)
    assert not broken.exists(), "it was taken back"
    with transaction.atomic():
        before = DecisionsBefore()
        permit()
        before.compare()
    assert broken.get().data["text"] == "pump may not /v1/Sys.Reboot itself"
    with transaction.atomic():
        DecisionsBefore().compare()
    assert broken.count() == 1, "it is broken already"
