"""This project's devices, and a secret for each of them."""

from typing import ClassVar

from django.db import models


class Device(models.Model):
    """A row of this project's table of devices."""

    identifier = models.CharField(max_length=255, unique=True)
    enabled = models.BooleanField()

    objects: "ClassVar[models.Manager[Device]]" = models.Manager()

    class Meta:
        managed = False
        db_table = "devices_device"

    def __str__(self) -> str:
        return self.identifier


class Key(models.Model):
    """A secret, hashed as Django hashes passwords."""

    device = models.ForeignKey(Device, on_delete=models.CASCADE)
    password = models.CharField(max_length=255)
    not_before = models.DateTimeField(null=True)
    not_after = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    objects: "ClassVar[models.Manager[Key]]" = models.Manager()

    class Meta:
        managed = False
        db_table = "competitor_key"

    def __str__(self) -> str:
        return f"key {self.pk}"
