"""Heartbeats: by what a standby shows how far behind the primary it is."""

from django.db import models


class Heartbeat(models.Model):
    """The last number that one process of a site wrote to the primary."""

    process = models.CharField(max_length=32, primary_key=True)
    number = models.BigIntegerField()
    written = models.DateTimeField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.process
