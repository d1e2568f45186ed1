"""What members of staff keep of the admin's lists: the columns that they chose, named filters."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

MAX_LENGTH = 2000  # characters of what an address says


class ListColumns(models.Model):
    """The columns of one list, as one account wants to see it; without a row, the usual ones."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    listed = models.CharField(max_length=100)  # a model, such as "devices.device"
    columns = models.JSONField(default=list)  # keys of columns

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["user", "listed"], name="devices_listcolumns_once_for_each_list"
            )
        ]

    def __str__(self) -> str:
        return f"{self.listed} · {self.user_id}"


class SavedFilter(models.Model):
    """What a list was narrowed to, under a name."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    listed = models.CharField(max_length=100)  # a model, such as "devices.device"
    name = models.CharField(_("name"), max_length=100)
    query = models.CharField(max_length=MAX_LENGTH)  # of the address
    is_shared = models.BooleanField(_("shared with all staff"), default=False)

    class Meta:
        ordering = ["name", "pk"]
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "listed", "name"],
                name="devices_savedfilter_name_unique",
                violation_error_message=_("You have a filter of this name."),
            )
        ]

    def __str__(self) -> str:
        return self.name
