"""A form of a command set or an assertion that lay open undoes nothing that others did meanwhile.

CWE-362, a lost update: a pattern that was narrowed from `/v1/Config.*` to `/v1/Config.Get` was wide
again after somebody saved a description, and decisions said yes.
"""

from typing import Any

import pytest
from django.test import Client

from acl.models import Assertion, CommandSet
from tests.support.forms import inputs
from tests.support.rules import make_rule

pytestmark = pytest.mark.once(on="sqlite")

TOLD = "others changed this; their change stands"


@pytest.fixture
def reading(db: None) -> CommandSet:
    row = CommandSet.objects.create(name="reading")
    row.patterns.create(pattern="/v1/Config.*")
    row.patterns.create(pattern="/v1/Sys.*")
    return row


def patterns(row: CommandSet) -> list[str]:
    return list(row.patterns.values_list("pattern", flat=True))


def address(row: CommandSet) -> str:
    return f"/admin/acl/commandset/{row.pk}/change/"


def posted(client: Client, row: CommandSet, sent: dict[str, Any]) -> str:
    return client.post(address(row), sent, follow=True).content.decode()


def test_narrowed_pattern_stays_narrow(admin_client: Client, reading: CommandSet) -> None:
    sent = inputs(admin_client.get(address(reading)))
    reading.patterns.filter(pattern="/v1/Config.*").update(pattern="/v1/Config.Get")
    assert TOLD in posted(admin_client, reading, sent | {"description": "late"})
    assert patterns(reading) == ["/v1/Config.Get", "/v1/Sys.*"]
    reading.refresh_from_db()
    assert reading.description == "late"


def test_pattern_changed_by_both_is_asked_about(admin_client: Client, reading: CommandSet) -> None:
    sent = inputs(admin_client.get(address(reading)))
    reading.patterns.filter(pattern="/v1/Config.*").update(pattern="/v1/Config.Get")
    page = posted(admin_client, reading, sent | {"patterns-0-pattern": "/v1/*"})
    assert "Somebody changed this to “/v1/Config.Get”" in page
    assert patterns(reading) == ["/v1/Config.Get", "/v1/Sys.*"]


def test_deleted_pattern_stays_deleted(admin_client: Client, reading: CommandSet) -> None:
    sent = inputs(admin_client.get(address(reading)))
    reading.patterns.filter(pattern="/v1/Config.*").delete()
    page = posted(admin_client, reading, sent | {"description": "late"})
    assert f"{TOLD}: /v1/Config.*" in page
    assert patterns(reading) == ["/v1/Sys.*"]
    reading.refresh_from_db()
    assert reading.description == "late"


def test_changing_a_deleted_pattern_is_refused(admin_client: Client, reading: CommandSet) -> None:
    sent = inputs(admin_client.get(address(reading)))
    reading.patterns.filter(pattern="/v1/Config.*").delete()
    page = posted(admin_client, reading, sent | {"patterns-0-pattern": "/v1/*"})
    assert "Somebody deleted “/v1/Config.*” while the form lay open." in page
    assert patterns(reading) == ["/v1/Sys.*"]


def test_pattern_added_by_both_is_there_once(admin_client: Client, reading: CommandSet) -> None:
    sent = inputs(admin_client.get(address(reading))) | {"patterns-2-pattern": "/v1/New"}
    reading.patterns.create(pattern="/v1/New")
    assert "The set has this pattern already." in posted(admin_client, reading, sent)
    assert patterns(reading).count("/v1/New") == 1


def test_narrowed_assertion_stays_narrow(admin_client: Client, make_device: Any) -> None:
    make_device("lamp")
    row = Assertion.objects.create(text="nobody may /v1/*")
    page = f"/admin/acl/assertion/{row.pk}/change/"
    sent = inputs(admin_client.get(page))
    Assertion.objects.update(text="nobody may /v1/Sys.*")
    admin_client.post(page, sent | {"note": "late"})
    row.refresh_from_db()
    assert (row.text, row.note) == ("nobody may /v1/Sys.*", "late")


def test_what_was_filled_in_is_not_taken_for_what_others_did(
    admin_client: Client, make_device: Any, make_group: Any
) -> None:
    """A form that came back for another fault dropped an end that was typed, as others' change."""
    rule = make_rule(make_device("lamp"), "everyone", "/v1/X")
    address = f"/admin/acl/commandpermission/{rule.pk}/change/"
    ends = {"valid_until_0": "2099-01-01", "valid_until_1": "00:00"}
    wrong = inputs(admin_client.get(address)) | ends | {"pattern": "has spaces"}
    sent = inputs(admin_client.post(address, wrong)) | {"pattern": "/v1/X"}
    page = admin_client.post(address, sent, follow=True)
    assert "others changed this" not in page.content.decode()
    rule.refresh_from_db()
    assert rule.valid_until is not None

    device, yard = make_device("valve"), make_group("yard")
    address = f"/admin/devices/device/{device.pk}/change/?edit=1"
    wrong = inputs(admin_client.get(address)) | {"groups": [yard.pk], "attributes": "{"}
    sent = inputs(admin_client.post(address, wrong)) | {"attributes": "{}"}
    admin_client.post(address, sent)
    assert list(device.groups.all()) == [yard]
