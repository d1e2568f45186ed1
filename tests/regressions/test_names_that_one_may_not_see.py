"""No page tells, beside what it is about, what a row is called that its reader may not see.

CWE-200: a list that a link narrows names the row that it is narrowed by, a form that comes back
names what was chosen, and the page that undoes names what it leaves, each for any key in the
address or in the form. So staff without a role could read the names of all accounts and groups.
"""

import re
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from acl.models import Assertion, CommandSet
from authsite.models import ApiToken, ServiceAccount
from devices import history
from devices.admin.base.pages import OwnPagesMixin
from devices.models import Device, DeviceGroup, PreSharedKey, Webhook
from rpc.rtio.models import Cause, EndingState, RtioServer, SessionEnding
from tests.rpc.rtio.test_session_ending import admit
from tests.support.rules import make_rule
from tests.support.staff import browser_of, staff

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

TOKENS = "/admin/authsite/apitoken/"


@pytest.mark.parametrize("lookup", ["owner", "owner__exact", "owner__id__exact"])
def test_no_list_names_an_account_to_staff_without_a_role(lookup: str) -> None:
    boss = User.objects.create_user("boss")
    assert browser_of(staff()).get(TOKENS, {lookup: boss.pk}).status_code == 400


@pytest.mark.parametrize(
    ("held", "address", "lookup"),
    [
        ("view_webhook", "/admin/devices/webhook/", "group__id__exact"),
        ("view_devicegroup", "/admin/devices/devicegroup/", "devices"),
        ("view_presharedkey", "/admin/devices/presharedkey/", "device__id__exact"),
        ("view_commandpermission", "/admin/acl/commandpermission/", "source_group__id__exact"),
    ],
)
def test_no_list_is_narrowed_by_a_row_that_one_may_not_see(
    make_group: Any, make_device: Any, held: str, address: str, lookup: str
) -> None:
    key = make_device("lamp").pk if "device" in lookup else make_group("yard").pk
    assert browser_of(staff(held)).get(address, {lookup: key}).status_code == 400


def test_no_group_is_filled_by_whoever_may_not_see_it(make_group: Any, make_device: Any) -> None:
    group, device = make_group("yard"), make_device("lamp")
    user = staff("change_device", "view_device")
    page = f"/admin/devices/devicegroup/{group.pk}/members/"
    assert browser_of(user).post(page, {"devices": device.pk}).status_code == 403
    unknown = page.replace(f"/{group.pk}/", "/999999/")  # nor does anybody learn which there are
    assert browser_of(user).get(unknown).status_code == 403
    client = APIClient()
    client.force_authenticate(user)
    for path in ("members", "members/remove"):
        sent = client.post(f"/api/v1/groups/{group.pk}/{path}", {"devices": [device.pk]}, "json")
        assert sent.status_code == 403


@pytest.mark.parametrize(
    ("held", "address", "sees"),
    [
        ("view_sessionending", "/admin/rpc/sessionending/", "view_rtioserver"),
        ("view_user", "/admin/auth/user/", "view_group"),
    ],
)
def test_no_filter_names_rows_that_one_may_not_see(held: str, address: str, sees: str) -> None:
    for number in (1, 2):
        RtioServer.objects.create(name=f"hidden-{number}", host=f"10.0.0.{number}")
        Group.objects.create(name=f"hidden-{number}")
    server = RtioServer.objects.create(name="shown", host="127.0.0.1")
    SessionEnding.objects.create(  # a list without rows has no filters
        identifier="lamp",
        server=server,
        cause=Cause.ASKED,
        state=EndingState.ENDED,
        requested_at=timezone.now(),
        due_at=timezone.now(),
    )
    client = browser_of(staff(held))
    assert "hidden-1" not in client.get(address).content.decode()
    User.objects.get(username="kim").user_permissions.add(Permission.objects.get(codename=sees))
    assert "hidden-1" in client.get(address).content.decode()


@pytest.mark.parametrize("field", ["source_group", "source_device"])
def test_no_form_begins_with_a_row_that_one_may_not_see(
    make_group: Any, make_device: Any, field: str
) -> None:
    row = make_device("secret-lamp") if field.endswith("device") else make_group("secret yard")
    address = f"/admin/acl/commandpermission/add/?{field}={row.pk}"
    client = browser_of(staff("add_commandpermission"))
    assert "secret" not in _shown(client, address, row)
    User.objects.get(username="kim").user_permissions.add(
        Permission.objects.get(codename=f"view_{row._meta.model_name}")
    )
    assert str(row) in _shown(client, address, row)


@pytest.mark.parametrize("field", ["source_group", "source_device", "command_set"])
@pytest.mark.parametrize("names_row", [True, False], ids=["by its key", "by its name"])
def test_no_form_that_comes_back_names_a_row_that_one_may_not_see(
    make_group: Any, make_device: Any, field: str, names_row: bool
) -> None:
    name = "secret-lamp"
    make = {"source_device": make_device, "source_group": make_group}
    row = make[field](name) if field in make else CommandSet.objects.create(name=name)
    sent = {"effect": "allow", field: row.pk, "valid_from_0": "never"}
    if not names_row:
        sent |= {field: "", f"{field}-typed": "secret-lamp"}
    client = browser_of(staff("add_commandpermission"))
    page = client.post("/admin/acl/commandpermission/add/", sent).content.decode()
    assert f">#{row.pk}</option>" in page
    assert "secret-lamp" not in page
    User.objects.get(username="kim").user_permissions.add(
        Permission.objects.get(codename=f"view_{row._meta.model_name}")
    )
    page = client.post("/admin/acl/commandpermission/add/", sent).content.decode()
    assert ">secret-lamp</option>" in page


def test_a_form_that_comes_back_names_what_its_row_is_about(make_device: Any) -> None:
    lamp, other = make_device("lamp"), make_device("secret-hub")
    rule = make_rule(lamp, "itself", "/v1/X")
    client = browser_of(staff("change_commandpermission"))
    address = f"/admin/acl/commandpermission/{rule.pk}/change/"
    sent = {"source_device": lamp.pk, "destination_device": other.pk, "valid_from_0": "never"}
    page = client.post(address, sent).content.decode()
    assert ">lamp</option>" in page
    assert f">#{other.pk}</option>" in page
    assert "secret-hub" not in page


def test_no_form_of_a_device_that_comes_back_names_a_group(make_group: Any) -> None:
    group = make_group("secret yard")
    page = browser_of(staff("add_device")).post(
        "/admin/devices/device/add/", {"groups": [group.pk], "identifier": ""}
    )
    assert "secret yard" not in page.content.decode()
    assert f">#{group.pk}</option>" in page.content.decode()


def _shown(client: Client, address: str, row: Any) -> str:
    page = client.get(address)
    assert page.status_code == 200
    return page.content.decode()


def test_no_filter_of_rules_names_a_command_set() -> None:
    found = CommandSet.objects.create(name="secret doors")
    client = browser_of(staff("view_commandpermission"))
    for query in ({}, {"command_set__id__exact": found.pk}):
        page = client.get("/admin/acl/commandpermission/", query)
        assert page.status_code in {200, 302, 400}
        assert "secret doors" not in page.content.decode()


def test_an_answer_names_no_groups_of_a_device(make_group: Any, make_device: Any) -> None:
    make_device("lamp", groups=[make_group("secret yard")])
    client = browser_of(staff("view_commandpermission"))
    asked = {"source": "lamp", "destination": "lamp", "command": "/v1/On"}
    page = client.get(reverse("admin:acl_commandpermission_explain"), asked)
    assert "lamp" in page.content.decode()
    assert "secret yard" not in page.content.decode()


class Limited:
    """A token that grants whatever its account may, each on some rows only."""

    def permits(self, _permission: str) -> bool:
        return True

    narrows = permits


@pytest.mark.parametrize(
    ("more", "token", "groups"),
    [
        ((), None, None),
        (("view_devicegroup",), None, ["yard"]),
        (("view_devicegroup",), Limited(), None),
    ],
)
def test_no_answer_of_the_api_names_groups(
    make_group: Any, make_device: Any, more: tuple[str, ...], token: Any, groups: Any
) -> None:
    make_device("lamp", groups=[make_group("yard")])
    client = APIClient()
    client.force_authenticate(staff("view_commandpermission", *more), token)
    asked = {"source": "lamp", "destination": "lamp", "command": "/v1/On"}
    answer = client.get("/api/v1/explain", asked).json()
    assert answer["source_groups"] == answer["destination_groups"] == groups


@pytest.mark.parametrize("more", [(), ("view_commandpermission",), ("change_commandpermission",)])
def test_no_answer_about_a_new_rule_names_the_rows_of_its_keys(
    make_group: Any, make_device: Any, more: tuple[str, ...]
) -> None:
    client = APIClient()
    client.force_authenticate(staff("add_commandpermission", *more))
    rule = {
        "effect": "deny",
        "source_kind": "device",
        "source_device": make_device("secret-lamp").pk,
        "destination_kind": "group",
        "destination_group": make_group("secret yard").pk,
        "pattern": "/v1/X",
    }
    answer = client.post("/api/v1/rules?validate_only=true", rule, format="json")
    assert answer.status_code == 200
    assert ("secret" in answer.text) is bool(more)


@pytest.mark.parametrize("may", ["view_device", "change_device"])
def test_a_list_is_narrowed_by_a_row_that_one_may_see(make_device: Any, may: str) -> None:
    key = make_device("lamp").pk
    client = browser_of(staff("view_presharedkey", may))
    page = client.get("/admin/devices/presharedkey/", {"device__id__exact": key})
    assert "Device: lamp" in page.content.decode()


@pytest.mark.parametrize(
    ("held", "address"),
    [("view_callrecord", "/admin/rpc/callrecord/"), ("view_device", "/admin/devices/device/")],
)
def test_no_filter_names_a_group(make_group: Any, held: str, address: str) -> None:
    group = make_group("yard")
    client = browser_of(staff(held))
    for query in ({}, {"group": group.pk}):
        assert "yard" not in client.get(address, query).content.decode()
    client.get("/admin/")  # and who may see groups finds it there
    kim = User.objects.get(username="kim")
    kim.user_permissions.add(Permission.objects.get(codename="view_devicegroup"))
    assert "yard" in client.get(address, {"group": group.pk}).content.decode()


def test_the_form_of_a_token_names_no_group(make_group: Any) -> None:
    group: DeviceGroup = make_group("yard")
    sent = {
        "rules-TOTAL_FORMS": 3,
        "rules-INITIAL_FORMS": 0,
        "rules-0-group": group.pk,
        "rules-0-per_hour": 1,
    }
    page = browser_of(staff()).post(f"{TOKENS}add/", sent)
    assert page.status_code == 200
    assert "yard" not in page.content.decode()


def test_undoing_names_nothing_whose_history_is_not_ones_to_read(make_device: Any) -> None:
    root, other = User.objects.create_superuser("root"), make_device("other")
    with history.origin("admin", user="kim"):
        device: Device = make_device("lamp")
        PreSharedKey.objects.issue(device=other, label="spare key")
        hook = Webhook(name="Pager", url="https://pager.example.com/")
        hook.new_secret()
        hook.save()
        service = ServiceAccount.objects.create_account("line-3", answerable=root).user
        batch = history.current_batch()
    page = browser_of(staff(role="Operator")).get(reverse("admin:batch", args=[batch]))
    text = page.content.decode()
    assert device.identifier in text
    for name in ("spare key", hook.name, service.get_username()):
        assert name not in text
    assert [one[1:] for one in page.context["left"]] == [(3, [])]


def test_undoing_says_what_may_not_be_deleted_before_it_is_asked(make_device: Any) -> None:
    with history.origin("import", user="kim"):
        PreSharedKey.objects.issue(device=make_device("lamp"))
        batch = history.current_batch()
    client = browser_of(staff(role="Operator"))
    page = client.get(reverse("admin:batch", args=[batch])).content.decode()
    assert "may not delete what would go with them: keys" in page
    assert 'value="Undo"' not in page
    assert client.post(reverse("admin:batch", args=[batch])).status_code == 403


def test_who_may_not_read_the_journal_learns_nothing_of_it(make_device: Any) -> None:
    device: Device = make_device("0b9c2f6e-3a55-4a0c-8d3f-111111111111")
    backend = make_device("//rtio.example/b", kind="backend")
    RtioServer.objects.create(name="rtio-1", host="rtio.example.com", backend=backend)
    admit(device, backend.identifier)
    client = browser_of(staff(role="Viewer"))
    address = reverse("admin:devices_device_change", args=[device.pk])
    shown = client.get(address).content.decode()
    assert "Sessions at RTIO servers" in shown
    assert "let in" not in shown
    assert "rtio-1" not in shown
    User.objects.get(username="kim").groups.set(Group.objects.filter(name="Auditor"))
    assert "through rtio-1" in client.get(address).content.decode()


def test_a_new_rule_is_not_held_against_rules_that_one_may_not_see(make_device: Any) -> None:
    lamp = make_device("lamp")
    make_rule(lamp, "everyone", "/v1/Light.On")
    ends = {"source_kind": "device", "source_device": lamp.pk, "destination_kind": "everyone"}
    sent = {**ends, "effect": "allow", "pattern": "/v1/Light.On", "enabled": "on"}
    api = APIClient()
    for held, told in (("add", False), ("view", True)):
        kim = staff("add_commandpermission", f"{held}_commandpermission", name=held)
        page = browser_of(kim).post("/admin/acl/commandpermission/add/", sent, follow=True)
        said = " ".join(map(str, page.context["messages"]))
        assert ("says what another rule says already" in said) is told
        api.force_authenticate(kim)
        made = api.post("/api/v1/rules", {**sent, "enabled": True}, format="json")
        assert bool(made.data["findings"]) is told


@pytest.mark.parametrize(
    ("page", "needs"),
    [
        ("devices/device/{}/issue-key/", ["add_presharedkey"]),
        ("devices/device/{}/rotate-keys/", ["add_presharedkey", "change_presharedkey"]),
        ("devices/device/{}/revoke_credentials/", ["change_presharedkey", "change_certificate"]),
        ("rpc/sessionending/end/{}/", ["end_session"]),
    ],
)
def test_no_page_of_a_device_names_one_that_may_not_be_seen(
    make_device: Any, monkeypatch: pytest.MonkeyPatch, page: str, needs: list[str]
) -> None:
    monkeypatch.setattr("rpc.admin.rtio.can_be_ended", lambda _identifier: True)
    address = f"/admin/{page.format(make_device('lamp').pk)}"
    for held, status in (([], 403), (["view_device"], 200)):
        assert (
            browser_of(staff(*needs, *held, name=f"kim {held}")).get(address).status_code == status
        )


def test_the_report_on_rules_says_nothing_of_assertions_that_one_may_not_see() -> None:
    Assertion.objects.create(text="lamp may /v1/Light.On everyone")
    CommandSet.objects.create(name="reading").patterns.create(pattern="/v1/Light.Read")
    rules = "/admin/acl/commandpermission/"
    browser = browser_of(staff("view_commandpermission"))
    assert "ssertion" not in browser.get(f"{rules}report/").content.decode()
    assert browser.get(f"{rules}commands/?q=/v1/Light").json() == {"found": []}


def test_no_page_tells_whether_there_is_a_row_that_one_may_not_see() -> None:
    token, _text = ApiToken.objects.issue(
        owner=User.objects.create_superuser("boss"), name="cron", scopes=["devices.view_device"]
    )
    models = filter(admin.site.is_registered, apps.get_models())
    admins = map(admin.site.get_model_admin, models)
    pages = {
        f"/admin/{one.opts.app_label}/{one.opts.model_name}/{route}"
        for one in admins
        for route in (
            "<int:object_id>/history/",
            *(page[0] for page in (one.own_pages() if isinstance(one, OwnPagesMixin) else ())),
        )
        if "<int:" in route
    }
    browser = browser_of(staff())
    asked = {page: browser.get(re.sub("<int:[a-z_]+>", "999999", page)) for page in pages}
    told = {page: answer.status_code for page, answer in asked.items()}
    # All staff may have tokens, and end theirs: those of others are none.
    end = f"{TOKENS}<int:object_id>/end/"
    assert told == dict.fromkeys(pages, 403) | {end: 404}
    assert browser.get(f"{TOKENS}{token.pk}/end/").status_code == 404
