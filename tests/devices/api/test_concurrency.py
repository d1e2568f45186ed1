"""Clients that race each other: real threads on PostgreSQL, each with a connection of its own."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, connections
from rest_framework.test import APIClient

from devices.models import Device, DeviceGroup, PreSharedKey
from tests.devices.api.conftest import account

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer anyway"),
]
RACERS = 8
DEVICES = "/api/v1/devices"


@pytest.fixture
def race(db: None) -> Callable[..., list[Any]]:
    """Return the function that lets RACERS clients of one account ask the same at once."""
    user = account("admin", superuser=True)

    def run(ask: Callable[[APIClient], Any]) -> list[Any]:
        answers: list[Any] = []
        start = threading.Barrier(RACERS)

        def racer() -> None:
            client = APIClient()
            client.force_authenticate(user)
            start.wait()
            try:
                answers.append(ask(client))
            finally:
                connections.close_all()

        threads = [threading.Thread(target=racer) for _ in range(RACERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    return run


def statuses(answers: list[Any]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


def test_one_of_those_who_know_the_same_state_wins(race: Any, make_device: Any) -> None:
    path = f"{DEVICES}/{make_device().pk}"
    client = APIClient()
    client.force_authenticate(account("reader", superuser=True))
    known = {"If-Match": client.get(path)["ETag"]}
    names = iter(range(RACERS))
    answers = race(
        lambda client: client.patch(path, {"name": f"{next(names)}"}, format="json", headers=known)
    )
    assert statuses(answers) == {200: 1, 412: RACERS - 1}
    (won,) = [answer for answer in answers if answer.status_code == 200]
    assert Device.objects.get().name == won.data["name"]
    assert Device.history.filter(history_type="~").count() == 1


def test_one_of_those_who_bulk_change_the_same_wins(race: Any, make_device: Any) -> None:
    devices = [make_device() for _ in range(3)]
    client = APIClient()
    client.force_authenticate(account("reader", superuser=True))
    rows = [
        {"id": one["id"], "if_match": one["etag"], "name": "new"}
        for one in client.get(DEVICES).json()["results"]
    ]
    answers = race(
        lambda client: client.post(f"{DEVICES}/bulk-change", {"devices": rows}, format="json")
    )
    assert statuses(answers) == {200: 1, 412: RACERS - 1}
    assert Device.history.filter(history_type="~").count() == len(devices)


def test_a_request_is_done_once_for_its_key(race: Any, make_device: Any) -> None:
    device, key = make_device(), {"Idempotency-Key": "f2f3a8f0-98a1-4c4a-8a86-5e4f7f1f3c55"}
    answers = race(
        lambda client: client.post(
            "/api/v1/keys", {"device": device.pk}, format="json", headers=key
        )
    )
    assert set(statuses(answers)) <= {201, 409}
    done = [answer.json() for answer in answers if answer.status_code == 201]
    assert done
    assert all(one == done[0] for one in done)
    assert PreSharedKey.objects.count() == 1


def test_one_of_those_who_create_the_same_wins(race: Any) -> None:
    answers = race(lambda client: client.post(DEVICES, {"identifier": "one"}, format="json"))
    assert statuses(answers)[201] == 1
    assert set(statuses(answers)) <= {201, 400, 409}
    assert Device.objects.count() == 1


def test_rotations_wait_for_each_other(race: Any, make_device: Any) -> None:
    path = f"{DEVICES}/{make_device().pk}/rotate-keys"
    answers = race(lambda client: client.post(path, {}, format="json"))
    assert statuses(answers) == {201: RACERS}
    assert PreSharedKey.objects.unrevoked().count() == 1


def test_moves_of_groups_wait_for_each_other_and_make_no_circle(race: Any, make_group: Any) -> None:
    groups = [make_group() for _ in range(RACERS)]
    moves = iter([(one.pk, groups[at - 1].pk) for at, one in enumerate(groups)])

    def move(client: APIClient) -> Any:
        group, parent = next(moves)
        path = f"/api/v1/groups/{group}"
        return client.patch(path, {"parent": parent}, format="json", headers={"If-Match": "*"})

    assert statuses(race(move)) == {200: RACERS - 1, 400: 1}  # the last would close the circle
    assert DeviceGroup.objects.filter(parent=None).count() == 1
