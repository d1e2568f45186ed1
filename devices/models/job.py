"""Long work that was asked for over the API: rows that the servers' processes claim and do."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import models, transaction
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

LEASE = timedelta(seconds=60)  # after which another process may take a job over
MAX_ATTEMPTS = 3  # of a job whose processes died, or whose database failed
KEPT = timedelta(days=7)  # what is over, to be asked about
MAX_UNFINISHED = 20  # of one token or account


class JobKind(models.TextChoices):
    IMPORT_DEVICES = "import-devices", _("import devices")
    DELETE_DEVICES = "delete-devices", _("delete devices")


class JobState(models.TextChoices):
    WAITING = "waiting", _("waiting")
    RUNNING = "running", _("running")
    DONE = "done", _("done")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")


# What whoever asks must be permitted, then and when it is done.
REQUIRED = {
    JobKind.IMPORT_DEVICES: ("devices.add_device", "devices.change_device"),
    JobKind.DELETE_DEVICES: ("devices.delete_device",),
}
UNFINISHED = (JobState.WAITING, JobState.RUNNING)


def asked_with(asks: Any) -> str:
    """Return what a job keeps of the token or the account that asks for it."""
    return f"{type(asks).__name__} {asks.pk}"


class JobQuerySet(models.QuerySet["Job"]):
    def unfinished(self) -> "JobQuerySet":
        return self.filter(state__in=UNFINISHED)

    def claim(self, now: datetime) -> "Job | None":
        """Take the oldest job that waits, or that nobody works on any more; None where none is."""
        free = self.filter(
            Q(state=JobState.WAITING) | Q(state=JobState.RUNNING, lease_until__lt=now)
        ).order_by("pk")
        if not free.exists():
            return None
        with transaction.atomic():
            job = free.select_for_update(skip_locked=True).first()
            if job is None:
                return None
            if job.attempts >= MAX_ATTEMPTS:
                text = _("Its process ended, or the database failed, again and again.")
                job.finish(JobState.FAILED, now, error=str(text))
                return None
            job.state, job.claim, job.lease_until = JobState.RUNNING, uuid4(), now + LEASE
            job.attempts += 1
            job.started = now
            job.save(update_fields=["state", "claim", "lease_until", "attempts", "started"])
        return job

    def held(self, job: "Job", claim: UUID | None) -> "JobQuerySet":
        """Return the job if that claim of it still holds."""
        return self.filter(pk=job.pk, claim=claim, state=JobState.RUNNING)

    def asked_by(self, *asks: models.Model) -> "JobQuerySet":
        """Return what tokens have asked for, or accounts that used none."""
        return self.filter(asked_with__in=[asked_with(one) for one in asks])

    def cancel(self, now: datetime) -> None:
        """Cancel those that are not over, each at its next step."""
        for job in self.unfinished():
            job.cancel(now)

    def forget(self, now: datetime) -> int:
        """Delete what has been over for long; return how many."""
        return self.exclude(state__in=UNFINISHED).filter(finished__lt=now - KEPT).delete()[0]


class Job(models.Model):
    """One piece of long work: done whole or not at all, by one process, once."""

    kind = models.CharField(_("kind"), max_length=32, choices=JobKind)
    state = models.CharField(_("state"), max_length=16, choices=JobState, default=JobState.WAITING)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("asked for by"),
        on_delete=models.CASCADE,
        related_name="+",
    )
    asked_with = models.CharField(max_length=64)  # the token that sees it, or the account
    reason = models.CharField(_("reason"), max_length=255, blank=True)
    parameters = models.JSONField(default=dict)
    content = models.BinaryField(null=True)  # the file: encrypted, and gone once the job is over
    pepper = models.CharField(max_length=32, blank=True)
    created = models.DateTimeField(_("created"), auto_now_add=True)
    started = models.DateTimeField(_("started"), null=True)
    finished = models.DateTimeField(_("finished"), null=True)
    stage = models.CharField(_("stage"), max_length=16, blank=True)
    done = models.PositiveIntegerField(_("done"), default=0)
    total = models.PositiveIntegerField(_("of"), null=True)
    cancel_requested = models.BooleanField(default=False)
    claim = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    result = models.JSONField(_("result"), null=True)
    error = models.TextField(_("error"), blank=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        default_permissions = ()
        indexes = [
            models.Index(
                fields=["id"],
                condition=Q(state__in=["waiting", "running"]),
                name="devices_job_unfinished",
            ),
            models.Index(fields=["asked_with", "id"], name="devices_job_asked_with"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"

    def finish(self, state: JobState, now: datetime, **said: Any) -> bool:
        """Write how the job ended, if nobody else has taken it over; its file is gone."""
        fields = {"state": state, "finished": now, "content": None, "parameters": {}, **said}
        for name, value in fields.items():
            setattr(self, name, value)
        return bool(Job.objects.held(self, self.claim).update(**fields)) or bool(
            Job.objects.filter(pk=self.pk, state=JobState.WAITING).update(**fields)
        )

    def cancel(self, now: datetime) -> None:
        """Cancel the job: at once where it waits, else at its next step; nothing of it stays."""
        waiting = Job.objects.filter(pk=self.pk, state=JobState.WAITING)
        ended = {"state": JobState.CANCELLED, "finished": now, "content": None, "parameters": {}}
        if not waiting.update(**ended):
            Job.objects.filter(pk=self.pk, state=JobState.RUNNING).update(cancel_requested=True)
