"""What staff do in the admin: every page answers, and each action does what it says."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from devices.admin.base.actions import set_digest
from devices.authentication import authenticate
from devices.history import history_of
from devices.models import Device, DeviceGroup, PreSharedKey
from tests.support.staff import browser_of, staff

pytestmark = pytest.mark.once(on="sqlite")

Factory = Callable[..., Device]
DAY = timedelta(days=1)


def url(name: str, *args: Any) -> str:
    return reverse(f"admin:devices_{name}", args=args)


def verified(device: Device, secret: str) -> bool:
    return authenticate(device.identifier, secret=secret).verified


def shown_secret(response: Any) -> str:
    found = re.search(r'id="secret">([^<]+)<', response.content.decode())
    assert found
    return found[1]


def send(client: Client, address: str, form: dict[str, str], **more: Any) -> Any:
    """Open a page with a one-time form, and send it."""
    token = client.get(address).context["form"]["token"].value()
    return client.post(address, {"token": str(token), **form}, **more)


@pytest.mark.parametrize(
    "page",
    [
        "device/none/issue-key/",
        "device/1/2/rotate-keys/",
        "presharedkey/none/revoke/",
        "certificate/none/revoke/",
        "certificateauthority/none/load-list/",
    ],
)
def test_a_page_of_a_row_that_cannot_be_is_no_failure(admin_client: Client, page: str) -> None:
    assert admin_client.get(f"/admin/devices/{page}").status_code in {302, 404}


def test_every_page_answers(admin_client: Client, make_device: Factory, make_group: Any) -> None:
    device = make_device(groups=[make_group()])
    key, _ = PreSharedKey.objects.issue(device=device)
    for address in (
        url("device_changelist") + "?q=device&kind__exact=device&credentials=usable",
        url("device_changelist") + "?credentials=none&o=8.7.5",
        url("device_add"),
        url("device_change", device.pk),
        url("device_issue_key", device.pk),
        url("device_rotate_keys", device.pk),
        url("presharedkey_changelist") + "?q=x",
        *(
            url("presharedkey_changelist") + f"?state={state}"
            for state in ("live", "expiring", "expired", "revoked")
        ),
        url("presharedkey_change", key.pk),
        url("presharedkey_revoke", key.pk),
        url("devicegroup_changelist"),
        url("devicegroup_add"),
        reverse("admin:index"),
    ):
        assert admin_client.get(address).status_code == 200, address


def test_a_device_is_added_and_an_address_with_a_component_is_explained(
    admin_client: Client,
) -> None:
    form = {"identifier": "//h/x.ui", "kind": "device", "enabled": "on", "attributes": "{}"}
    response = admin_client.post(url("device_add"), form)
    assert "use //h/x." in response.content.decode()
    admin_client.post(url("device_add"), form | {"identifier": "//h/x"})
    assert Device.objects.get().identifier == "//h/x"


@pytest.mark.parametrize("attributes", ["[]", "not json", "5"])
def test_attributes_are_an_object(admin_client: Client, attributes: str) -> None:
    form = {"identifier": "x", "kind": "device", "attributes": attributes}
    response = admin_client.post(url("device_add"), form)
    assert response.status_code == 200
    assert not Device.objects.exists()


def test_the_identifier_of_a_registered_device_stays(
    admin_client: Client, make_device: Factory
) -> None:
    device = make_device("before")
    form = {
        "identifier": "after",
        "name": "named",
        "kind": "device",
        "attributes": "{}",
    }
    response = admin_client.post(url("device_change", device.pk), form)
    assert response.status_code == 302, response.context["errors"]
    device.refresh_from_db()
    assert (device.identifier, device.name, device.enabled) == ("before", "named", True)


def test_an_issued_secret_is_shown_once_and_kept_by_nobody(
    admin_client: Client, make_device: Factory
) -> None:
    device = make_device()
    response = send(admin_client, url("device_issue_key", device.pk), {"label": "factory"})
    secret = shown_secret(response)
    assert "no-store" in response["Cache-Control"]
    assert verified(device, secret)
    for address in (
        url("device_change", device.pk),
        url("presharedkey_changelist"),
        url("presharedkey_change", PreSharedKey.objects.get().pk),
        reverse("admin:devices_device_history", args=[device.pk]),
    ):
        assert secret not in admin_client.get(address).content.decode()
    assert secret not in str(list(history_of(PreSharedKey).objects.values()))


def test_a_known_secret_is_registered_with_its_white_space_and_a_warning(
    admin_client: Client, make_device: Factory
) -> None:
    device = make_device()
    address = url("device_issue_key", device.pk)
    response = send(admin_client, address, {"secret": " qwerty "}, follow=True)
    page = response.content.decode()
    assert "It is weak." in page
    assert "qwerty" not in page
    assert verified(device, " qwerty ")


@pytest.mark.parametrize(
    ("form", "complaint"),
    [
        ({"secret": "ab"}, "3 to 128"),
        ({"secret": "a short one", "random": "on"}, "128 random bits"),
        (
            {
                "not_before_0": "2030-01-01",
                "not_before_1": "00:00",
                "not_after_0": "2029-01-01",
                "not_after_1": "00:00",
            },
            "must lie after",
        ),
    ],
)
def test_a_key_that_cannot_be_is_refused_at_the_form(
    admin_client: Client, make_device: Factory, form: dict[str, str], complaint: str
) -> None:
    address = url("device_issue_key", make_device().pk)
    response = send(admin_client, address, {"label": "kept"} | form)
    page = response.content.decode()
    assert complaint in page
    assert 'value="kept"' in page
    assert not PreSharedKey.objects.exists()


def test_rotation_shows_the_new_secret_and_ends_the_old_one(
    admin_client: Client, make_device: Factory
) -> None:
    device = make_device()
    _, old = PreSharedKey.objects.issue(device=device)
    address = url("device_rotate_keys", device.pk)
    response = send(admin_client, address, {"overlap": "0", "label": "next"})
    assert verified(device, shown_secret(response))
    assert not verified(device, old)


def test_a_key_is_revoked_with_a_reason_by_whoever_is_signed_in(
    admin_client: Client, make_device: Factory
) -> None:
    device = make_device()
    key, secret = PreSharedKey.objects.issue(device=device)
    admin_client.get(url("presharedkey_revoke", key.pk))
    assert verified(device, secret)
    admin_client.post(url("presharedkey_revoke", key.pk), {"reason": "lost"})
    key.refresh_from_db()
    assert (key.revoked_by, key.revoked_reason) == ("admin", "lost")
    assert not verified(device, secret)
    page = admin_client.get(url("presharedkey_change", key.pk)).content.decode()
    assert url("presharedkey_revoke", key.pk) not in page


def act(client: Client, name: str, action: str, *rows: Any, **form: str) -> Any:
    return client.post(
        url(name), {"action": action, "_selected_action": [row.pk for row in rows], **form}
    )


def test_keys_are_revoked_after_a_confirmation(admin_client: Client, make_device: Factory) -> None:
    keys = [PreSharedKey.objects.issue(device=make_device())[0] for _ in range(2)]
    page = act(admin_client, "presharedkey_changelist", "revoke", *keys)
    assert not PreSharedKey.objects.exclude(revoked_at=None).exists()
    again = {"confirmed": "yes", "shown": dict(page.context["own_hidden"])["shown"], "reason": "x"}
    act(admin_client, "presharedkey_changelist", "revoke", *keys, **again)
    assert PreSharedKey.objects.filter(revoked_reason="x").count() == 2


def test_a_revoked_key_is_kept(admin_client: Client, make_device: Factory) -> None:
    device = make_device()
    live, revoked = (PreSharedKey.objects.issue(device=device)[0] for _ in range(2))
    revoked.revoke(by="ops")
    confirmed = {"post": "yes"}
    assert admin_client.post(url("presharedkey_delete", revoked.pk), confirmed).status_code == 403
    act(admin_client, "presharedkey_changelist", "delete_selected", live, revoked, **confirmed)
    assert PreSharedKey.objects.count() == 2
    act(admin_client, "presharedkey_changelist", "delete_selected", live, **confirmed)
    assert PreSharedKey.objects.get() == revoked


def test_the_states_of_keys_are_told_apart(admin_client: Client, make_device: Factory) -> None:
    now = timezone.now()
    device = make_device()
    for label, end in (("live", None), ("expiring", DAY), ("expired", -DAY), ("revoked", None)):
        key, _ = PreSharedKey.objects.issue(
            device=device, label=label, not_after=now + end if end else None
        )
        if label == "revoked":
            key.revoke(by="ops")
    found = {
        state: {
            key.label
            for key in admin_client.get(url("presharedkey_changelist"), {"state": state})
            .context["cl"]
            .queryset
        }
        for state in ("live", "expiring", "expired", "revoked")
    }
    assert found == {
        "live": {"live", "expiring"},
        "expiring": {"expiring"},
        "expired": {"expired"},
        "revoked": {"revoked"},
    }


def test_moments_that_are_only_shown_follow_the_readers_zone(
    admin_client: Client, make_device: Factory
) -> None:
    device = make_device()
    key, _ = PreSharedKey.objects.issue(device=device)
    key.revoke(by="ops")
    loose = re.compile(r">[^<>]*\d{4}-\d\d-\d\d \d\d:\d\d(?! UTC)")
    for page in (
        url("device_change", device.pk),
        url("device_history", device.pk),
        url("presharedkey_change", key.pk),
    ):
        content = admin_client.get(page).content.decode()
        assert '<time class="moment"' in content
        assert not loose.search(content)


def test_a_key_says_who_revoked_it_once_somebody_has(
    admin_client: Client, make_device: Factory
) -> None:
    key, _ = PreSharedKey.objects.issue(device=make_device())
    page = url("presharedkey_change", key.pk)
    assert "Revoked by" not in admin_client.get(page).content.decode()
    key.revoke(by="ops")
    assert "Revoked by" in admin_client.get(page).content.decode()


def test_who_may_only_look_can_change_nothing(make_device: Factory) -> None:
    auditor = browser_of(staff(role="Auditor"))
    device = make_device()
    key, secret = PreSharedKey.objects.issue(device=device)
    page = auditor.get(url("device_change", device.pk)).content.decode()
    assert "Issue a key" not in page
    for address in (
        url("device_issue_key", device.pk),
        url("device_rotate_keys", device.pk),
        url("presharedkey_revoke", key.pk),
    ):
        assert auditor.post(address, {"overlap": "0"}).status_code == 403
    devices, keys = set_digest(Device.objects.all()), set_digest(PreSharedKey.objects.all())
    act(auditor, "device_changelist", "disable", device, confirmed="yes", shown=devices)
    act(auditor, "presharedkey_changelist", "revoke", key, confirmed="yes", shown=keys)
    assert verified(device, secret)


def test_who_is_not_signed_in_sees_no_page(client: Client, make_device: Factory) -> None:
    device = make_device()
    for address in (url("device_changelist"), url("device_issue_key", device.pk)):
        response = client.post(address)
        assert response.status_code == 302
        assert "/login/" in response["Location"]


def test_a_group_cannot_lie_within_itself(admin_client: Client, make_group: Any) -> None:
    site = make_group("site")
    building = make_group("building", parent=site)
    response = admin_client.post(
        url("devicegroup_change", site.pk), {"name": "site", "parent": building.pk}
    )
    assert "cannot lie within itself" in response.content.decode()
    site.refresh_from_db()
    assert site.parent is None
    assert DeviceGroup.objects.count() == 2


def test_editing_a_key_undoes_nothing_that_happened_meanwhile(
    admin_client: Client, make_device: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, _ = PreSharedKey.objects.issue(device=make_device())
    clean = PreSharedKey.clean

    def clean_while_others_write(self: PreSharedKey) -> None:
        clean(self)
        PreSharedKey.objects.filter(pk=key.pk).update(
            revoked_at=timezone.now(), digest="of another server", pepper="newest"
        )

    monkeypatch.setattr(PreSharedKey, "clean", clean_while_others_write)
    form = {"label": "edited", "not_before_0": "", "not_before_1": ""}
    form |= {"not_after_0": "2099-01-01", "not_after_1": "00:00"}
    answer = admin_client.post(url("presharedkey_change", key.pk), form)
    assert answer.status_code == 302
    key.refresh_from_db()
    assert key.label == "edited"
    assert key.not_after
    assert key.revoked_at
    assert (key.digest, key.pepper) == ("of another server", "newest")


def test_editing_a_device_undoes_nothing_that_happened_meanwhile(
    admin_client: Client, make_device: Factory, make_group: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, group = make_device(), make_group()
    clean = Device.clean

    def clean_while_others_write(self: Device) -> None:
        clean(self)
        Device.objects.filter(pk=device.pk).update(enabled=False, last_seen=timezone.now())

    monkeypatch.setattr(Device, "clean", clean_while_others_write)
    form: dict[str, Any] = {"kind": "device", "name": "edited", "enabled": "on"}
    form["groups"] = [group.pk]
    form |= {"description": "", "attributes": "{}"}
    answer = admin_client.post(url("device_change", device.pk), form)
    assert answer.status_code == 302
    updated = device.updated
    device.refresh_from_db()
    assert (device.name, device.enabled) == ("edited", False)
    assert device.last_seen
    assert device.updated > updated
    assert device.groups.get() == group


def test_an_action_that_would_change_nothing_says_so_and_asks_nothing(
    admin_client: Client, make_device: Factory
) -> None:
    chosen = {"action": "enable", "_selected_action": [make_device().pk, make_device().pk]}
    text = admin_client.post(url("device_changelist"), chosen).content.decode()
    assert "Nothing will change." in text
    assert "2 were selected." in text
    assert "Reason for the history" not in text
    assert 'class="closelink"' in text


def test_what_is_confirmed_names_the_device_as_people_do(
    admin_client: Client, make_device: Factory
) -> None:
    device = make_device(name="Pump in hall 3")
    for page in ("disable", "delete", "rotate_keys", "issue_key"):
        text = admin_client.get(url(f"device_{page}", device.pk)).content.decode()
        assert "<h2><bdi>Pump in hall 3</bdi></h2>" in text, page


def test_a_rotation_with_an_overlap_says_until_when_the_old_secrets_admit(
    admin_client: Client, make_device: Factory
) -> None:
    device = make_device()
    page = url("device_rotate_keys", device.pk)
    assert "Old secrets" not in send(admin_client, page, {"overlap": "24"}).content.decode()
    shown = send(admin_client, page, {"overlap": "24"}).content.decode()
    assert "Old secrets admit the device until" in shown
    sooner = timezone.now() + timedelta(hours=2)
    PreSharedKey.objects.filter(device=device).update(not_after=sooner)
    shown = send(admin_client, page, {"overlap": "24"}).content.decode()
    assert f'datetime="{sooner.isoformat()[:19]}' in shown
    assert "Old secrets" not in send(admin_client, page, {"overlap": "0"}).content.decode()
