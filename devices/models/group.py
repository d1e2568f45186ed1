"""Groups of devices, which lie within each other."""

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from devices.history import Recorded, Records, bulk_delete

MAX_DEPTH = 8  # levels of groups, the top one included


class DeviceGroup(Recorded):
    """A named set of devices. Groups nest: a rule on a group covers the groups below it."""

    name = models.CharField(_("name"), max_length=100)
    parent = models.ForeignKey(
        "self",
        verbose_name=_("within"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="children",
        help_text=_("The group that this one lies in, as a building lies in a site."),
    )
    description = models.TextField(_("description"), blank=True)

    history = Records()
    restored_fields = ("name", "parent", "description")

    class Meta:
        ordering = ["name"]
        verbose_name = _("device group")
        verbose_name_plural = _("device groups")
        constraints = [
            models.UniqueConstraint(
                fields=["name"],
                name="devices_group_name_unique",
                violation_error_message=_("A group of this name exists."),
            ),
            models.CheckConstraint(condition=~Q(name=""), name="devices_group_name_present"),
            models.CheckConstraint(
                condition=Q(parent=None) | ~Q(parent=F("pk")),
                name="devices_group_not_within_itself",
                violation_error_message=_("A group cannot lie within itself."),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save; a change of parent is checked again under a lock, so that no two moves cross."""
        if self.parent_id is None:
            super().save(*args, **kwargs)
            return
        with transaction.atomic():
            # Every move takes the same lock: without it, two moves could each be right alone.
            list(DeviceGroup.objects.select_for_update().order_by("pk").values_list("pk"))
            self._check_parent(DeviceGroup.objects.get(pk=self.parent_id))
            super().save(*args, **kwargs)

    @classmethod
    def delete_created(cls, rows: Sequence["DeviceGroup"]) -> None:
        """Delete groups whose creation is undone, those that lie within others first."""
        left = {row.pk: row for row in rows}
        while left:
            above = {row.parent_id for row in left.values()}
            leaves = [row for pk, row in left.items() if pk not in above]
            bulk_delete(leaves)
            left = {pk: row for pk, row in left.items() if pk in above}

    def clean(self) -> None:
        """Refuse a place in the tree that would make a cycle or be too deep."""
        super().clean()
        if self.parent is not None:
            self._check_parent(self.parent)

    def _check_parent(self, parent: "DeviceGroup") -> None:
        above = [parent.pk, *parent.ancestor_ids()]
        if self.pk is not None and self.pk in above:
            raise ValidationError(
                {"parent": _("A group cannot lie within itself or a group below it.")},
                code="cycle",
            )
        if len(above) + self._height() > MAX_DEPTH:
            raise ValidationError(
                {"parent": _("Groups nest at most %(deepest)d deep.") % {"deepest": MAX_DEPTH}},
                code="deep",
            )

    def ancestor_ids(self) -> list[int]:
        """Return the primary keys of the groups that this one lies in, nearest first."""
        found: list[int] = []
        above = self.parent_id
        while above is not None and above not in found:
            found.append(above)
            above = DeviceGroup.objects.values_list("parent_id", flat=True).get(pk=above)
        return found

    def _height(self) -> int:
        """Return how many levels hang on this group, itself included."""
        height, level = 1, [self.pk] if self.pk else []
        while level and height <= MAX_DEPTH:
            level = list(DeviceGroup.objects.filter(parent__in=level).values_list("pk", flat=True))
            height += bool(level)
        return height
