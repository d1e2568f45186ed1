"""Forms that lie open while others work, and dates without a time of day."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, OperationalError
from django.test import Client

from devices.admin.base.forms import MomentField
from devices.models import Device, DeviceGroup, PreSharedKey
from tests.devices.admin.test_device import url
from tests.support.forms import inputs

pytestmark = pytest.mark.once(on="sqlite")

Factory = Callable[..., Device]


class StaleForm(NamedTuple):
    """A form of a device that others put from its group into another since it was opened."""

    device: Device
    group: DeviceGroup  # the other one
    address: str
    sent: dict[str, Any]


@pytest.fixture
def stale_form(admin_client: Client, make_device: Factory, make_group: Any) -> StaleForm:
    yard, attic = make_group("yard"), make_group("attic")
    device = make_device(name="before", groups=[yard])
    address = url("device_change", device.pk) + "?edit=1"
    sent = inputs(admin_client.get(address))
    device.groups.set([attic])
    return StaleForm(device, attic, address, sent)


def test_a_stale_form_keeps_what_others_changed(
    admin_client: Client, stale_form: StaleForm
) -> None:
    device, attic, address, sent = stale_form
    Device.objects.filter(pk=device.pk).update(description="by others", enabled=False)
    page = admin_client.post(address, sent | {"name": "after"}, follow=True)
    device.refresh_from_db()
    assert (device.name, device.description, device.enabled) == ("after", "by others", False)
    assert device.groups.get() == attic
    text = page.content.decode()
    assert "their change stands: Groups, Description." in text


def test_a_stale_form_does_not_overwrite_what_others_changed(
    admin_client: Client, stale_form: StaleForm
) -> None:
    device, attic, address, sent = stale_form
    Device.objects.filter(pk=device.pk).update(name="theirs", kind="backend")
    page = admin_client.post(address, sent | {"name": "mine", "kind": "backend", "groups": []})
    text = page.content.decode()
    assert "Somebody changed this to “theirs”" in text
    assert "Somebody changed this to “attic”" in text
    device.refresh_from_db()
    assert device.name == "theirs"
    assert device.groups.get() == attic


def test_a_form_that_nobody_overtook_is_saved_as_ever(
    admin_client: Client, make_device: Factory, make_group: Any
) -> None:
    group = make_group("yard")
    device = make_device(name="before")
    address = url("device_change", device.pk) + "?edit=1"
    sent = inputs(admin_client.get(address))
    form = {"name": "", "groups": [group.pk], "attributes": '{"a": 1}'}
    page = admin_client.post(address, sent | form, follow=True)
    assert "stands" not in page.content.decode()
    device.refresh_from_db()
    assert (device.name, device.attributes) == ("", {"a": 1})
    assert device.groups.get() == group


def test_the_end_of_a_key_that_was_rotated_meanwhile_stands(
    admin_client: Client, make_device: Factory
) -> None:
    key, _ = PreSharedKey.objects.issue(device=make_device())
    address = url("presharedkey_change", key.pk)
    sent = inputs(admin_client.get(address))
    moment = datetime(2030, 1, 1, 10, 30, 15, 123456, tzinfo=UTC)
    PreSharedKey.objects.filter(pk=key.pk).update(not_after=moment)
    admin_client.post(address, sent | {"label": "renamed"})
    key.refresh_from_db()
    assert (key.label, key.not_after) == ("renamed", moment)
    sent = inputs(admin_client.get(address))
    admin_client.post(address, sent | {"label": "again"})
    key.refresh_from_db()
    assert key.not_after == moment
    admin_client.post(address, sent | {"label": "again", "not_after_0": "2031-05-05"})
    key.refresh_from_db()
    assert key.not_after
    assert key.not_after.date().isoformat() == "2031-05-05"


def test_groups_are_kept_current_too(admin_client: Client, make_group: Any) -> None:
    site, group = make_group("site"), make_group("building")
    address = url("devicegroup_change", group.pk) + "?edit=1"
    sent = inputs(admin_client.get(address))
    DeviceGroup.objects.filter(pk=group.pk).update(parent=site)
    admin_client.post(address, sent | {"name": "house"})
    group.refresh_from_db()
    assert (group.name, group.parent) == ("house", site)


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("2030-05-01", "", datetime(2030, 5, 1, tzinfo=UTC)),
        ("2030-05-01", "10:30", datetime(2030, 5, 1, 10, 30, tzinfo=UTC)),
        ("", "", None),
    ],
)
def test_a_date_alone_means_its_midnight(date: str, time: str, expected: datetime | None) -> None:
    assert MomentField(required=False).clean([date, time]) == expected


@pytest.mark.parametrize("value", [["", "10:30"], ["2030-13-01", ""], ["2030-05-01", "25:00"]])
def test_a_time_alone_or_nonsense_is_refused(value: list[str]) -> None:
    with pytest.raises(ValidationError):
        MomentField(required=False).clean(value)


def test_a_required_moment_needs_its_date_only() -> None:
    assert MomentField().clean(["2030-05-01", ""]) == datetime(2030, 5, 1, tzinfo=UTC)


class DeadlockError(Exception):
    """What a driver raises, as far as is looked at."""

    sqlstate = "40P01"


@pytest.mark.parametrize(
    ("page", "error", "cause"),
    [
        ("device_add", IntegrityError("UNIQUE constraint failed"), None),
        ("devicegroup_add", IntegrityError("UNIQUE constraint failed"), None),
        ("device_add", OperationalError("deadlock detected"), DeadlockError()),
    ],
)
def test_who_saves_the_same_a_moment_later_is_told(
    page: str,
    error: Exception,
    cause: Exception | None,
    admin_client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lose_the_race(*args: Any, **options: Any) -> None:
        raise error from cause

    for model in (Device, DeviceGroup):
        monkeypatch.setattr(model, "save", lose_the_race)
    sent = {"identifier": "lamp", "kind": "device", "attributes": "{}", "name": "yard"}
    answer = admin_client.post(url(page), sent, follow=True)
    assert "Somebody saved the same at this moment" in answer.content.decode()
