"""The jobs of a worker: those that hold a slot, and those that ended a moment ago."""

from __future__ import annotations

from llorch import errors
from roles.worker.inference.job import Job


class Jobs:
    """The newest attempt of each job, by the job's id. Written by the worker's executor.

    Args:
        slots: How many may run at a time.
        reattach_s: How long a job without a reader goes on, and how long a finished one is kept.
    """

    def __init__(self, slots: int, reattach_s: float) -> None:
        self.slots = slots
        self._reattach_s = reattach_s
        self._jobs: dict[str, Job] = {}
        self._running: set[Job] = set()
        self._replaced: set[Job] = set()

    @property
    def busy(self) -> int:
        """How many slots are taken."""
        return len(self._running)

    def running(self) -> list[Job]:
        """Return the jobs that have not ended: those that hold a slot, and those that are just giving it up."""
        return [*self._running, *self._replaced]

    def get(self, job_id: str) -> Job:
        """Return the newest attempt of a job.

        Raises:
            JobNotFound: Never seen, or forgotten.
        """
        if job_id not in self._jobs:
            raise errors.JobNotFound("this worker knows no job with that id, or no longer")
        return self._jobs[job_id]

    def reserve(self, job_id: str, attempt: int, *, first_token: int) -> Job:
        """Give a new attempt a slot: the one of an earlier attempt that still runs, which is stopped, or a free one.

        Raises:
            Conflict: This attempt has been seen, or a later one.
            AllSlotsBusy: There is no free slot.
        """
        known = self._jobs.get(job_id)
        if known is not None and attempt <= known.attempt:
            raise errors.Conflict(
                f"this worker already has attempt {known.attempt} of that job; read its events instead"
            )
        if known in self._running:
            assert known is not None
            self._running.remove(known)
            self._replaced.add(known)
            known.stop(errors.Cancelled(f"attempt {attempt} of the job took the place of attempt {known.attempt}"))
        elif self.busy >= self.slots:
            raise errors.AllSlotsBusy(f"all {self.slots} slots of this worker are busy", retry_after_s=1)
        job = self._jobs[job_id] = Job(job_id, attempt, first_token=first_token)
        self._running.add(job)
        return job

    def release(self, job: Job) -> None:
        """Take back the slot of a job that has ended, unless another attempt has it now."""
        self._running.discard(job)
        self._replaced.discard(job)

    def forget(self, job: Job) -> None:
        """Take back the slot of a job that never began."""
        self.release(job)
        if self._jobs.get(job.id) is job:
            del self._jobs[job.id]

    def sweep(self, now_s: float) -> list[Job]:
        """Forget what ended long ago; return the running jobs that nobody came back for."""
        for job in list(self._jobs.values()):
            job.nudge(now_s)
            if job not in self._running and now_s - job.ended_s > self._reattach_s:
                del self._jobs[job.id]
        return [job for job in self.running() if not job.is_read and now_s - job.unread_since_s > self._reattach_s]
