"""Pre-shared keys: secrets that a device and the registry both know, stored one-way."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from devices.credentials import hashing
from devices.credentials.hashing import Scheme
from devices.database.conflicts import Gone
from devices.extension_points import AccessEnd, end_access
from devices.history import ChangeType, Records, bulk_create, bulk_update
from devices.history.context import current_user
from devices.models.credentials.revocation import (
    FIELDS as REVOCATION,
    Revocable,
    RevocableQuerySet,
    end_access_of,
)
from devices.models.device import Device
from devices.verdicts import Outcome, outcome_at

HINT_CHARACTERS = 4
ISSUED_BEFORE = "issued-before"  # the code of the error of a second key for one token
MAX_LIVE_CHOSEN = 4  # each costs a memory-hard hash when a wrong secret is presented


class PreSharedKeyQuerySet(RevocableQuerySet["PreSharedKey"]):
    def usable_at(self, now: datetime) -> "PreSharedKeyQuerySet":
        """Return the keys that admit their device at that moment, with the peppers configured."""
        return (
            self.live_at(now)
            .filter(Q(not_before=None) | Q(not_before__lte=now))
            .filter(pepper__in=list(hashing.peppers()))
        )

    def ending_before(self, moment: datetime, *, now: datetime) -> "PreSharedKeyQuerySet":
        return self.unrevoked().filter(not_after__gt=now, not_after__lt=moment)

    def issue(
        self,
        *,
        device: Device,
        label: str = "",
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        token: UUID | None = None,
    ) -> tuple["PreSharedKey", str]:
        """Create a key with a generated secret; the secret exists nowhere else.

        Raises ValidationError where a key was issued for `token` before.
        """
        secret, generated = _generate()
        window = {"not_before": not_before, "not_after": not_after}
        return self._create(device, secret, label=label, token=token, **generated, **window), secret

    def register(
        self,
        *,
        device: Device,
        secret: str,
        random: bool = False,
        label: str = "",
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        token: UUID | None = None,
    ) -> "PreSharedKey":
        """Create a key with a secret that a person chose or that is known already.

        `random` is the caller's word that a machine made the secret with at least 128 bits: it
        is then stored and checked like a generated one. Raises ValidationError where the secret
        cannot be used at all; whether it is weak, `devices.credentials.hashing.weakness` says.
        """
        hashing.check_usable(secret, random=random)
        self._refuse_revoked(device, secret)
        return self._create(
            device,
            secret,
            scheme=Scheme.HMAC_SHA256 if random else Scheme.ARGON2ID,
            hint="",
            label=label,
            not_before=not_before,
            not_after=not_after,
            token=token,
        )

    def _refuse_revoked(self, device: Device, secret: str) -> None:
        """Raise ValidationError where the secret is that of a revoked key of the device."""
        for key in self.filter(device=device).exclude(revoked_at=None):
            if key.is_of(secret):
                raise key.was_revoked()

    def _create(self, device: Device, secret: str, **fields: Any) -> "PreSharedKey":
        with transaction.atomic():
            _hold(device)
            key = self._checked(device, secret, **fields)
            bulk_create([key])
        return key

    def _checked(self, device: Device, secret: str, **fields: Any) -> "PreSharedKey":
        """Return a key to be created; what staff said of it is checked, the rest is made here."""
        pepper, digest = hashing.digest(secret, fields["scheme"])
        key = self.model(device=device, digest=digest, pepper=pepper, **fields)
        made_here = {"device", "scheme", "digest", "pepper", "hint"}
        if key.not_before is None or key.not_after is None:
            made_here |= {"not_before", "not_after"}  # one alone makes no window
        key.full_clean(exclude=made_here)
        return key

    def rotate(
        self,
        *,
        device: Device,
        overlap: timedelta,
        label: str = "",
        token: UUID | None = None,
        now: datetime | None = None,
    ) -> tuple["PreSharedKey", str]:
        """Issue a key with a generated secret; the device's live ones end after `overlap`.

        Without an overlap they are revoked: *at once* is a state, whatever the clock says later. So
        is a key that would only begin after the overlap.
        Returns the new key and its secret, which exists nowhere else. A key that ends earlier
        anyway keeps its end.
        """
        moment = now or timezone.now()
        secret, generated = _generate()
        with transaction.atomic():
            _hold(device)
            live = list(self.select_for_update().filter(device=device).live_at(moment))
            key = self._checked(device, secret, label=label, token=token, **generated)
            key.is_rotation = True
            end = moment + overlap
            changed = []
            for old in live:
                if not overlap or (old.not_before is not None and old.not_before >= end):
                    old.revoked_at = moment
                    old.revoked_by, old.revoked_reason = current_user(), str(_("rotated"))
                elif old.not_after is None or old.not_after > end:
                    old.not_after = end
                else:
                    continue
                changed.append(old)
            bulk_update(changed, [*REVOCATION, "not_after"], created=[key])
            if not overlap:
                end_access([device], AccessEnd.ROTATED)
        return key, secret


def check_end(not_after: datetime | None) -> None:
    """Raise ValidationError where a key that staff or a program asks for would have ended.

    Code may make such keys, as records of another registry.
    """
    if not_after is not None and not_after <= timezone.now():
        text = _("This time is past: the key would never admit its device.")
        raise ValidationError({"not_after": ValidationError(text, code="past")})


def too_many_chosen() -> ValidationError:
    """Return what is said of a chosen secret beside MAX_LIVE_CHOSEN live ones."""
    text = _("A device has at most %(most)d live chosen secrets; revoke one first.")
    return ValidationError(text, code="many", params={"most": MAX_LIVE_CHOSEN})


def _generate() -> tuple[str, dict[str, Any]]:
    """Return a new secret, and the fields of its key that describe it."""
    secret = hashing.generate()
    return secret, {"scheme": Scheme.HMAC_SHA256, "hint": f"{secret[:HINT_CHARACTERS]}…"}


def _hold(device: Device) -> None:
    """Lock the device, so that each change of its keys sees what the one before it left.

    Raises Gone where it was deleted.
    """
    if not Device.objects.select_for_update(no_key=True).filter(pk=device.pk).exists():
        raise Gone


class PreSharedKey(Revocable):
    """One secret of a device, as a digest. Several overlap while a device changes over."""

    device = models.ForeignKey(
        Device, verbose_name=_("device"), on_delete=models.CASCADE, related_name="keys"
    )
    label = models.CharField(
        _("label"), max_length=100, blank=True, help_text=_("What staff call this key.")
    )
    scheme = models.CharField(_("kind of secret"), max_length=16, choices=Scheme, editable=False)
    digest = models.CharField(_("digest"), max_length=255, editable=False)
    pepper = models.CharField(_("pepper"), max_length=32, editable=False)
    hint = models.CharField(
        _("hint"),
        max_length=16,
        blank=True,
        editable=False,
        help_text=_("How a generated secret begins. A chosen one gives nothing away."),
    )
    not_before = models.DateTimeField(_("valid from"), null=True, blank=True)
    not_after = models.DateTimeField(_("valid until"), null=True, blank=True)
    created = models.DateTimeField(_("created"), auto_now_add=True)
    last_used = models.DateTimeField(_("last used"), null=True, blank=True, editable=False)

    is_rotation = False  # whether it was made to take the place of others, just now

    token = models.UUIDField(_("issued for"), null=True, editable=False)

    objects = PreSharedKeyQuerySet.as_manager()
    named_by_row = True  # its hint is in no history
    history = Records(
        without=["digest", "hint", "pepper", "created", "last_used", "token"], owner="device"
    )

    class Meta:
        ordering = ["-pk"]
        verbose_name = _("key")
        verbose_name_plural = _("keys")
        indexes = [
            models.Index(
                # With the device beside it, whose keys end is read without the table.
                fields=["not_after", "device"],
                condition=Q(revoked_at=None, not_after__isnull=False),
                name="devices_key_ends_by_device",
            )
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(scheme__in=Scheme.values), name="devices_key_scheme_known"
            ),
            models.CheckConstraint(
                condition=~Q(digest="") & ~Q(pepper=""), name="devices_key_digest_present"
            ),
            models.CheckConstraint(
                condition=Q(not_before=None) | Q(not_after=None) | Q(not_before__lt=F("not_after")),
                name="devices_key_window_ordered",
                violation_error_message=_("“Valid until” must lie after “valid from”."),
            ),
            models.UniqueConstraint(
                fields=["token"],
                name="devices_key_issued_once",
                violation_error_code=ISSUED_BEFORE,
                violation_error_message=_("The key was issued when this was sent before."),
            ),
            models.CheckConstraint(
                condition=~Q(scheme="argon2id") | Q(hint=""),
                name="devices_key_chosen_gives_no_hint",
            ),
        ]

    def __str__(self) -> str:
        return self.label or self.hint or f"key {self.pk}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save; where a usable key is given times that refuse it now, its access ends.

        A revocation tells so itself.
        """
        now = timezone.now()
        usable = PreSharedKey.objects.usable_at(now).filter(pk=self.pk)
        may_end = not self._state.adding and self.revoked_at is None
        refused = may_end and outcome_at(self, now) is not Outcome.VERIFIED
        with transaction.atomic():
            ends = refused and usable.exists()
            super().save(*args, **kwargs)
            if ends and not usable.exists():
                end_access_of([self.device_id])

    def event_verb(self, change_type: ChangeType, before: Mapping[str, Any] | None) -> str:
        """Return the verb, which says of a new key where its secret comes from."""
        if change_type is ChangeType.CREATED:
            issued = "rotated" if self.is_rotation else "issued"
            return issued if self.hint else "registered"
        return super().event_verb(change_type, before)

    @property
    def is_chosen(self) -> bool:
        """Whether the secret may be weak, and is throttled and hashed accordingly."""
        return self.scheme == Scheme.ARGON2ID

    def clean(self) -> None:
        """Bound what a wrong secret can cost: few live chosen keys for one device."""
        super().clean()
        if not self.is_chosen or self.revoked_at is not None or self.device_id is None:
            return
        others = PreSharedKey.objects.filter(device=self.device_id, scheme=Scheme.ARGON2ID)
        if others.live_at(timezone.now()).exclude(pk=self.pk).count() >= MAX_LIVE_CHOSEN:
            raise too_many_chosen()

    def state_at(self, now: datetime) -> Outcome:
        """Return VERIFIED where the key admits its device at that moment, else why not."""
        if self.pepper not in hashing.peppers():
            return Outcome.PEPPER_MISSING
        return outcome_at(self, now)

    def is_of(self, secret: str) -> bool:
        """Whether a secret is this key's; False, too, where the pepper of its digest is missing."""
        pepper = hashing.peppers().get(self.pepper)
        return pepper is not None and hashing.matches(secret, self.scheme, self.digest, pepper)

    def was_revoked(self) -> ValidationError:
        """Return what is said of a secret that is this key's, where that was revoked."""
        return ValidationError(
            _("This secret was revoked on %(day)s and stays so. Choose another."),
            code="revoked",
            params={"day": f"{self.revoked_at:%Y-%m-%d}"},
        )
