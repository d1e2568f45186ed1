"""What a question about credentials is answered with: a value that says why."""

from datetime import datetime
from typing import NamedTuple, Protocol

from django.db import models
from django.utils.translation import gettext_lazy as _


class Outcome(models.TextChoices):
    """Why an entity is, or is not, who it says. Only VERIFIED lets it in."""

    VERIFIED = "verified", _("verified")
    UNKNOWN_DEVICE = "unknown-device", _("no such device is registered")
    DISABLED = "disabled", _("the device is disabled")
    NO_CREDENTIAL = "no-credential", _("the device has no credential of this sort")
    WRONG_SECRET = "wrong-secret", _("the secret is wrong")
    NOT_YET_VALID = "not-yet-valid", _("the credential is not valid yet")
    EXPIRED = "expired", _("the credential has expired")
    REVOKED = "revoked", _("the credential was revoked")
    PEPPER_MISSING = "pepper-missing", _("the pepper that the key was made with is not configured")
    MALFORMED = "malformed", _("the credential cannot be read")
    UNSUITABLE = "unsuitable", _("the certificate is too weak or not made for this")
    UNTRUSTED_ISSUER = "untrusted-issuer", _("no enabled trust anchor vouches for the certificate")
    NAME_MISMATCH = "name-mismatch", _("the certificate names another device")
    REVOKED_BY_CRL = "revoked-by-crl", _("a revocation list names the certificate")
    CRL_EXPIRED = "crl-expired", _("the trust anchor's revocation list is missing or out of date")
    THROTTLED = "throttled", _("too many failures; try again later")


class Window(Protocol):
    """What says when a key admits its device: its row, or what a check reads of it."""

    @property
    def revoked_at(self) -> datetime | None: ...
    @property
    def not_before(self) -> datetime | None: ...
    @property
    def not_after(self) -> datetime | None: ...


def outcome_at(key: Window, now: datetime) -> Outcome:
    """Return VERIFIED where a key admits its device at that moment, else why not."""
    if key.revoked_at is not None:
        return Outcome.REVOKED
    if key.not_before is not None and now < key.not_before:
        return Outcome.NOT_YET_VALID
    if key.not_after is not None and now >= key.not_after:
        return Outcome.EXPIRED
    return Outcome.VERIFIED


class Verdict(NamedTuple):
    """The answer to "is this entity who it says?", for staff and for code.

    `detail` adds what the outcome's own text leaves open; it never holds a secret. `device`,
    `key` and `certificate` are the primary keys of the rows that took part, `kind` the device's.
    """

    outcome: Outcome
    detail: str = ""
    device: int | None = None
    kind: str | None = None
    key: int | None = None
    certificate: int | None = None
    used_lately: bool = False  # known: its rows tell of a use within the last minute

    @property
    def verified(self) -> bool:
        return self.outcome is Outcome.VERIFIED

    @property
    def reason(self) -> str:
        return f"{self.outcome.label}: {self.detail}" if self.detail else str(self.outcome.label)
