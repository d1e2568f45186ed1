"""What staff do with certificates, trust anchors and revocation lists in the admin."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from devices.admin.base.actions import set_digest
from devices.authentication import authenticate
from devices.history import history_of
from devices.models import Certificate, CertificateAuthority, Device, RevokedSerial
from devices.models.credentials.certificate import Pin
from devices.verdicts import Outcome
from tests.support.pki import (
    DAY,
    NOW,
    YEAR,
    Party,
    authority,
    device_certificate,
    pem,
    revocation_list,
)
from tests.support.staff import browser_of, staff

pytestmark = pytest.mark.once(on="sqlite")

ROOT = authority("Root")
LEAF = device_certificate("sensor-1", ROOT, serial=0xABC, uris=["urn:dev:7"], dns=["a.example"])
ANCHOR = {
    "name": "Factory",
    "enabled": "on",
    "name_source": "common-name",
    "name_pattern": "{id}",
    "identifier_pattern": "{id}",
    "crl_policy": "refuse",
}


def url(name: str, *args: Any) -> str:
    return reverse(f"admin:devices_{name}", args=args)


def outcome(party: Party = LEAF) -> Outcome:
    return authenticate("sensor-1", certificate=party.pem, now=NOW, record=False).outcome


def file(content: bytes) -> SimpleUploadedFile:
    return SimpleUploadedFile("file", content)


def shown_and_saved(client: Client, address: str, form: dict[str, Any]) -> tuple[str, Any]:
    """Send a form, then what its preview brings along; return the preview and the answer."""
    answer = client.post(address, form)
    context = answer.context
    read = context["adminform"].form if "adminform" in context else context["form"]
    assert read.preview is not None, read.errors
    kept = {name: value for name, value in form.items() if name != "file"}
    brought = {name: read[name].value() for name in ("presented", "confirmed")}
    return answer.content.decode(), client.post(address, kept | brought, follow=True)


@pytest.fixture(autouse=True)
def device(make_device: Callable[..., Device]) -> Device:
    return make_device("sensor-1")


@pytest.fixture
def row(device: Device) -> Certificate:
    return Certificate.objects.register(device=device, presented=LEAF.pem)


@pytest.fixture
def anchor(device: Device) -> CertificateAuthority:
    return CertificateAuthority.objects.register(presented=ROOT.pem, name="Root")


def test_every_page_answers(
    admin_client: Client, device: Device, row: Certificate, anchor: CertificateAuthority
) -> None:
    anchor.load_list(revocation_list(ROOT, 5), by="ann")
    other = CertificateAuthority.objects.register(presented=authority("Other").pem, name="Other")
    for address in (
        url("certificate_changelist") + "?q=sensor",
        *(
            url("certificate_changelist") + f"?state={state}"
            for state in ("live", "expiring", "expired", "revoked")
        ),
        url("certificate_add") + f"?device={device.pk}",
        url("certificate_change", row.pk),
        url("certificate_revoke", row.pk),
        url("certificateauthority_changelist") + "?q=root&o=5",
        *(
            url("certificateauthority_changelist") + f"?list={state}"
            for state in ("none", "current", "outdated")
        ),
        url("certificateauthority_add"),
        url("certificateauthority_change", anchor.pk),
        url("certificateauthority_change", other.pk),
        url("certificateauthority_load_list", anchor.pk),
        url("device_change", device.pk),
    ):
        assert admin_client.get(address).status_code == 200, address


@pytest.mark.parametrize("rows", [1, 12])
def test_the_lists_cost_the_same_statements_however_long(
    admin_client: Client, device: Device, django_assert_max_num_queries: Any, rows: int
) -> None:
    for number in range(rows):
        party = authority(f"Authority {number}")
        Certificate.objects.register(device=device, presented=party.pem)
        anchor = CertificateAuthority.objects.register(presented=party.pem, name=str(number))
        anchor.load_list(revocation_list(party), by="ann")
    with django_assert_max_num_queries(6):
        admin_client.get(url("certificate_changelist"))
    with django_assert_max_num_queries(6):
        admin_client.get(url("certificateauthority_changelist"))


@pytest.mark.parametrize(
    "given",
    [
        {"presented": LEAF.pem},
        {"presented": pem(LEAF, ROOT)},
        {"file": file(LEAF.pem.encode())},
        {"file": file(LEAF.der)},
    ],
    ids=["text", "chain", "PEM file", "DER file"],
)
def test_registering_shows_what_was_read(
    admin_client: Client, device: Device, given: dict[str, Any]
) -> None:
    form = {"device": device.pk, "label": "first", "pin": "public-key"}
    form |= {"_change_reason": "new sensor"}
    preview, response = shown_and_saved(admin_client, url("certificate_add"), form | given)
    row = Certificate.objects.get()
    assert response.redirect_chain == [(url("certificate_change", row.pk), 302)]
    page = response.content.decode()
    assert history_of(Certificate).objects.get().history_change_reason == "new sensor"
    assert 'value="new sensor"' in preview
    assert "Nothing is saved yet." in preview
    assert "Please correct" not in preview
    for shown in (
        "CN=sensor-1",
        "CN=Root",
        "abc",
        "EC secp256r1",
        "urn:dev:7",
        "a.example",
        row.fingerprint,
        f"{NOW + YEAR:%Y-%m-%d}",
    ):
        assert shown in page, shown
        assert shown in preview, shown
    assert (row.device, row.label, row.pin) == (device, "first", Pin.PUBLIC_KEY)
    assert outcome() is Outcome.VERIFIED


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({}, "Paste the PEM text or choose a file."),
        ({"presented": "nonsense"}, "cannot be read"),
        ({"presented": LEAF.pem, "device": ""}, "This field is required."),
        ({"presented": "x" * 70_000}, "at most 65536 characters"),
        ({"file": file(b"x" * 70_000)}, "longer than 64 KiB"),
        ({"presented": LEAF.pem + "-----BEGIN PRIVATE KEY-----"}, "private key"),
        ({"presented": device_certificate("x", ends=NOW - DAY).pem}, "expired on"),
    ],
)
def test_what_cannot_be_registered_is_refused_at_the_form(
    admin_client: Client, device: Device, given: dict[str, Any], complaint: str
) -> None:
    form = {"device": device.pk, "label": "kept", "pin": "certificate"}
    response = admin_client.post(url("certificate_add"), form | given)
    page = response.content.decode()
    assert complaint in page
    assert 'value="kept"' in page
    assert "PRIVATE KEY" not in page
    assert not Certificate.objects.exists()


def test_a_certificate_is_registered_once_for_a_device(
    admin_client: Client, device: Device, row: Certificate
) -> None:
    form = {"device": device.pk, "pin": "certificate", "presented": LEAF.pem}
    response = admin_client.post(url("certificate_add"), form)
    assert "has this certificate already" in response.content.decode()
    row.revoke(by="ann")
    response = admin_client.post(url("certificate_add"), form)
    assert "stays so" in response.content.decode()


def test_only_the_label_of_a_certificate_can_be_edited(
    admin_client: Client, row: Certificate
) -> None:
    admin_client.post(
        url("certificate_change", row.pk), {"label": "new", "pin": "public-key", "pem": "x"}
    )
    row.refresh_from_db()
    assert (row.label, row.pin, row.pem) == ("new", Pin.CERTIFICATE, LEAF.pem)


def test_editing_a_certificate_undoes_no_revocation_that_came_between(
    admin_client: Client, row: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clean_while_staff_revoke(self: Certificate) -> None:
        Certificate.objects.get(pk=row.pk).revoke(by="a colleague")

    monkeypatch.setattr(Certificate, "clean", clean_while_staff_revoke)
    answer = admin_client.post(url("certificate_change", row.pk), {"label": "edited"})
    assert answer.status_code == 302
    row.refresh_from_db()
    assert (row.label, row.revoked_by) == ("edited", "a colleague")


def test_a_certificate_is_revoked_with_a_reason_by_whoever_is_signed_in(
    admin_client: Client, row: Certificate
) -> None:
    admin_client.get(url("certificate_revoke", row.pk))
    assert outcome() is Outcome.VERIFIED
    admin_client.post(url("certificate_revoke", row.pk), {"reason": "lost", "key_too": "on"})
    row.refresh_from_db()
    assert (row.revoked_by, row.revoked_reason, row.pin) == ("admin", "lost", Pin.PUBLIC_KEY)
    assert outcome() is Outcome.REVOKED
    page = admin_client.get(url("certificate_change", row.pk)).content.decode()
    assert url("certificate_revoke", row.pk) not in page


def test_a_revoked_certificate_cannot_be_deleted_and_others_can(
    admin_client: Client, device: Device, row: Certificate
) -> None:
    other = Certificate.objects.register(device=device, presented=device_certificate("other").pem)
    row.revoke(by="ann")
    rows = [row.pk, other.pk]
    delete = {"action": "delete_selected", "_selected_action": rows, "post": "yes"}
    admin_client.post(url("certificate_changelist"), delete)
    admin_client.post(url("certificate_delete", row.pk), {"post": "yes"})
    assert Certificate.objects.count() == 2
    admin_client.post(url("certificate_delete", other.pk), {"post": "yes"})
    assert Certificate.objects.get() == row


def test_a_device_with_a_revoked_certificate_can_be_deleted_and_the_revocation_stays(
    admin_client: Client, device: Device, row: Certificate
) -> None:
    row.revoke(by="ann")
    admin_client.post(url("device_delete", device.pk), {"post": "yes"})
    assert not Device.objects.exists()
    assert Certificate.objects.get().device is None
    assert admin_client.get(url("certificate_change", row.pk)).status_code == 200
    assert admin_client.get(url("certificate_changelist")).status_code == 200


def test_certificates_are_revoked_after_a_confirmation(
    admin_client: Client, device: Device, row: Certificate
) -> None:
    form = {"action": "revoke", "_selected_action": [row.pk]}
    page = admin_client.post(url("certificate_changelist"), form)
    assert "sensor-1" in page.content.decode()
    assert outcome() is Outcome.VERIFIED
    admin_client.post(
        url("certificate_changelist"), form | dict(page.context["own_hidden"]) | {"reason": "x"}
    )
    row.refresh_from_db()
    assert (row.revoked_reason, row.pin) == ("x", Pin.CERTIFICATE)


def test_an_anchor_is_registered_and_shows_what_was_read(admin_client: Client) -> None:
    form = ANCHOR | {"presented": ROOT.pem, "crl_policy": "require"}
    preview, response = shown_and_saved(admin_client, url("certificateauthority_add"), form)
    page = response.content.decode()
    anchor = CertificateAuthority.objects.get()
    for shown in ("CN=Root", anchor.fingerprint):
        assert shown in page, shown
        assert shown in preview, shown
    assert "nobody until" in page
    assert outcome() is Outcome.CRL_EXPIRED


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"presented": LEAF.pem}, "not an authority"),
        ({"presented": ROOT.pem, "name_pattern": "x"}, "exactly once"),
        ({"presented": ROOT.pem, "name": "Root"}, "of this name exists"),
        ({"presented": ROOT.pem}, "is a trust anchor already"),
        ({"presented": ""}, "Paste the PEM text"),
    ],
)
def test_what_cannot_be_an_anchor_is_refused_at_the_form(
    admin_client: Client, anchor: CertificateAuthority, given: dict[str, Any], complaint: str
) -> None:
    response = admin_client.post(url("certificateauthority_add"), ANCHOR | given)
    assert complaint in response.content.decode()
    assert CertificateAuthority.objects.count() == 1


def test_an_anchor_is_switched_off_and_keeps_its_certificate(
    admin_client: Client, anchor: CertificateAuthority
) -> None:
    assert outcome() is Outcome.VERIFIED
    form = ANCHOR | {"presented": authority("Evil").pem}
    del form["enabled"]
    response = admin_client.post(url("certificateauthority_change", anchor.pk), form)
    assert response.status_code == 302
    anchor.refresh_from_db()
    assert (anchor.name, anchor.pem) == ("Factory", ROOT.pem)
    assert outcome() is Outcome.UNTRUSTED_ISSUER


def test_what_is_no_revocation_list_is_said_plainly_and_stays_in_its_field(
    admin_client: Client, anchor: CertificateAuthority
) -> None:
    page = url("certificateauthority_load_list", anchor.pk)
    area = admin_client.get(page).content.decode().partition("<textarea")[2].partition(">")[0]
    assert "maxlength" not in area  # a browser would cut a long list, and say nothing
    text = admin_client.post(page, {"presented": "not one"}).content.decode()
    assert "the revocation list is refused: not a revocation list: neither DER nor PEM" in text
    assert "ParseError" not in text
    assert ">\nnot one</textarea>" in text
    key = "-----BEGIN PRIVATE KEY-----"
    for text in (key, key.encode("utf-16").decode("utf-16")):
        assert "PRIVATE KEY" not in admin_client.post(page, {"presented": text}).content.decode()


@pytest.mark.parametrize("as_text", [True, False])
def test_a_revocation_list_is_loaded(
    admin_client: Client, anchor: CertificateAuthority, as_text: bool
) -> None:
    page = url("certificateauthority_load_list", anchor.pk)
    anchor.load_list(revocation_list(ROOT, 5, number=6), by="ann")
    content = revocation_list(ROOT, LEAF, number=7)
    pem_text = anchor.read_list(content).pem
    given = {"presented": pem_text} if as_text else {"file": file(content)}
    preview, response = shown_and_saved(admin_client, page, given)
    for shown in ("Number", "Certificates on it", "Newly on it", "is not on it any more"):
        assert shown.replace("is not", "are not") in preview
    text = response.content.decode()
    assert "names 1 certificate." in text
    assert "current until" in text
    assert "admin" in text
    assert outcome() is Outcome.REVOKED_BY_CRL
    response = admin_client.post(page, {"file": file(revocation_list(ROOT, number=6))})
    assert "older than the one in force" in response.content.decode()
    assert "Paste the PEM text" in admin_client.post(page).content.decode()
    assert RevokedSerial.objects.count() == 1


def test_a_long_revocation_list_is_chosen_again(
    admin_client: Client, anchor: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devices.admin.credentials.authority.MAX_CARRIED_LENGTH", 100)
    page = url("certificateauthority_load_list", anchor.pk)
    content = revocation_list(ROOT, LEAF)
    answer = admin_client.post(page, {"presented": "x" * (1024 * 1024 + 1)})
    assert "too long to be pasted" in answer.content.decode()
    answer = admin_client.post(page, {"file": file(content)})
    assert "choose the file again" in answer.content.decode()
    confirmed = answer.context["form"]["confirmed"].value()
    other = {"file": file(revocation_list(ROOT)), "confirmed": confirmed}
    assert "Nothing is saved yet." in admin_client.post(page, other).content.decode()
    assert not RevokedSerial.objects.exists()
    admin_client.post(page, {"file": file(content), "confirmed": confirmed})
    assert RevokedSerial.objects.count() == 1


def test_what_is_changed_after_its_preview_is_shown_again(
    admin_client: Client, device: Device
) -> None:
    form = {"device": device.pk, "pin": "certificate", "presented": LEAF.pem}
    read = admin_client.post(url("certificate_add"), form).context["adminform"].form
    other = device_certificate("another", ROOT)
    swapped = form | {"presented": other.pem, "confirmed": read["confirmed"].value()}
    page = admin_client.post(url("certificate_add"), swapped).content.decode()
    assert "CN=another" in page
    assert not Certificate.objects.exists()


def test_a_preview_says_who_vouches_and_warns(
    admin_client: Client,
    device: Device,
    anchor: CertificateAuthority,
    make_device: Callable[..., Device],
) -> None:
    soon = device_certificate("sensor-1", ROOT, serial=0xBAD, ends=NOW + DAY)
    Certificate.objects.register(device=make_device("twin"), presented=soon.pem)
    anchor.load_list(revocation_list(ROOT, 0xBAD), by="ann")
    form = {"device": device.pk, "pin": "public-key", "presented": soon.pem}
    page = admin_client.post(url("certificate_add"), form).content.decode()
    for warning in (
        "ends within 30 days",
        "Another device has a certificate with the same key",
        "revocation list names it",
        "Its key is pinned",
    ):
        assert warning in page, warning
    assert "<dd>Root</dd>" in page
    stranger = form | {"presented": authority("Self", begins=NOW + DAY).pem}
    page = admin_client.post(url("certificate_add"), stranger).content.decode()
    assert "only this pin admits it" in page
    assert "not valid yet" in page


def test_deleting_an_anchor_counts_its_list_and_offers_to_switch_it_off(
    admin_client: Client, anchor: CertificateAuthority
) -> None:
    anchor.load_list(revocation_list(ROOT, 5, 6, 7), by="ann")
    address = url("certificateauthority_delete", anchor.pk)
    form = ANCHOR | {"distribution_point": "http://lists.example/"}
    saved = admin_client.post(url("certificateauthority_change", anchor.pk), form, follow=True)
    assert "stays in force until another" in saved.content.decode()
    page = admin_client.get(address).content.decode()
    assert "Revoked serial numbers: 3" in page
    assert "Switch it off instead" in page
    admin_client.post(address, {"post": "yes"})
    assert not CertificateAuthority.objects.exists()


def test_an_outdated_list_is_marked(admin_client: Client, anchor: CertificateAuthority) -> None:
    content = revocation_list(ROOT, made=NOW - 2 * DAY, renewed_by=NOW - DAY)
    anchor.load_list(content, by="ann")
    page = admin_client.get(url("certificateauthority_changelist") + "?list=outdated")
    assert "out of date since" in page.content.decode()


def test_who_may_only_look_can_change_nothing(
    row: Certificate, anchor: CertificateAuthority
) -> None:
    client = browser_of(staff(role="Auditor"))
    page = client.get(url("certificate_change", row.pk)).content.decode()
    assert url("certificate_revoke", row.pk) not in page
    page = client.get(url("certificateauthority_change", anchor.pk)).content.decode()
    assert "Load a revocation list" not in page
    for address in (
        url("certificate_revoke", row.pk),
        url("certificateauthority_load_list", anchor.pk),
        url("certificate_add"),
        url("certificateauthority_add"),
    ):
        assert client.post(address, {}).status_code == 403
    form = {"action": "revoke", "_selected_action": [row.pk], "confirmed": "yes"}
    form["shown"] = set_digest(Certificate.objects.filter(pk=row.pk))
    client.post(url("certificate_changelist"), form)
    assert outcome() is Outcome.VERIFIED
