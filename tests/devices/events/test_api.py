"""`GET /api/v1/events`: what is answered, when, and to whom; and who waits, for nothing."""

import threading
import time
from collections.abc import Iterable
from typing import Any

import pytest
from django.db import connection
from django.db.models import Model, QuerySet
from rest_framework.test import APIClient

from devices.events import api as events_api, stream, waiting
from devices.events.kinds import Kind
from devices.events.models import Event
from devices.events.waiting import TooManyError, Watcher
from tests.devices.api.conftest import Client, account, api, client_of

__all__ = ["api", "client_of"]  # fixtures that live elsewhere

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]
PATH = "/api/v1/events"


def happen(count: int = 1, kind: Kind = Kind.DEVICE_CHANGED, **fields: Any) -> None:
    for n in range(count):
        Event.objects.create(kind=kind, data={"n": n}, **fields)


def ask(client: APIClient, **parameters: Any) -> Any:
    return client.get(PATH, parameters)


def test_events_in_pages(api: APIClient) -> None:
    happen(3)
    first = ask(api, limit=2)
    assert first.status_code == 200
    assert first["Cache-Control"] == "no-store"
    assert [event["position"] for event in first.data["events"]] == [1, 2]
    assert first.data["more"] is True
    event = first.json()["events"][0]
    assert event == {
        "id": Event.objects.earliest("pk").name,
        "type": "device.changed",
        "timestamp": event["timestamp"],
        "position": 1,
        "data": {"n": 0},
    }
    second = ask(api, limit=2, after=first.data["cursor"])
    assert ([event["position"] for event in second.data["events"]], second.data["more"]) == (
        [3],
        False,
    )
    assert ask(api, after=second.data["cursor"]).data["events"] == []


def test_who_waits_for_what_a_filter_leaves_reads_through_other_events(
    api: APIClient, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr(stream, "READ", 2)
    monkeypatch.setattr(stream, "MAX_READS", 1)
    happen(5)
    happen(1, Kind.DEVICE_DISABLED)
    parts = ask(api, kinds="device.disabled")
    assert (parts.data["events"], parts.data["more"]) == ([], True)
    settings.EVENT_WAITERS = 0  # there is nothing to wait for
    found = ask(api, kinds="device.disabled", wait=10)
    assert [event["position"] for event in found.data["events"]] == [6]


def test_by_a_group_with_a_large_key(api: APIClient, make_group: Any) -> None:
    group = make_group("last", pk=2**63 - 1)
    happen(1, groups=[group.pk])
    kinds = [event["type"] for event in ask(api, group=group.pk).data["events"]]
    assert kinds == ["group.created", "device.changed"]
    for key in (2**63, 0, "x"):
        assert ask(api, group=key).json()["errors"][0]["parameter"] == "group"


def test_by_kind_and_group(api: APIClient, make_group: Any) -> None:
    site = make_group("site")
    lab = make_group("lab", parent=site)
    ask(api)
    Event.objects.all().delete()
    happen(2, Kind.DEVICE_DISABLED, groups=[lab.pk])
    happen(1, Kind.DEVICE_ENABLED, groups=[site.pk])
    happen(1, Kind.RULE_CREATED)
    assert len(ask(api, kinds="device.disabled").data["events"]) == 2
    assert len(ask(api, kinds="device.disabled,rule.created").data["events"]) == 3
    assert len(ask(api, group=site.pk).data["events"]) == 3
    assert len(ask(api, group=lab.pk, kinds="device.enabled").data["events"]) == 0


@pytest.mark.parametrize(
    ("parameters", "at_fault"),
    [
        ({"after": "x"}, "after"),
        ({"wait": "-1"}, "wait"),
        ({"wait": "51"}, "wait"),
        ({"wait": "1.5"}, "wait"),
        ({"wait": "0000000500000"}, "wait"),
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "9" * 30}, "limit"),
        ({"kinds": "device.exploded"}, "kinds"),
        ({"kinds": ""}, "kinds"),
        ({"group": "12345"}, "group"),
        ({"group": "x"}, "group"),
        ({"color": "red"}, "color"),
    ],
)
def test_what_cannot_be_asked(api: APIClient, parameters: Any, at_fault: str) -> None:
    answer = ask(api, **parameters)
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["errors"][0]["parameter"] == at_fault


def test_a_cursor_that_is_gone(api: APIClient) -> None:
    happen(2)
    cursor = ask(api, limit=1).data["cursor"]
    Event.objects.filter(position=1).delete()
    answer = ask(api, after=cursor)
    assert (answer.status_code, answer.json()["code"]) == (410, "cursor-gone")


def test_who_may_ask(client_of: Client) -> None:
    assert APIClient().get(PATH).status_code == 401
    assert ask(client_of(account("none"))).status_code == 403
    assert ask(client_of(account("reader", ["devices.view_event"]))).status_code == 200


class Grant:
    """A token that is kept to groups."""

    def __init__(self, **groups: frozenset[int]) -> None:
        self.groups = groups

    def permits(self, permission: str) -> bool:
        return True

    def narrow(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset

    def count_use(self, permission: str, rows: Iterable[Model]) -> None: ...

    def reached_groups(self, permission: str) -> frozenset[int] | None:
        return self.groups.get(permission.partition("_")[2])


@pytest.mark.parametrize(
    ("groups", "seen"),
    [
        ({}, 4),
        ({"event": frozenset({1})}, 2),
        ({"device": frozenset({1, 2})}, 3),
        ({"device": frozenset({1, 2}), "event": frozenset({2})}, 2),
        ({"device": frozenset()}, 0),
    ],
)
def test_a_token_sees_no_events_of_devices_beyond_its_groups(
    client_of: Client, groups: Any, seen: int
) -> None:
    happen(groups=[1])
    happen(groups=[2])
    happen(groups=[1, 2])
    happen()
    client = client_of(account("service", ["devices.view_event"]), Grant(**groups))
    assert len(ask(client).data["events"]) == seen


def test_a_token_learns_of_no_group_beyond_its_own(client_of: Client, make_group: Any) -> None:
    lab, other = make_group("lab"), make_group("other")
    grant = Grant(device=frozenset({lab.pk}))
    client = client_of(account("service", ["devices.view_event"]), grant)
    assert ask(client, group=lab.pk).status_code == 200
    beyond, missing = (ask(client, group=pk) for pk in (other.pk, other.pk + 1000))
    assert (beyond.status_code, beyond.json()) == (400, missing.json())


def test_a_question_costs_few_statements(
    api: APIClient, django_assert_max_num_queries: Any
) -> None:
    happen(5)
    cursor = ask(api, limit=1).data["cursor"]
    with django_assert_max_num_queries(4):
        ask(api, after=cursor)


def test_nobody_waits_where_there_is_something(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    happen()
    began = time.monotonic()
    assert ask(api, wait=20).data["events"]
    assert time.monotonic() - began < 5


class Woken(Watcher):
    """Wakes at once, as though there were news."""

    def __init__(self, *steps: Any) -> None:
        super().__init__()
        self.steps = list(steps)
        self.beyond: list[int] = []  # what was waited for

    def wait(self, beyond: int, seconds: float) -> bool:
        self.beyond.append(beyond)
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        if step:
            step()
            stream.number()
        return bool(step)


def test_who_waits_gets_what_is_wanted(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Woken(happen, lambda: happen(kind=Kind.DEVICE_DISABLED))
    monkeypatch.setattr(events_api, "watcher", watcher)
    answer = ask(api, wait=30, kinds="device.disabled")
    assert [event["position"] for event in answer.data["events"]] == [2]
    assert watcher.steps == []


def test_a_wait_that_is_over_has_a_cursor_past_what_was_left_out(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_api, "watcher", Woken(happen, None))
    answer = ask(api, wait=30, kinds="device.disabled")
    assert answer.data["events"] == []
    assert answer.data["cursor"].startswith("1-")


@pytest.mark.parametrize("after", ["", "0", "of the last"])
def test_where_rows_were_deleted_by_hand_one_waits(
    api: APIClient, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    happen(3)
    if after == "of the last":
        after = ask(api, limit=1).data["cursor"]
        Event.objects.exclude(position=1).delete()
    else:
        ask(api)
        Event.objects.all().delete()
    answer = ask(api, after=after)
    assert (answer.data["events"], answer.data["more"]) == ([], False)
    watcher = Woken(happen)
    monkeypatch.setattr(events_api, "watcher", watcher)
    answer = ask(api, after=after, wait=30)
    assert watcher.beyond == [3]
    if after:  # what was after it is not all there
        assert answer.status_code == 410
    else:
        assert [event["position"] for event in answer.data["events"]] == [4]


def test_too_many_who_wait(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_api, "watcher", Woken(TooManyError()))
    answer = ask(api, wait=30)
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")


def test_too_many_who_wait_have_a_cursor_past_what_was_left_out(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_api, "watcher", Woken(happen, TooManyError(), TooManyError()))
    answer = ask(api, wait=30, kinds="device.disabled")
    assert (answer.status_code, answer.data["events"], answer.data["more"]) == (200, [], False)
    assert answer.data["cursor"].startswith("1-")
    again = ask(api, wait=30, kinds="device.disabled", after=answer.data["cursor"])
    assert again.status_code == 503


def test_a_server_that_stops_reads_no_further(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "READ", 2)
    monkeypatch.setattr(stream, "MAX_READS", 1)
    watcher = Woken(lambda: happen(5))
    watcher.is_stopping = lambda: not watcher.steps
    monkeypatch.setattr(events_api, "watcher", watcher)
    answer = ask(api, wait=30, kinds="device.disabled")
    assert (answer.status_code, answer.data["events"], answer.data["more"]) == (200, [], True)
    assert answer.data["cursor"].startswith("2-")


# --- The watcher ----------------------------------------------------------------------------


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the position that a look finds, in a list to be changed."""
    position = [5]
    monkeypatch.setattr(stream, "number", lambda: 0)
    monkeypatch.setattr(stream, "head", lambda: position[0])
    monkeypatch.setattr(waiting, "LINGER", 0.0)
    return position


def ended(watcher: Watcher) -> bool:
    deadline = time.monotonic() + 5
    while watcher._thread is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    return watcher._thread is None


def test_a_wait_ends_with_news_or_in_time(head: list[int]) -> None:
    watcher = Watcher()
    assert watcher.wait(4, 5.0) is True
    began = time.monotonic()
    assert watcher.wait(5, 0.2) is False
    assert 0.15 < time.monotonic() - began < 2
    threading.Timer(0.2, lambda: head.__setitem__(0, 6)).start()
    assert watcher.wait(5, 10.0) is True
    assert ended(watcher), "nobody waits: nobody looks"


def test_only_so_many_wait(head: list[int], settings: Any) -> None:
    settings.EVENT_WAITERS = 2
    watcher = Watcher()
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda: results.append(watcher.wait(5, 10))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 5
    while watcher._waiting < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(TooManyError):
        watcher.wait(5, 10)
    head[0] = 6
    for thread in threads:
        thread.join(5)
    assert results == [True, True]
    assert watcher.wait(5, 1) is True, "there is room again"
    assert ended(watcher)


def test_a_server_that_stops_lets_nobody_wait(head: list[int]) -> None:
    stops = [False]
    watcher = Watcher(lambda: stops[0])
    threading.Timer(0.2, lambda: stops.__setitem__(0, True)).start()
    began = time.monotonic()
    assert watcher.wait(5, 30) is False
    assert time.monotonic() - began < 3
    assert ended(watcher)


def test_an_outage_is_waited_out(head: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError

    fails = [True]

    def number() -> int:
        if fails[0]:
            raise OperationalError("gone")
        return 0

    monkeypatch.setattr(stream, "number", number)
    watcher = Watcher()
    threading.Timer(0.2, lambda: fails.__setitem__(0, False)).start()
    assert watcher.wait(4, 10) is True
    assert ended(watcher)
    connection.close_if_unusable_or_obsolete()
