"""The rules that concern a device or a group, on their pages and in the list that they lead to."""

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client, RequestFactory

from acl.admin.panels import MAX_IN_PANEL, rules_panel
from acl.engine.decisions import Request
from acl.models import Assertion, CommandPermission
from tests.support.staff import staff

pytestmark = pytest.mark.once(on="sqlite")

LIST = "/admin/acl/commandpermission/"


@pytest.fixture
def world(make_device: Any, make_group: Any, make_rule: Any) -> dict[str, Any]:
    """A lamp in a room in a house; rules that concern it, by name, and others."""
    house, other = make_group("house"), make_group("other")
    room = make_group("room", parent=house)
    lamp, hub = make_device("lamp", groups=[room]), make_device("hub", groups=[other])
    make_rule(hub, other, "/v1/Nothing")
    make_rule(other, "itself", "/v1/Nothing")
    return {
        "lamp": lamp,
        "hub": hub,
        "house": house,
        "sent": {
            make_rule(lamp, hub).pk,
            make_rule(room, other).pk,
            make_rule(house, hub).pk,
            make_rule("everyone", other).pk,
        },
        "received": {
            make_rule(hub, lamp).pk,
            make_rule(hub, house).pk,
            make_rule(hub, "everyone", effect="deny").pk,
            make_rule(other, "same-group", enabled=False).pk,
        },
        "both": {make_rule(house, "itself").pk, make_rule("everyone", "everyone").pk},
    }


def listed(client: Client, **query: Any) -> set[int]:
    response = client.get(LIST, query)
    return {rule.pk for rule in response.context["cl"].result_list}


def shown(panel: Any) -> list[set[int]]:
    lists = [panel.context["both"], *(one["rules"] for one in panel.context["directions"])]
    return [{rule.pk for rule in rules} for rules in lists]


def test_a_device_s_page_lists_what_concerns_it_both_ways(
    admin_client: Client, admin_user: User, world: dict[str, Any], rf: RequestFactory
) -> None:
    lamp = world["lamp"]
    request = rf.get("/")
    request.user = admin_user
    assert shown(rules_panel(request, lamp)) == [world["both"], world["sent"], world["received"]]
    expected = [world["sent"] | world["both"], world["received"] | world["both"]]
    assert [
        listed(admin_client, sender=lamp.pk),
        listed(admin_client, receiver=lamp.pk),
    ] == expected
    page = admin_client.get(f"/admin/devices/device/{lamp.pk}/change/").content.decode()
    assert "Rules about this device" in page
    assert f'href="{LIST}?sender={lamp.pk}"' in page
    assert f'href="{LIST}explain/?source=lamp"' in page


def test_a_group_s_page_lists_what_names_it(
    admin_client: Client, admin_user: User, world: dict[str, Any], rf: RequestFactory
) -> None:
    house = world["house"]
    page = admin_client.get(f"/admin/devices/devicegroup/{house.pk}/change/").content.decode()
    assert "Rules that name this group" in page
    assert f'href="{LIST}?sender=group-{house.pk}"' in page
    request = rf.get("/")
    request.user = admin_user
    both, *found = shown(rules_panel(request, house))
    assert not both
    assert [len(one) for one in found] == [2, 1]
    assert listed(admin_client, sender=f"group-{house.pk}") == found[0]
    assert listed(admin_client, receiver=f"group-{house.pk}") == found[1]


def test_only_those_who_share_a_group_reach_a_device_by_it(
    admin_client: Client, world: dict[str, Any], make_device: Any, make_rule: Any
) -> None:
    neighbour = make_device(groups=list(world["lamp"].groups.all()))
    near = make_rule(neighbour, "same-group")
    far = make_rule(world["hub"], "same-group")
    found = listed(admin_client, receiver=world["lamp"].pk)
    assert near.pk in found
    assert far.pk not in found


def test_a_device_in_no_group_shares_none(
    admin_client: Client, make_device: Any, make_rule: Any
) -> None:
    loner = make_device()
    make_rule("everyone", "same-group")
    assert listed(admin_client, receiver=loner.pk) == set()


@pytest.mark.parametrize("value", ["999999", "group-999999", "none", "group-x"])
def test_who_does_not_exist_has_no_rules(
    admin_client: Client, world: dict[str, Any], value: str
) -> None:
    assert listed(admin_client, sender=value) == set()
    assert listed(admin_client, receiver=value) == set()


def test_the_panel_is_bounded_and_its_statements_are_constant(
    admin_user: User,
    world: dict[str, Any],
    make_rule: Any,
    rf: RequestFactory,
    django_assert_num_queries: Any,
) -> None:
    request = rf.get("/")
    request.user = admin_user
    for number in range(MAX_IN_PANEL):
        make_rule(world["lamp"], "everyone", f"/v1/{number}")
    with django_assert_num_queries(8):
        panel = rules_panel(request, world["lamp"])
    assert panel is not None
    sent, _received = panel.context["directions"]
    assert sent["shown"] == len(sent["rules"] + panel.context["both"]) == MAX_IN_PANEL
    assert (sent["is_cut"], sent["total"]) == (True, "26")
    assert all(rule.source_device_id == world["lamp"].pk for rule in sent["rules"])


def test_the_panel_is_for_those_who_may_see_rules(
    world: dict[str, Any], client: Client, rf: RequestFactory
) -> None:
    client.force_login(staff("view_device"))
    page = client.get(f"/admin/devices/device/{world['lamp'].pk}/change/").content.decode()
    assert "Rules about this device" not in page
    assert "explain" not in page


def test_filters_count_and_keep_what_they_say(
    admin_client: Client, world: dict[str, Any], make_set: Any, make_rule: Any
) -> None:
    some = make_set("some", "/v1/X")
    make_rule(command=some)
    every = CommandPermission.objects.count()
    response = admin_client.get(LIST)
    for spec in response.context["cl"].filter_specs:
        for value, _label in spec.lookup_choices:
            kept = listed(admin_client, **{spec.parameter_name: value})
            counted = [
                choice["display"]
                for choice in spec.choices(response.context["cl"])
                if value in choice["query_string"]
            ]
            assert any(f"({len(kept)})" in str(text) for text in counted), (value, counted)
    for name, value in {
        "effect__exact": "deny",
        "source_kind__exact": "group",
        "destination_kind__exact": "everyone",
        "command_set__id__exact": some.pk,
    }.items():
        field = name.removesuffix("__exact").removesuffix("__id")
        expected = set(
            CommandPermission.objects.filter(**{field: value}).values_list("pk", flat=True)
        )
        assert listed(admin_client, **{name: value}) == expected
        assert 0 < len(expected) < every


def test_the_list_s_statements_are_constant(
    admin_client: Client, world: dict[str, Any], make_rule: Any, django_assert_num_queries: Any
) -> None:
    for _again in range(2):
        with django_assert_num_queries(11):  # one of them for the filters that have a name
            admin_client.get(LIST)
        for number in range(10):
            make_rule(world["lamp"], "everyone", f"/v1/{number}")


def test_the_list_sorts_by_state(admin_client: Client, make_rule: Any) -> None:
    on, off = make_rule(), make_rule(enabled=False)
    rows = [
        [rule.pk for rule in admin_client.get(LIST, {"o": order}).context["cl"].result_list]
        for order in ("4", "-4")
    ]
    assert rows == [[off.pk, on.pk], [on.pk, off.pk]]


def test_known_commands_are_suggested(
    admin_client: Client, client: Client, make_set: Any, make_rule: Any
) -> None:
    make_rule(command="/v1/Config.Get")
    make_rule(command="/v1/Config.*")
    make_set("some", "/v1/Config.Set")
    address = f"{LIST}commands/"
    found = admin_client.get(address, {"q": "/v1/Con"}).json()["found"]
    assert found == ["/v1/Config.Get", "/v1/Config.Set"]
    assert "/v1/Auth.Authenticate" in admin_client.get(address, {"q": "/v1/A"}).json()["found"]
    client.force_login(staff("view_device"))
    assert client.get(address).status_code == 403


def test_commands_of_the_journal_are_suggested_to_its_readers(
    client: Client, monkeypatch: pytest.MonkeyPatch, make_device: Any
) -> None:
    late = {Request("lamp", "lamp", "/v1/Late"): 3}
    monkeypatch.setattr("acl.analysis.what_if.REQUEST_SOURCES", [lambda: late])
    make_device("lamp")
    Assertion.objects.create(text="lamp may /v1/Light lamp")
    kim, address = staff("view_commandpermission"), f"{LIST}commands/?q=/v1/L"
    client.force_login(kim)
    assert client.get(address).json()["found"] == []
    kim.user_permissions.add(Permission.objects.get(codename="view_callrecord"))
    assert client.get(address).json()["found"] == ["/v1/Late"]
    kim.user_permissions.add(Permission.objects.get(codename="view_assertion"))
    assert client.get(address).json()["found"] == ["/v1/Late", "/v1/Light"]


def test_a_search_that_names_too_much_says_so(
    admin_client: Client, world: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acl.admin.command_permission.MAX_NAMED", 1)
    page = admin_client.get(LIST, {"q": "o"}).content.decode()
    assert page.count("“o” names too much") == 1
