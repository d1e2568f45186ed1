"""The history of what changes without a save: who is in which group, whose certificates are whose.

Django writes memberships, and takes a deleted device off its revoked certificates, without saving
a row. It announces both, and what it announces is recorded here.
"""

from typing import Any

from django.db import models
from django.db.models import Q
from django.db.models.signals import m2m_changed, pre_delete
from django.dispatch import receiver
from django.utils.translation import gettext_lazy as _

from devices.events.recording import note_leaving
from devices.history import ChangeType, Origin, record
from devices.history.models import Change, index_of_batches, indexes_of
from devices.models.credentials.certificate import Certificate
from devices.models.device import Device
from devices.models.group import DeviceGroup

Membership = Device.groups.through


class HistoricalMembership(Change):
    """A device that came into a group, or left it."""

    instance_type = Membership
    tracked_fields = [
        field for field in Membership._meta.fields if field.name in {"device", "devicegroup"}
    ]

    is_link = True
    owners = ("device", "devicegroup")

    history_id = models.BigAutoField(primary_key=True)
    history_date = models.DateTimeField()
    history_type = models.CharField(max_length=1, choices=ChangeType.choices[:3])  # none is tried
    history_user_id = models.CharField(max_length=150, blank=True, default="")
    history_change_reason = models.CharField(max_length=255, blank=True, default="")
    device = models.ForeignKey(
        Device,
        verbose_name=_("device"),
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    devicegroup = models.ForeignKey(
        DeviceGroup,
        verbose_name=_("device group"),
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )

    class Meta:
        verbose_name = _("membership")
        verbose_name_plural = _("memberships")
        ordering = ["-history_date", "-history_id"]
        indexes = [*indexes_of("device", "devicegroup"), index_of_batches("devices_membership")]
        constraints = [
            models.CheckConstraint(
                condition=Q(origin__in=Origin.values),
                name="devices_membership_history_origin_known",
            )
        ]

    def __str__(self) -> str:
        return f"{self.device_id} in {self.devicegroup_id}"


@receiver(m2m_changed, sender=Membership)
def record_memberships(
    *,
    instance: Device | DeviceGroup,
    action: str,
    pk_set: set[int] | None,
    reverse: bool,
    **_signal: Any,
) -> None:
    """Record who came into a group, or leaves it now."""
    own, other = ("devicegroup", "device") if reverse else ("device", "devicegroup")
    if action == "post_add":
        record(
            [
                Membership(**{f"{own}_id": instance.pk, f"{other}_id": pk})
                for pk in sorted(pk_set or ())
            ],
            ChangeType.CREATED,
        )
    elif action in {"pre_remove", "pre_clear"}:
        leaving = Membership.objects.filter(**{own: instance})
        if pk_set is not None:
            leaving = leaving.filter(**{f"{other}__in": pk_set})
        held = leaving.select_for_update().order_by("pk")  # a group may be deleted at this moment
        record(list(held), ChangeType.DELETED)


@receiver(pre_delete, sender=Device)
def record_device_leaving(*, instance: Device, **_signal: Any) -> None:
    """Record that a device leaves its groups, and its revoked certificates, which stay."""
    memberships = list(Membership.objects.filter(device=instance))
    note_leaving(instance.pk, instance.identifier, [row.devicegroup_id for row in memberships])
    record(memberships, ChangeType.DELETED)
    kept = list(Certificate.objects.filter(device=instance).exclude(revoked_at=None))
    for certificate in kept:
        certificate.device = None
    record(kept, ChangeType.CHANGED)


@receiver(pre_delete, sender=DeviceGroup)
def record_group_leaving(*, instance: DeviceGroup, **_signal: Any) -> None:
    """Record that its devices leave a group."""
    record(list(Membership.objects.filter(devicegroup=instance)), ChangeType.DELETED)
