"""The tree of groups: which lies in which, with how many devices, and what is too much to draw."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from devices.admin import group
from devices.models import Device, DeviceGroup
from tests.support.staff import browser_of, staff

pytestmark = pytest.mark.once(on="sqlite")

PAGE = "/admin/devices/devicegroup/tree/"
Factory = Callable[..., Device]


def outline(branches: list[group.Branch]) -> list[Any]:
    return [
        (one.group.name, one.group.members, one.members_below, one.hidden, outline(one.below))
        for one in branches
    ]


@pytest.fixture
def groups(make_group: Any, make_device: Factory) -> dict[str, DeviceGroup]:
    berlin = make_group("Berlin")
    north = make_group("north", parent=berlin)
    floor = make_group("<floor>", parent=north)
    made = {"Berlin": berlin, "north": north, "floor": floor, "Zürich": make_group("Zürich")}
    for _ in range(3):
        make_device(groups=[floor])
    make_device(groups=[north, floor])
    return made


def test_each_group_is_drawn_below_the_one_that_it_lies_in(
    groups: dict[str, DeviceGroup], admin_client: Client, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(3):  # session, user, the tree
        page = admin_client.get(PAGE)
    floor: Any = ("<floor>", 4, 0, 0, [])
    assert outline(page.context["branches"]) == [
        ("Berlin", 0, 5, 0, [("north", 1, 4, 0, [floor])]),
        ("Zürich", 0, 0, 0, []),
    ]
    text = page.content.decode()
    assert "&lt;floor&gt;" in text
    assert f'href="/admin/devices/device/?group={groups["floor"].pk}">4 devices</a>' in text
    assert "+ 5 in the groups in it</span>" in text  # a sum; its list has each device once
    assert f'href="/admin/devices/device/?group={groups["Berlin"].pk}-or-below"' in text
    assert 'viewBox="0 0 6 1"' in text  # the scale ends with six
    assert '<rect class="own" width="4"' in text
    assert "style=" not in text.split('id="content-main"')[1].split("</main>")[0]


def test_a_part_of_the_tree_is_drawn(
    groups: dict[str, DeviceGroup], admin_client: Client, make_device: Factory
) -> None:
    page = admin_client.get(PAGE, {"top": groups["north"].pk})
    assert [name for name, *_ in outline(page.context["branches"])] == ["north"]
    assert admin_client.get(PAGE, {"top": 0}).status_code == 404
    own = admin_client.get(f"/admin/devices/devicegroup/{groups['floor'].pk}/change/")
    assert [group.name for group in own.context["above"]] == ["Berlin", "north"]
    link = f"{PAGE}?top={groups['Berlin'].pk}#group-{groups['floor'].pk}"
    assert link in own.content.decode()
    assert PAGE in admin_client.get("/admin/devices/devicegroup/").content.decode()


def test_where_there_are_too_many_the_lowest_are_left_out_and_named(
    groups: dict[str, DeviceGroup], admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "MAX_DRAWN", 3)
    page = admin_client.get(PAGE)
    assert outline(page.context["branches"])[0] == ("Berlin", 0, 1, 0, [("north", 1, 0, 1, [])])
    text = page.content.decode()
    assert "Of 4 groups 3 are drawn" in text
    assert f'href="?top={groups["north"].pk}">1 group in it is not drawn here' in text


def test_a_circle_of_groups_is_not_walked_for_ever(
    groups: dict[str, DeviceGroup], admin_client: Client
) -> None:
    with connection.cursor() as cursor:  # as no form and no program of ours would write it
        cursor.execute(
            "UPDATE devices_devicegroup SET parent_id = %s WHERE id = %s",
            [groups["floor"].pk, groups["Berlin"].pk],
        )
    page = admin_client.get(PAGE)
    assert [name for name, *_ in outline(page.context["branches"])] == ["Zürich"]
    assert admin_client.get(PAGE, {"top": groups["Berlin"].pk}).status_code == 200


def test_who_may_not_see_groups_sees_no_tree(db: None) -> None:
    assert browser_of(staff()).get(PAGE).status_code == 403
