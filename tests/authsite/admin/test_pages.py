"""What every page for browsers has in common: its policy, its errors, how it shows states."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.template.loader import get_template, render_to_string
from django.test import Client
from django.urls import reverse

from devices.admin.base.rendering import NOTHING, Tone, badge, moment
from devices.models import Device, DeviceGroup
from tests.support.rules import make_rule
from tests.support.staff import browser_of, staff

pytestmark = pytest.mark.once(on="sqlite")

EAST = timezone(timedelta(hours=8))


@pytest.mark.django_db
@pytest.mark.parametrize(
    "path", ["/", "/admin/login/", "/api/", "/nowhere", "/static/authsite/admin.css"]
)
def test_browsers_are_told_to_run_nothing_but_the_sites_own_files(
    client: Client, path: str
) -> None:
    response = client.get(path)
    response.close()
    policy = response.headers["Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["form-action"] == "'self'"
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    "asked",
    [
        "acl/commandpermission/?effect__exact=%00",
        "devices/device/?kind__exact=a%00b",
        "rpc/callrecord/?caller=%00",
        "devices/device/%00/history/",
        "devices/device/?group=" + 5000 * "9",
        f"devices/device/{5000 * '9'}/history/",
    ],
)
def test_what_no_database_holds_is_refused_and_does_not_fail(
    admin_client: Client, asked: str
) -> None:
    answer = admin_client.get(f"/admin/{asked}")
    assert answer.status_code == 400
    assert "This request makes no sense" in answer.content.decode()


@pytest.mark.parametrize(
    "sent", [{"description": "x" * 3_000_000}, {str(n): n for n in range(1001)}], ids=len
)
def test_too_long_a_form_is_told_as_that(admin_client: Client, sent: dict[str, object]) -> None:
    answer = admin_client.post("/admin/devices/device/add/", sent)
    assert answer.status_code == 413
    assert "Too much was sent at once" in answer.content.decode()


@pytest.mark.parametrize(
    "path",
    [
        "/admin/",
        "/admin/devices/device/",
        "/admin/devices/device/add/",
        "/admin/acl/commandpermission/add/",
        "/admin/acl/commandpermission/explain/",
    ],
)
def test_a_page_is_read_before_its_scripts_are_there(admin_client: Client, path: str) -> None:
    page = admin_client.get(path).content.decode()
    scripts = re.findall(r"<script (?=[^>]*\bsrc=)([^>]*)>", page)
    waited_for = [one for one in scripts if not re.search(r"\b(async|defer)\b", one)]
    assert len(scripts) > 2
    assert ["theme.js" in one for one in waited_for] == [True]  # a page in the dark never flashes


@pytest.mark.parametrize("use", ["auth", "register"])
def test_the_texts_of_a_passkey_s_script_come_before_it(use: str) -> None:
    """Where they came late, the button did nothing: the library's page does not wait for them."""
    page = get_template(f"django_otp_webauthn/{use}_scripts.html").render({"configuration": {}})
    assert re.findall(r"<script (defer|type=\"module\") src=", page) == ["defer", 'type="module"']
    assert "async" not in page


@pytest.mark.django_db
def test_a_host_that_is_not_ours_is_refused_with_a_page_of_ours(client: Client) -> None:
    answer = client.get("/admin/login/", headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert "host name in the address" in answer.content.decode()


@pytest.mark.parametrize("key", ["xyz", "1e9", "-1", "1,xyz", "9" * 30, "²"])
@pytest.mark.parametrize(
    "field",
    [
        "acl/commandpermission/add/?source_device",
        "acl/commandpermission/add/?command_set",
        "devices/certificate/add/?device",
        "devices/device/add/?groups",
        "devices/devicegroup/add/?parent",
    ],
)
def test_a_form_is_not_filled_with_the_key_of_no_row(
    admin_client: Client, field: str, key: str
) -> None:
    page = admin_client.get(f"/admin/{field}={key}")
    assert page.status_code == 200
    assert not page.context["adminform"].form[field.partition("?")[2]].value()


def test_a_form_is_filled_with_what_its_address_says(
    admin_client: Client, make_group: Callable[..., Any]
) -> None:
    groups = [make_group(), make_group()]
    keys = ",".join(str(group.pk) for group in groups)
    page = admin_client.get(f"/admin/devices/device/add/?groups={keys}&name=lamp")
    form = page.context["adminform"].form
    assert {str(key) for key in form["groups"].value()} == set(keys.split(","))
    assert form["name"].value() == "lamp"


@pytest.mark.django_db
def test_machines_are_not_sent_the_policy(client: Client) -> None:
    response = client.post("/deviceverifier", "{}", content_type="application/json")
    assert "Content-Security-Policy" not in response.headers


def test_a_missing_page_and_a_refusal_say_so_in_the_admins_dress(admin_client: Client) -> None:
    response = admin_client.get("/nowhere/")
    assert response.status_code == 404
    assert "This page does not exist" in response.content.decode()
    response = browser_of(staff()).get("/admin/devices/device/")
    assert response.status_code == 403
    page = response.content.decode()
    assert "You may not see or do this" in page
    assert "authsite/admin.css" in page


@pytest.mark.django_db
def test_a_form_without_its_token_is_refused_with_what_to_do() -> None:
    strict = Client(enforce_csrf_checks=True)
    response = strict.post("/admin/login/", {"username": "x"})
    assert response.status_code == 403
    page = response.content.decode()
    assert "This form is no longer valid" in page
    assert "<style" not in page


def test_the_page_of_a_failure_needs_nothing() -> None:
    page = render_to_string("500.html")
    assert "Something went wrong here" in page
    assert 'href="/admin/"' in page


def test_a_moment_is_utc_until_a_script_localises_it() -> None:
    shown = moment(datetime(2026, 1, 2, 3, 4, 5, tzinfo=EAST))
    assert shown == (
        '<time class="moment" datetime="2026-01-01T19:04:05Z" title="2026-01-01 19:04:05 UTC">'
        "2026-01-01 19:04 UTC</time>"
    )
    assert moment(None) == NOTHING


def test_a_badge_has_a_text_beside_its_tone() -> None:
    assert badge(Tone.BAD, "<none>") == '<span class="badge badge-bad">&lt;none&gt;</span>'
    with pytest.raises(ValueError, match="purple"):
        badge("purple", "x")


def heading(page: str) -> str:
    return str(re.findall(r"<h1>(.*?)</h1>", page)[-1])


def test_a_deletion_says_what_stands_in_its_way_and_leads_there(admin_client: Client) -> None:
    site = DeviceGroup.objects.create(name="site")
    hall = DeviceGroup.objects.create(name="hall", parent=site)
    within = f'<a href="{reverse("admin:devices_devicegroup_change", args=[hall.pk])}">hall</a>'
    page = reverse("admin:devices_devicegroup_delete", args=[site.pk])
    group_list = reverse("admin:devices_devicegroup_changelist")
    chosen = {"action": "delete_selected", "_selected_action": [site.pk]}
    for answer in (admin_client.get(page), admin_client.post(group_list, chosen)):
        shown = answer.content.decode()
        assert within in shown
        assert "delete them first:" in shown or "delete those first:" in shown
        assert ">Back</a>" in shown
        assert 'type="submit" class="destructive"' not in shown


def test_rows_are_called_alike_wherever_they_are_deleted(
    admin_client: Client, admin_user: User
) -> None:
    role = Group.objects.create(name="night shift")
    role.user_set.add(admin_user)
    of_one = admin_client.get(reverse("admin:auth_group_delete", args=[role.pk])).content.decode()
    assert heading(of_one) == "Delete role"
    assert "relationships" not in of_one
    for user, told, text in (
        (User.objects.create_user("kim"), "Delete accounts", "These accounts will be gone."),
        (admin_user, "Cannot delete accounts", "These accounts stay while others need them."),
    ):
        chosen = {"action": "delete_selected", "_selected_action": [user.pk]}
        of_many = admin_client.post(reverse("admin:auth_user_changelist"), chosen).content.decode()
        assert heading(of_many) == told
        assert text in of_many
        assert "Users" not in of_many


@pytest.mark.django_db
def test_a_row_that_one_may_not_see_is_named_without_a_link() -> None:
    device, group = (
        Device.objects.create(identifier="lamp"),
        DeviceGroup.objects.create(name="yard"),
    )
    make_rule(device, group)
    user = staff()
    client = browser_of(user)
    link = f'href="{reverse("admin:devices_device_change", args=[device.pk])}"'
    for held, is_linked in (("view_commandpermission", False), ("view_device", True)):
        user.user_permissions.add(Permission.objects.get(codename=held))
        page = client.get(reverse("admin:acl_commandpermission_changelist")).content.decode()
        assert "<bdi>lamp</bdi>" in page
        assert "<bdi>yard</bdi>" in page
        assert (link in page) is is_linked
        assert reverse("admin:devices_devicegroup_change", args=[group.pk]) not in page


def test_the_address_of_an_app_leads_to_the_start_page(admin_client: Client) -> None:
    assert admin_client.get("/admin/devices/").headers["Location"] == "/admin/"
    assert admin_client.get("/admin/nothing/").status_code == 404
