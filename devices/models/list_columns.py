"""The columns of the admin's lists that members of staff chose."""

from typing import Any

from django.conf import settings
from django.db import models


class ListColumnsManager(models.Manager["ListColumns"]):
    def of(self, user: Any, listed: str) -> list[str] | None:
        """Return the columns that an account chose for a list; None where it chose none."""
        columns: list[str] | None = (
            self.filter(user_id=user.pk, listed=listed).values_list("columns", flat=True).first()
        )
        return columns

    def choose(self, user: Any, listed: str, columns: list[str] | None) -> None:
        """Keep the columns for this account; None: the usual ones again."""
        if columns is None:
            self.filter(user_id=user.pk, listed=listed).delete()
        else:
            chosen = {"columns": columns}
            self.update_or_create(user_id=user.pk, listed=listed, defaults=chosen)


class ListColumns(models.Model):
    """The columns of one list, as one account wants to see it."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    listed = models.CharField(max_length=100)  # a model, such as "devices.device"
    columns = models.JSONField(default=list)  # keys of columns

    objects = ListColumnsManager()

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["user", "listed"], name="devices_listcolumns_once_for_each_list"
            )
        ]

    def __str__(self) -> str:
        return f"{self.listed} · {self.user_id}"
