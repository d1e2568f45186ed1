"""Keys, certificates, trust anchors and their lists over the API."""

import logging
from typing import Any

import pytest
from rest_framework.test import APIClient

from devices.authentication import authenticate
from devices.models import Certificate, CertificateAuthority, Device, IdempotentAnswer, PreSharedKey
from tests.support import pki

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]
V1 = "/api/v1"
CHOSEN = "correct horse battery staple 7"


def post(client: APIClient, path: str, body: Any, **headers: str) -> Any:
    return client.post(f"{V1}/{path}", body, format="json", headers=headers)


def is_let_in(device: Device, secret: str) -> bool:
    return authenticate(device.identifier, secret=secret).verified


def test_a_generated_secret_is_in_one_answer_only(api: APIClient, make_device: Any) -> None:
    device = make_device()
    made = post(api, "keys", {"device": device.pk, "label": "2026"})
    assert made.status_code == 201, made.data
    secret = made.data["secret"]
    assert is_let_in(device, secret)
    read = api.get(made["Location"])
    assert "secret" not in read.data
    assert (read.data["state"], read.data["label"]) == ("verified", "2026")
    for path in ("keys", "changes", f"devices/{device.pk}"):
        assert secret not in api.get(f"{V1}/{path}").content.decode()


def test_a_repeat_has_the_secret_again_and_the_database_never(
    api: APIClient, make_device: Any
) -> None:
    device, key = make_device(), {"Idempotency-Key": "4b1b6f1e-8d8f-4a53-a4a7-0d5c6d4b7b42"}
    first = post(api, "keys", {"device": device.pk}, **key)
    again = post(api, "keys", {"device": device.pk}, **key)
    assert again.json() == first.json()
    assert PreSharedKey.objects.count() == 1
    kept = IdempotentAnswer.objects.get()
    assert first.data["secret"].encode() not in bytes(kept.answer or b"")
    assert key["Idempotency-Key"] not in kept.name + kept.fingerprint


KNOWN: list[tuple[dict[str, Any], int, str]] = [
    ({"secret": CHOSEN}, 201, ""),
    ({"secret": "0" * 20}, 201, "weak"),
    ({"secret": "0123456789abcdefghijklmnop", "random": True}, 201, ""),
    ({"secret": "ab"}, 400, "#/secret"),
    ({"secret": "ab" * 10, "random": True}, 400, "#/secret"),
    ({"secret": 123456}, 400, "#/secret"),
    ({"secret": ""}, 400, "#/secret"),
    ({"random": "yes"}, 400, "#/random"),
    ({"not_after": "2030-01-01"}, 400, "#/not_after"),
    ({"not_after": 1893456000}, 400, "#/not_after"),
    ({"not_after": "2020-01-01T00:00:00Z"}, 400, "#/not_after"),
    ({"not_after": "2020-01-01T00:00:00Z", "secret": "a chosen secret"}, 400, "#/not_after"),
    ({"device": "1"}, 400, "#/device"),
    ({"device": None}, 400, "#/device"),
]


@pytest.mark.parametrize(("body", "status", "told"), KNOWN, ids=[str(one[0]) for one in KNOWN])
def test_registers_known_secrets(
    api: APIClient, make_device: Any, body: dict[str, Any], status: int, told: str
) -> None:
    device = make_device()
    answer = post(api, "keys", {"device": device.pk, **body})
    assert answer.status_code == status, answer.data
    if status == 201:
        assert "secret" not in answer.data
        assert bool(answer.data["warnings"]) == bool(told)
        assert is_let_in(device, body["secret"])
    else:
        assert [error["pointer"] for error in answer.data["errors"]] == [told]
        assert str(body.get("secret") or "-none-") not in answer.content.decode()


def test_rotates_revokes_and_keeps_what_was_revoked(api: APIClient, make_device: Any) -> None:
    device = make_device()
    old = post(api, "keys", {"device": device.pk}).data
    new = post(api, f"devices/{device.pk}/rotate-keys", {"overlap_seconds": 3600})
    assert new.status_code == 201, new.data
    assert is_let_in(device, old["secret"])
    assert is_let_in(device, new.data["secret"])
    last = post(api, f"devices/{device.pk}/rotate-keys", {})
    assert not is_let_in(device, new.data["secret"])
    assert is_let_in(device, last.data["secret"])
    path = f"keys/{last.data['id']}"
    revoked = post(api, f"{path}/revoke", {"reason": "lost"})
    assert (revoked.data["state"], revoked.data["revoked_reason"]) == ("revoked", "lost")
    assert revoked.data["revoked_by"] == "admin"
    assert not is_let_in(device, last.data["secret"])
    kept = api.delete(f"{V1}/{path}", headers={"If-Match": revoked["ETag"]})
    assert (kept.status_code, kept.json()["code"]) == (409, "revoked")
    again = post(api, "keys", {"device": device.pk, "secret": last.data["secret"]})
    assert again.status_code == 400


def test_provisions_a_device_in_one_step(api: APIClient, make_group: Any) -> None:
    group, leaf = make_group(), pki.device_certificate("//example/new")
    body = {
        "identifier": "//example/new",
        "groups": [group.pk],
        "key": {"label": "factory"},
        "certificate": leaf.pem,
    }
    tried = post(api, "devices/provision?validate_only=true", body)
    assert tried.data["result"]["key"]["label"] == "factory"
    assert "secret" not in str(tried.data)
    assert not Device.objects.exists()
    made = post(api, "devices/provision", body)
    assert made.status_code == 201, made.data
    device = Device.objects.get()
    assert is_let_in(device, made.data["key"]["secret"])
    assert authenticate("//example/new", certificate=leaf.pem).verified
    assert made.data["groups"] == [group.pk]
    assert made["Location"] == f"{V1}/devices/{device.pk}"


def test_provisioning_tells_of_a_backend_that_basic_cannot_name(api: APIClient) -> None:
    for identifier, is_told in (("rtio:one", True), ("rtio-two", False)):
        answer = post(api, "devices/provision", {"identifier": identifier, "kind": "backend"})
        assert any("first colon" in one for one in answer.data["warnings"]) == is_told


def test_provisioning_tells_of_a_device_that_rtio_cannot_use(api: APIClient) -> None:
    for identifier, is_told in (("lamp-17", True), ("é" * 36, True), ("x" * 36, False)):
        answer = post(api, "devices/provision", {"identifier": identifier})
        assert any("cannot use" in one for one in answer.data["warnings"]) == is_told


WRONG_DEVICES = [
    ({"key": {"secret": "ab"}}, "#/key/secret"),
    ({"key": {"colour": "red"}}, "#/key/colour"),
    ({"key": []}, "#/key"),
    (
        {"key": {"not_after": "2020-01-01T00:00:00Z", "not_before": "2021-01-01T00:00:00Z"}},
        "#/key/not_after",
    ),
    ({"key": {"not_after": "2020-01-01T00:00:00Z"}}, "#/key/not_after"),
    ({"certificate": "no certificate"}, "#/certificate"),
    ({"groups": [404]}, "#/groups/0"),
]


@pytest.mark.parametrize(
    ("more", "pointer"), WRONG_DEVICES, ids=[str(one[0]) for one in WRONG_DEVICES]
)
def test_provisions_wholly_or_not(api: APIClient, more: dict[str, Any], pointer: str) -> None:
    answer = post(api, "devices/provision", {"identifier": "one", **more})
    assert answer.status_code == 400
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]
    assert not Device.objects.exists()


def test_certificates_are_pinned_and_revoked(api: APIClient, make_device: Any) -> None:
    device, leaf = make_device("known"), pki.device_certificate("known")
    made = post(api, "certificates", {"device": device.pk, "certificate": leaf.pem})
    assert made.status_code == 201, made.data
    assert authenticate("known", certificate=leaf.pem).verified
    twice = post(api, "certificates", {"device": device.pk, "certificate": leaf.pem})
    assert [error["pointer"] for error in twice.json()["errors"]] == ["#/certificate"]
    found = api.get(f"{V1}/certificates?fingerprint_prefix={made.data['fingerprint'][:12]}")
    assert [row["id"] for row in found.json()["results"]] == [made.data["id"]]
    revoked = post(api, f"certificates/{made.data['id']}/revoke", {"key_too": True})
    assert revoked.data["pin"] == "public-key"
    assert not authenticate("known", certificate=leaf.pem).verified
    other = pki.device_certificate("known", serial=77)
    presented = {"device": device.pk, "certificate": other.pem, "reason": "found"}
    answer = post(api, "certificates/revoke-presented", presented)
    assert answer.status_code in {200, 400}
    assert Certificate.objects.exclude(revoked_at=None).count() >= 1


def test_a_private_key_is_refused_and_not_repeated(
    api: APIClient, make_device: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    text = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0IGtleQ==\n-----END PRIVATE KEY-----\n"
    answer = post(api, "certificates", {"device": make_device().pk, "certificate": text})
    assert answer.status_code == 400
    assert "c2VjcmV0" not in answer.content.decode() + caplog.text


def test_trust_anchors_and_their_lists(api: APIClient) -> None:
    root = pki.authority("Root")
    made = post(api, "trust-anchors", {"name": "Factory", "certificate": root.pem})
    assert made.status_code == 201, made.data
    taken = post(api, "trust-anchors", {"name": "Factory", "certificate": pki.authority("B").pem})
    assert [(one["pointer"], one["code"]) for one in taken.data["errors"]] == [("#/name", "unique")]
    path = f"{V1}/trust-anchors/{made.data['id']}"
    changed = api.patch(
        path, {"crl_policy": "require"}, format="json", headers={"If-Match": made["ETag"]}
    )
    assert changed.data["crl_policy"] == "require"
    wrong = api.post(f"{path}/revocation-list", b"no list", content_type="application/pkix-crl")
    assert wrong.status_code == 400
    empty = api.post(f"{path}/revocation-list", b"", content_type="application/pkix-crl")
    assert empty.status_code == 400
    crl = pki.revocation_list(root, 7, der=True)
    loaded = api.post(f"{path}/revocation-list", crl, content_type="application/pkix-crl")
    assert (loaded.status_code, loaded.data["entries"]) == (200, 1)
    listed = api.get(f"{V1}/revocation-lists?authority={made.data['id']}").json()["results"]
    assert [row["loaded_by"] for row in listed] == ["admin"]
    gone = api.delete(path, headers={"If-Match": changed["ETag"]})
    assert gone.status_code == 204
    assert not CertificateAuthority.objects.exists()


def test_tries_a_credential(api: APIClient, make_device: Any, settings: Any) -> None:
    device = make_device("known")
    secret = post(api, "keys", {"device": device.pk}).data["secret"]
    yes = post(api, "devices/try-credential", {"device": "known", "secret": secret})
    assert (yes.status_code, yes.data["outcome"]) == (200, "verified"), yes.data
    device.refresh_from_db()
    assert device.last_seen is None
    for _ in range(10):
        no = post(
            api,
            "devices/try-credential",
            {"device": "known", "secret": "wrong"},
            **{"Change-Reason": 254 * "x"},
        )
        assert no.data["verified"] is False
    bounded = post(api, "devices/try-credential", {"device": "known", "secret": "wrong"})
    assert (bounded.status_code, bounded["Retry-After"]) == (429, "900")
    reasons = list(Device.history.values_list("history_change_reason", flat=True)[:11])
    assert reasons[9] == f"{227 * 'x'}: tried secret: wrong-secret"
    assert reasons[10] == "tried secret: verified"
    for body in ({"device": "unknown", "secret": "x"}, {"device": "known"}, {"device": 7}):
        assert post(api, "devices/try-credential", body).status_code == 400


def test_a_try_that_leaves_no_trace_cannot_be_had(api: APIClient, make_device: Any) -> None:
    body = {"device": make_device("known").identifier, "secret": "guessed"}
    refused = post(api, "devices/try-credential?validate_only=true", body)
    assert refused.json()["errors"][0]["parameter"] == "validate_only"
    assert "verified" not in refused.data


def test_groups_hold_devices(api: APIClient, make_device: Any) -> None:
    site = post(api, "groups", {"name": "Site"}).data
    house = post(api, "groups", {"name": "House", "parent": site["id"]})
    assert house.status_code == 201, house.data
    devices = [make_device().pk for _ in range(3)]
    added = post(api, f"groups/{house.data['id']}/members", {"devices": devices})
    assert added.data == {"changed": 3}
    assert (
        post(api, f"groups/{house.data['id']}/members", {"devices": devices}).data["changed"] == 0
    )
    stale = api.post(
        f"{V1}/groups/{house.data['id']}/members/remove",
        {"devices": devices},
        format="json",
        headers={"If-Match": site["etag"]},
    )
    assert stale.status_code == 412
    listed = api.get(f"{V1}/devices?group={house.data['id']}").json()["results"]
    assert [row["id"] for row in listed] == devices
    post(api, f"groups/{house.data['id']}/members/remove", {"devices": devices[:1]})
    assert Device.groups.through.objects.count() == 2
    held = api.delete(f"{V1}/groups/{site['id']}", headers={"If-Match": site["etag"]})
    assert (held.status_code, held.json()["code"]) == (409, "in-use")
    loop = api.patch(
        f"{V1}/groups/{site['id']}",
        {"parent": house.data["id"]},
        format="json",
        headers={"If-Match": site["etag"]},
    )
    assert [error["pointer"] for error in loop.json()["errors"]] == ["#/parent"]


ASKED = [
    ("", 6),
    ("model=devices.device", 3),
    ("device={one}", 3),
    ("model=devices.device&row={two}", 1),
    ("user=nobody", 0),
    ("user=", 0),
    ("user=admin", 6),
    ("since=2999-01-01T00:00:00Z", 0),
    ("until=2999-01-01T00:00:00Z", 6),
]


@pytest.mark.parametrize(("query", "count"), ASKED, ids=[one[0] for one in ASKED])
def test_changes_are_told_latest_first(api: APIClient, query: str, count: int) -> None:
    group = post(api, "groups", {"name": "lab"}).data["id"]
    one = post(api, "devices", {"identifier": "one", "groups": [group]}).data["id"]
    two = post(api, "devices", {"identifier": "two"}).data["id"]
    post(api, f"devices/{one}/disable", {"reason": "stolen"})
    post(api, f"groups/{group}/members/remove", {"devices": [one]})
    path: str | None = f"{V1}/changes?{query.format(one=one, two=two)}&limit=2".replace("?&", "?")
    seen: list[Any] = []
    while path:
        page = api.get(path).json()
        seen += page["results"]
        path = page["next"]
    expected = count + (1 if query == "device={one}" else 0)
    assert len(seen) == expected, seen
    if not query:
        disabled = next(change for change in seen if change["reason"] == "stolen")
        assert disabled["fields_changed"] == [
            {"field": "enabled", "name": "Enabled", "old": "Yes", "new": "No"}
        ]
        assert (disabled["origin"], disabled["user"], disabled["row"]) == ("api", "admin", one)


@pytest.mark.parametrize(
    "query", ["cursor=x", "model=auth.user", "row=7", "since=yesterday", "device=x", "colour=red"]
)
def test_changes_refuse_what_cannot_be_asked(api: APIClient, query: str) -> None:
    assert api.get(f"{V1}/changes?{query}").status_code == 400
