"""The credentials of a file: cells of secrets and certificates beside what a device has already."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext as _

from devices.credentials import hashing
from devices.credentials.hashing import Scheme
from devices.models import Certificate, PreSharedKey
from devices.models.credentials.certificate import Pin
from devices.models.credentials.pre_shared_key import MAX_LIVE_CHOSEN, too_many_chosen
from devices.transfer.rows import Entry, Findings, Known, Options
from devices.verdicts import Outcome, outcome_at


class CredentialCells:
    """Makes keys and certificates of cells; their digests are made later.

    Raises ValidationError once more than `most_hashes` secrets would have to be hashed as chosen
    ones.
    """

    def __init__(self, findings: Findings, options: Options, most_hashes: int | None) -> None:
        self._found, self._options = findings, options
        self._now = timezone.now()
        self._label = f"import {self._now:%Y-%m-%d %H:%M:%S}"
        self._most_hashes = most_hashes
        self._hashes = 0

    def check(self, entry: Entry, values: Mapping[str, Any], known: Known) -> None:
        """Give the entry the key and the certificate that its row makes, or note what is wrong."""
        keys = known.keys.get(entry.device.pk or 0, [])
        certificates = known.certificates.get(entry.device.pk or 0, [])
        try:
            if "certificate" in values:
                entry.certificate = self._certificate(values["certificate"], certificates)
        except ValidationError as error:
            self._found.add_problem(entry.row, "certificate", " ".join(error.messages))
        until = values.get("secret_until")
        if until is not None and until <= self._now:
            self._found.add_problem(entry.row, "secret_until", _("This time is past."))
        elif until is not None and "secret" not in values and not self._options.generate:
            self._found.add_problem(
                entry.row, "secret_until", _("There is no secret that could end.")
            )
        try:
            if "secret" in values:
                entry.key = self._key(entry, values["secret"], keys)
            elif self._options.generate and not self._has_live(entry, keys, certificates):
                entry.key = PreSharedKey(scheme=Scheme.HMAC_SHA256)
        except ValidationError as error:
            self._found.add_problem(entry.row, "secret", " ".join(error.messages))
        if entry.key is not None:
            entry.key.label, entry.key.not_after = self._label, until

    def _has_live(
        self, entry: Entry, keys: Sequence[PreSharedKey], certificates: Sequence[Certificate]
    ) -> bool:
        """Whether the device can show anything, or will after this import."""
        return (
            entry.certificate is not None
            or any(self._is_live(key) for key in keys)
            or any(
                one.revoked_at is None
                and (one.pin != Pin.CERTIFICATE or one.not_after >= self._now)
                for one in certificates
            )
        )

    def _is_live(self, key: PreSharedKey) -> bool:
        return outcome_at(key, self._now) in {Outcome.VERIFIED, Outcome.NOT_YET_VALID}

    def _key(self, entry: Entry, secret: str, keys: Sequence[PreSharedKey]) -> PreSharedKey | None:
        """Return the key to make of a cell, or None where the device has it; ValidationError."""
        if hashing.is_hashed(secret):
            scheme, pepper, digest = hashing.parse_hashed(secret)
            wanted, secret = PreSharedKey(scheme=scheme, pepper=pepper, digest=digest), ""
        else:
            hashing.check_usable(secret, random=self._options.random)
            scheme = Scheme.HMAC_SHA256 if self._options.random else Scheme.ARGON2ID
            wanted = PreSharedKey(scheme=scheme)
        for key in keys:
            if (key.revoked_at or self._is_live(key)) and self._is_same(key, wanted, secret):
                if key.revoked_at is None:
                    return None
                raise key.was_revoked()
        if wanted.is_chosen:
            self._check_chosen(entry, secret, keys)
        entry.secret = secret
        return wanted

    def _check_chosen(self, entry: Entry, secret: str, keys: Sequence[PreSharedKey]) -> None:
        """Refuse one chosen secret too many; warn of a weak one."""
        live = sum(key.is_chosen and self._is_live(key) for key in keys)
        if live >= MAX_LIVE_CHOSEN:
            raise too_many_chosen()
        if secret:
            self._count_hash()
            if weakness := hashing.weakness(secret, identifier=entry.device.identifier):
                text = _("The secret is weak. %(why)s") % {"why": weakness}
                self._found.warn(entry.row, "secret", text)

    def _is_same(self, key: PreSharedKey, wanted: PreSharedKey, secret: str) -> bool:
        if not secret:
            own = (key.scheme, key.pepper, key.digest)
            return own == (wanted.scheme, wanted.pepper, wanted.digest)
        if key.is_chosen and key.pepper in hashing.peppers():
            self._count_hash()
        return key.is_of(secret)

    def _count_hash(self) -> None:
        self._hashes += 1
        if self._most_hashes is not None and self._hashes > self._most_hashes:
            raise ValidationError(
                _(
                    "More than %(most)d secrets would have to be hashed as chosen ones. Say that "
                    "they are random if a machine made them; else split the file, or use the "
                    "command import_devices."
                ),
                params={"most": self._most_hashes},
            )

    def _certificate(self, pem: str, certificates: Sequence[Certificate]) -> Certificate | None:
        """Return the certificate to pin, or None where it is pinned already; ValidationError."""
        wanted = Certificate.objects.prepare(device=None, presented=pem, label=self._label)
        for one in certificates:
            if one.fingerprint == wanted.fingerprint and one.revoked_at is None:
                return None
        wanted.clean()
        return wanted
