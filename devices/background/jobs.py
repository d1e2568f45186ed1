"""Doing jobs: one at a time in a thread of each server process, whole or not at all.

A job's change is one transaction, and so is the note that it is done. Meanwhile a second thread, on
a connection of its own, writes how far it is, keeps its lease and hears whether it is cancelled: so
progress is seen while nothing is committed. A process that dies leaves nothing but its lease.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.db import Error, InterfaceError, OperationalError, connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from devices import history
from devices.background.attempts import BackgroundThread
from devices.background.housekeeping import Housekeeper
from devices.credentials import hashing
from devices.credentials.sealing import seal, unseal
from devices.database.conflicts import is_conflict
from devices.database.turns import update_in_turn
from devices.extension_points import JOB_CHECKS, WATCHES
from devices.models import Device, Job
from devices.models.dependants import dependants, not_deletable
from devices.models.job import LEASE, REQUIRED, JobKind, JobState
from devices.transfer.columns import columns_of
from devices.transfer.formats import Format
from devices.transfer.importing import Import, Progress
from devices.transfer.rows import Options
from devices.transfer.tables import read

PROGRESS_EVERY = 0.5  # seconds between notes of progress
BATCH = 1000  # devices that are deleted between two of them
WRITING, DELETING = "write", "delete"  # stages in the transaction of the change
PURPOSE = b"authsite files of jobs v1"
# What an import needs besides, by what it counts.
NEEDED = {
    "secrets": "devices.add_presharedkey",
    "certificates": "devices.add_certificate",
    "groups_new": "devices.add_devicegroup",
    "groups_changed": "devices.change_devicegroup",
}

log = logging.getLogger(__name__)


class Cancelled(Exception):
    """The job was cancelled, or is another process's by now."""


class Failed(Exception):
    """The job cannot be done: why, and what there is to be told besides."""

    def __init__(self, why: str, result: dict[str, Any]) -> None:
        super().__init__(why)
        self.result = result


def sealed(content: bytes) -> tuple[str, bytes]:
    """Return the id of a pepper, and a file as it is kept under it: there may be secrets in it."""
    return hashing.newest_pepper(), seal(content, PURPOSE)


def unsealed(job: Job) -> bytes:
    """Return the uploaded file of a job; raises ValidationError where its pepper is missing."""
    if job.pepper not in hashing.peppers():
        raise ValidationError(_("The pepper that the file was encrypted with is missing."))
    return unseal(bytes(job.content or b""), job.pepper, PURPOSE)


class ProgressWriter:
    """Writes how far a job is, in a thread beside it, and learns whether it was cancelled."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._step = Progress("", 0)
        self._is_over, self._is_cancelled = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="job-progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def tell(self, step: Progress) -> None:
        """Note how far the job is; raises Cancelled where it is not to go on."""
        self._step = step
        if self._is_cancelled.is_set():
            raise Cancelled

    def begin(self, stage: str, total: int) -> None:
        """Write at once that the job begins to change rows; raises Cancelled.

        SQLite has one writer: until the job commits, nothing else is written of it.
        """
        self._step = Progress(stage, 0, total)
        self._write()
        self.tell(self._step)

    def _run(self) -> None:
        while not self._is_over.wait(PROGRESS_EVERY):
            try:
                self._write()
            except Error as error:  # SQLite has one writer, and the job may be it
                log.debug("the progress of a job was not written: %s", error)
            finally:
                connection.close()
        connection.close()

    def _write(self) -> None:
        held = Job.objects.held(self._job, self._job.claim)
        if held.filter(cancel_requested=True).exists() or not held.exists():
            self._is_cancelled.set()
            return
        update_in_turn(
            held,
            stage=self._step.stage,
            done=self._step.done,
            total=self._step.total,
            lease_until=timezone.now() + LEASE,
        )


def do(job: Job) -> None:
    """Do a claimed job, and write how it ended."""
    try:
        with ProgressWriter(job) as progress:
            _do(job, progress)
    except Cancelled:
        job.finish(JobState.CANCELLED, timezone.now())
    except Failed as error:
        job.finish(JobState.FAILED, timezone.now(), error=str(error), result=error.result)
    except ValidationError as error:
        job.finish(JobState.FAILED, timezone.now(), error=" ".join(error.messages))
    except (OperationalError, InterfaceError) as error:
        # It is busy, full or gone for a while: another try begins once the lease is over.
        log.warning("the job %s is broken off and will be tried again: %s", job, error)
    except Exception as error:
        if is_conflict(error):
            text = _("Somebody changed the same at this moment; nothing was changed. Try again.")
        else:
            log.exception("the job %s failed", job)
            text = _("An unexpected failure; see the log.")
        job.finish(JobState.FAILED, timezone.now(), error=text)


def _do(job: Job, progress: ProgressWriter) -> None:
    origin = history.origin(history.Origin.API, user=job.owner, reason=job.reason)
    if not job.owner.is_active:
        raise ValidationError(_("The account that asked for it is disabled."))
    if not all(may_have_done(job, timezone.now()) for may_have_done in JOB_CHECKS):
        raise ValidationError(_("The token that asked for it may not be used any more."))
    _refuse_lost([one for one in REQUIRED[JobKind(job.kind)] if not job.owner.has_perm(one)])
    if job.kind == JobKind.DELETE_DEVICES:
        progress.begin(DELETING, len(job.parameters["devices"]))
        with transaction.atomic(), origin:
            watches = [watch() for watch in WATCHES]
            result: dict[str, Any] = {"deleted": _deleted(job, progress.tell)}
            _close(job, watches, result)
        return
    run = Import(
        read(unsealed(job), Format(job.parameters["format"]), columns_of),
        Options(create_groups=job.parameters["create_groups"], random=job.parameters["random"]),
        progress=progress.tell,
    )
    run.check()
    result = report(run)
    _check_permitted(job, run)
    if not run.is_sound:
        raise Failed(_("The file has errors; nothing was imported."), result)
    if job.parameters["dry_run"]:
        job.finish(JobState.DONE, timezone.now(), result=result)
        return
    run.prepare()
    progress.begin(WRITING, len(run.entries))
    with transaction.atomic(), origin:
        watches = [watch() for watch in WATCHES]
        run.write()
        _close(job, watches, {**result, "imported": True})


def _refuse_lost(names: list[str]) -> None:
    """Raise ValidationError where the account that asked lacks what it needs by now."""
    if names:
        raise ValidationError(
            _("The account that asked for it may not do it any more: %(names)s."),
            params={"names": ", ".join(names)},
        )


def _deleted(job: Job, tell: Callable[[Progress], None]) -> int:
    keys, deleted = job.parameters["devices"], 0
    for start in range(0, len(keys), BATCH):
        tell(Progress(DELETING, start, len(keys)))
        chosen = Device.objects.filter(pk__in=keys[start : start + BATCH])
        _refuse_lost(not_deletable(dependants(chosen), job.owner))
        deleted += chosen.delete_with_history()
    return deleted


def _close(job: Job, watches: Sequence[Callable[[], Any]], result: dict[str, Any]) -> None:
    """Write in the transaction of the change that the job is done; raises to roll it back."""
    consequences = [compare() for compare in watches]
    if any(one.broken for one in consequences) and not job.parameters["accept_broken"]:
        text = _("An assertion would not hold any more; nothing was changed.")
        raise Failed(text, {"consequences": [one.as_json() for one in consequences]})
    if not job.finish(JobState.DONE, timezone.now(), result=result):
        raise Cancelled


def _check_permitted(job: Job, run: Import) -> None:
    """Raise ValidationError where the file needs a permission that the request did not have."""
    for counted, permission in NEEDED.items():
        if run.counts[counted] and not (
            permission in job.parameters["may"] and job.owner.has_perm(permission)
        ):
            raise ValidationError(
                _("The file needs a permission that is not granted: %(name)s."),
                params={"name": permission},
            )


def report(run: Import) -> dict[str, Any]:
    return {
        "imported": False,
        **run.counts,
        "errors": [problem._asdict() for problem in run.problems],
        "errors_total": run.problem_total,
        "warnings": [warning._asdict() for warning in run.warnings],
        "warnings_total": run.warning_total,
    }


class JobWorker(BackgroundThread):
    """Does jobs in the background of a server process, one by one, and deletes what is too old."""

    name = "jobs"

    def __init__(self) -> None:
        super().__init__()
        self.housekeeper = Housekeeper()

    def run(self, done: Callable[[], bool], seconds: float = float("inf")) -> bool:
        """Do the jobs that wait, until `done` or for about so long; return whether it is done."""
        end = time.monotonic() + seconds
        self.housekeeper.look()
        while not done() and time.monotonic() < end and self.run_one():
            connection.close()
            self.housekeeper.look()
        return done()

    def run_one(self) -> bool:
        """Do the next job in this thread; return whether there was one."""
        job = Job.objects.claim(timezone.now())
        if job is not None:
            do(job)
        return job is not None


worker = JobWorker()
