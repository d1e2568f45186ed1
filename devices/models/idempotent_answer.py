"""Requests of the API that were sent under an Idempotency-Key, and how they were answered."""

from django.db import models


class IdempotentAnswer(models.Model):
    """A request and, once it is done, its answer: encrypted, for who knows the key of it."""

    name = models.CharField(max_length=64, primary_key=True)  # a digest of the key and its owner
    fingerprint = models.CharField(max_length=64)  # of the request, keyed with the key
    holder = models.UUIDField()  # who answers it: one process, for a while
    created = models.DateTimeField(db_index=True)
    pepper = models.CharField(max_length=32, blank=True)
    answer = models.BinaryField(null=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name
