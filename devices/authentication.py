"""Whether a device, or a caller of the endpoints, is who it says.

`authenticate` is to devices what `django.contrib.auth.authenticate` is to staff: everything that
lets an entity in asks here.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from django.utils import timezone

from devices.credentials import certificates, pre_shared_keys
from devices.credentials.pre_shared_keys import StoredKey, StoredKeys
from devices.database import last_used
from devices.database.statements import MustWait
from devices.verdicts import Outcome, Verdict


class Attempt(NamedTuple):
    """What is presented for an identifier: a secret, a certificate, or both."""

    identifier: str
    secret: str | None = None
    certificate: str | None = None


def authenticate(
    identifier: str,
    *,
    secret: str | None = None,
    certificate: str | None = None,
    now: datetime | None = None,
    record: bool = True,
    as_caller: bool = False,
    stored: Sequence[StoredKey] | None = None,
) -> Verdict:
    """Return whether `identifier` holds the credentials that it presents: each must hold.

    `secret` is a pre-shared secret, `certificate` a PEM text (a chain may follow the leaf) or
    a DER certificate in base64. One statement for a secret, whatever the number of keys.
    The options and what is raised are those of `authenticate_many`. Who has asked for the keys
    already gives them (`stored`): then there is no wait, and MustWait where a guess needs one.
    """
    if secret is None or certificate is not None:
        attempt = Attempt(identifier, secret, certificate)
        return authenticate_many([attempt], now=now, record=record, as_caller=as_caller)[0]
    moment = now or timezone.now()
    verdict = pre_shared_keys.verify_secret(
        identifier, secret, now=moment, as_caller=as_caller, stored=stored
    )
    if record and verdict.outcome is Outcome.VERIFIED:
        last_used.worker.record_use(verdict, moment)
    return verdict


def authenticate_many(
    attempts: Sequence[Attempt],
    *,
    now: datetime | None = None,
    record: bool = True,
    as_caller: bool = False,
    stored: StoredKeys | None = None,
) -> list[Verdict]:
    """Authenticate the attempts in their order, with as many statements as one of them costs.

    `record` notes when a success was (last seen, last used); staff's own tries do not.
    `as_caller` counts failures apart: a stranger who calls the endpoints under a device's name
    must not use up the guesses of those who connect under it.
    Who has asked for the keys of all gives them (`stored`): then there is no wait, and MustWait
    where a guess or a certificate needs one.
    Raises ValueError where nothing is presented, and a database's OperationalError where the
    registry cannot be asked. (contract: RTIO device verifier; Auth service, Authenticate.)
    """
    if any(one.secret is None and one.certificate is None for one in attempts):
        raise ValueError("present a secret, a certificate, or both")
    moment = now or timezone.now()
    verdicts: list[list[Verdict]] = [[] for _ in attempts]
    secrets = {
        position: (one.identifier, one.secret)
        for position, one in enumerate(attempts)
        if one.secret is not None
    }
    if secrets:
        verified = pre_shared_keys.verify_secrets(
            list(secrets.values()), now=moment, as_caller=as_caller, stored=stored
        )
        for position, verdict in zip(secrets, verified, strict=True):
            verdicts[position].append(verdict)
    presented = {
        position: (one.identifier, one.certificate)
        for position, one in enumerate(attempts)
        if one.certificate is not None and all(held.verified for held in verdicts[position])
    }
    if presented and stored is not None:
        raise MustWait
    if presented and as_caller:
        for position, pair in presented.items():
            verdict = certificates.verify_caller_certificate(*pair, now=moment)
            verdicts[position].append(verdict)
    elif presented:
        verified = certificates.verify_certificates(list(presented.values()), now=moment)
        for position, verdict in zip(presented, verified, strict=True):
            verdicts[position].append(verdict)
    for held in verdicts:
        if record and held[-1].verified:
            for verdict in held:
                last_used.worker.record_use(verdict, moment)
    return [held[-1] for held in verdicts]
