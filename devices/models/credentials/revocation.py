"""Revocation, which keys and certificates have in common."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Self, TypeVar

from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from devices.database.batches import batched
from devices.extension_points import AccessEnd, end_access
from devices.history import ChangeType, Recorded, locked, record
from devices.history.context import MAX_REASON_LENGTH, check_reason
from devices.history.recording import BATCH_SIZE
from devices.models.device import Device

FIELDS = ["revoked_at", "revoked_by", "revoked_reason"]

Row = TypeVar("Row", bound="Revocable")


class RevocableQuerySet(models.QuerySet[Row]):
    """Credentials by their state at a moment, and how many are revoked at once."""

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete them; the access of their devices ends as when they are revoked."""
        if not hasattr(self.model, "device"):
            return super().delete()
        with transaction.atomic():
            devices = list(self.order_by().values_list("device", flat=True).distinct())
            deleted = super().delete()
            for batch in batched(devices, BATCH_SIZE):
                end_access_of(batch)
        return deleted

    delete.queryset_only = True  # type: ignore[attr-defined]
    delete.alters_data = True  # type: ignore[attr-defined]

    def unrevoked(self) -> Self:
        """Return those that nobody revoked, expired ones among them."""
        return self.filter(revoked_at=None)

    def revoked(self) -> Self:
        return self.exclude(revoked_at=None)

    def live_at(self, now: datetime) -> Self:
        """Return those that are usable or will be: neither revoked nor expired."""
        return self.unrevoked().filter(Q(not_after=None) | Q(not_after__gt=now))

    def expired_at(self, now: datetime) -> Self:
        """Return those that ended by themselves."""
        return self.unrevoked().filter(not_after__lte=now)

    def revoke(self, *, by: str, reason: str = "") -> int:
        """Revoke those that are not revoked, from their next use on; return how many that were.

        Raises ReasonTooLong.
        """
        check_reason(reason)
        revoked, moment = 0, timezone.now()
        with transaction.atomic():
            for batch in locked(self.filter(revoked_at=None)):
                for row in batch:
                    row.revoked_at, row.revoked_by, row.revoked_reason = moment, by, reason
                self.model._default_manager.filter(pk__in=[row.pk for row in batch]).update(
                    revoked_at=moment, revoked_by=by, revoked_reason=reason
                )
                record(batch, ChangeType.CHANGED)
                end_access_of(getattr(row, "device_id", None) for row in batch)
                revoked += len(batch)
        return revoked


def end_access_of(keys: Iterable[int | None]) -> None:
    """Tell that credentials of these devices were revoked; the devices are read if need be."""
    devices = Device.objects.filter(pk__in={pk for pk in keys if pk is not None})
    end_access(devices, AccessEnd.REVOKED)


class Revocable(Recorded):
    """A credential that can be revoked, once and for good."""

    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True, editable=False)
    revoked_by = models.CharField(_("revoked by"), max_length=150, blank=True, editable=False)
    revoked_reason = models.CharField(
        _("reason of the revocation"), max_length=MAX_REASON_LENGTH, blank=True, editable=False
    )

    class Meta:
        abstract = True

    def revoke(self, *, by: str, reason: str = "", now: datetime | None = None) -> bool:
        """Revoke the credential from its next use on; return False where it was revoked before.

        The first revocation stands: who, when and why are never overwritten. Raises ReasonTooLong.
        """
        check_reason(reason)
        with transaction.atomic():
            self.hold()
            if self.revoked_at is not None:
                return False
            self.revoked_at = now or timezone.now()
            self.revoked_by, self.revoked_reason = by, reason
            self.save(update_fields=FIELDS)
            end_access_of([getattr(self, "device_id", None)])
        return True

    def event_verb(self, change_type: ChangeType, before: Mapping[str, Any] | None) -> str:
        """Return the verb of the event; a revocation may be told twice, and is never left out."""
        if (
            change_type is ChangeType.CHANGED
            and self.revoked_at is not None
            and (before is None or before["revoked_at"] is None)
        ):
            return "revoked"
        return super().event_verb(change_type, before)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Delete the credential; the access of its device ends as when it is revoked."""
        with transaction.atomic():
            deleted = super().delete(*args, **kwargs)
            end_access_of([getattr(self, "device_id", None)])
        return deleted
