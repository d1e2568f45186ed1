"""Requests of the API that were sent under an Idempotency-Key, and how they were answered."""

from datetime import datetime, timedelta

from django.db import models

KEPT = timedelta(hours=24)
BATCH_SIZE = 1000  # rows in one statement


class IdempotentAnswerQuerySet(models.QuerySet["IdempotentAnswer"]):
    def forget(self, now: datetime) -> int:
        """Delete those that nobody may ask for any more; return how many."""
        old, count = self.filter(created__lt=now - KEPT).order_by("created"), 0
        while keys := list(old.values_list("pk", flat=True)[:BATCH_SIZE]):
            count += self.filter(pk__in=keys).delete()[0]
        return count


class IdempotentAnswer(models.Model):
    """A request and, once it is done, its answer: encrypted, for who knows the key of it."""

    name = models.CharField(max_length=64, primary_key=True)  # a digest of the key and its owner
    fingerprint = models.CharField(max_length=64)  # of the request, keyed with the key
    holder = models.UUIDField()  # who answers it: one process, for a while
    created = models.DateTimeField(db_index=True)
    pepper = models.CharField(max_length=32, blank=True)
    answer = models.BinaryField(null=True)

    objects = IdempotentAnswerQuerySet.as_manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name
