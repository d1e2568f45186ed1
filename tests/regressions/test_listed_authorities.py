"""A list names an authority: what it issued was let in, or refused though another path held.

An anchor need be no root: the list of its own issuer was not asked about it. A listed certificate
of an issuer stood in the way of a new one of that issuer that was presented beside it.

Public reports of this kind: https://github.com/php-soap/psr18-wsse-middleware/pull/31,
https://github.com/CESNET/libnetconf2/pull/642.
"""

from collections.abc import Callable

import pytest
from cryptography import x509
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from devices.authentication import Attempt, authenticate, authenticate_many
from devices.models import Certificate, CertificateAuthority, Device
from devices.models.credentials.authority import CRLPolicy
from devices.verdicts import Outcome, Verdict
from tests.support.commands import answer
from tests.support.pki import (
    AUTHORITY,
    NOW,
    Party,
    authority,
    device_certificate,
    pem,
    revocation_list,
)

pytestmark = pytest.mark.django_db

ROOT = authority("Root")
OLD = authority("Between", ROOT)
NEW = authority("Between", ROOT, private_key=OLD.key)
LEAF = device_certificate("sensor-1", OLD)


@pytest.fixture(autouse=True)
def _device(make_device: Callable[..., Device]) -> None:
    make_device("sensor-1")


def register(party: Party, *revoked: Party, enabled: bool = True) -> CertificateAuthority:
    name = f"anchor {CertificateAuthority.objects.count()}"
    anchor = CertificateAuthority.objects.register(presented=party.pem, name=name, enabled=enabled)
    if revoked:
        anchor.load_list(revocation_list(party, *revoked), by="ann", now=NOW)
    return anchor


def ask(*parties: Party) -> Verdict:
    return authenticate("sensor-1", certificate=pem(*parties), now=NOW, record=False)


@pytest.mark.parametrize("root_vouches", [True, False])
@pytest.mark.parametrize("shown", [(LEAF,), (LEAF, OLD)], ids=len)
def test_an_anchor_that_its_issuer_lists_vouches_for_nobody(
    shown: tuple[Party, ...], root_vouches: bool
) -> None:
    register(OLD)
    assert ask(*shown).verified
    register(ROOT, OLD, enabled=root_vouches)
    verdict = ask(*shown)
    assert (verdict.outcome, verdict.detail) == (Outcome.REVOKED_BY_CRL, "CN=Between")


def test_pages_and_commands_say_that_an_anchor_stands_revoked(admin_client: Client) -> None:
    by_list, by_staff = register(OLD), register(other := authority("Other"))
    register(ROOT, OLD)
    Certificate.objects.revoke_presented(
        device=Device.objects.get(), presented=other.pem, by="ann", key_too=True
    )
    listed = admin_client.get(reverse("admin:devices_certificateauthority_changelist"))
    for anchor, text in ((by_list, str(Outcome.REVOKED_BY_CRL.label)), (by_staff, ">revoked<")):
        page = reverse("admin:devices_certificateauthority_change", args=[anchor.pk])
        assert [one.content.decode().count(text) for one in (listed, admin_client.get(page))] == [
            1,
            1,
        ]
    anchors = answer("list_trust_anchors")["trust_anchors"]
    assert [one["refused_as"] for one in anchors] == ["revoked-by-crl", "revoked", None]


def test_an_anchor_that_another_issuer_of_that_name_lists_vouches() -> None:
    register(OLD)
    register(authority("Root", private_key=NEW.key), OLD)
    assert ask(LEAF).verified


@pytest.mark.parametrize("shown", [(LEAF, OLD, NEW), (LEAF, NEW, OLD)])
def test_a_listed_issuer_does_not_stand_in_the_way_of_its_new_certificate(
    shown: tuple[Party, ...],
) -> None:
    register(ROOT, OLD)
    assert ask(*shown).verified
    assert ask(LEAF, OLD).outcome is Outcome.REVOKED_BY_CRL


def test_a_constrained_issuer_does_not_stand_in_the_way_of_one_that_is_not() -> None:
    only = x509.NameConstraints([x509.DNSName("example.com")], None)
    constrained = authority("Between", ROOT, private_key=OLD.key, extensions=[AUTHORITY, only])
    register(ROOT)
    for shown in ((LEAF, constrained, OLD), (LEAF, OLD, constrained)):
        assert ask(*shown).verified
    assert ask(LEAF, constrained).outcome is Outcome.UNTRUSTED_ISSUER


def test_an_issuer_whose_list_is_out_of_date_does_not_stand_in_the_way_of_another() -> None:
    other_root = authority("Other root")
    crossed = authority("Between", other_root, private_key=OLD.key)
    root = register(ROOT, OLD)
    register(other_root)
    root.revocation_list.delete()
    root.crl_policy = CRLPolicy.REQUIRE
    root.save()
    for shown in ((LEAF, OLD, crossed), (LEAF, crossed, OLD)):
        assert ask(*shown).verified
    assert ask(LEAF, OLD).outcome is Outcome.CRL_EXPIRED


def test_many_cost_as_many_statements_as_one() -> None:
    register(OLD)
    register(ROOT, LEAF)
    counts = []
    for number in (1, 3):
        attempts = [Attempt("sensor-1", None, pem(LEAF, OLD))] * number
        with CaptureQueriesContext(connection) as queries:
            assert all(one.verified for one in authenticate_many(attempts, now=NOW, record=False))
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_any_text_may_stand_beside_a_certificate() -> None:
    """OpenSSL writes the subject before it, in any script."""
    register(ROOT)
    comments = ("subject=CN = Prüfstand\n", "\ufeff# 检测\n")
    shown = "".join(note + one.pem for note, one in zip(comments, (LEAF, OLD), strict=True))
    assert authenticate("sensor-1", certificate=shown, now=NOW, record=False).verified
