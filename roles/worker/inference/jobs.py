"""The jobs of a worker: those that hold a slot, and those that ended a moment ago. Independent of connections.

A job's own task is its only writer; any number of readers follow it. When the last reader has left, the job goes on for
`reattach_s` and keeps its events, within a limit: beyond it the job ends with a retriable error, because llama.cpp
cannot be paused (it would go on into its own memory) and an event that was dropped could never be delivered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from typing import NamedTuple

from llorch import errors
from llorch.sse import KEEPALIVE, encode_event
from llorch.wire import codec
from llorch.wire.events import Failed, WorkerToken
from roles.worker.inference.replay import Id, Replay

BUFFER_BYTES = 4 * 1024 * 1024
KEEPALIVE_S = 15.0


class Piece(NamedTuple):
    """Text for one token event, not empty, with what `WorkerToken` says about it."""

    text: str
    ids: list[int]
    held: str


class Job:
    """One attempt of a job.

    Args:
        job_id: Given by the orchestrator.
        attempt: Its number.
        first_token: The index of the first token event.
        buffer_bytes: How many events are kept, in bytes.
    """

    def __init__(self, job_id: str, attempt: int, *, first_token: int = 0, buffer_bytes: int = BUFFER_BYTES) -> None:
        self.id = job_id
        self.attempt = attempt
        self.done = False
        self.error: errors.LlorchError | None = None
        self.stopping: errors.LlorchError | None = None
        self.stopped_s = 0.0
        self.task: asyncio.Task[None] | None = None
        self.unread_since_s = self.changed_s = self.ended_s = time.monotonic()
        self._replay = Replay(buffer_bytes)
        self._next_token = first_token
        self._serial = 0
        self._positions: dict[object, int] = {}
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def readers(self) -> int:
        """How many follow it now."""
        return len(self._positions)

    def tokens(self, pieces: Iterable[Piece]) -> None:
        """Write pieces of text.

        Raises:
            WorkerLost: The buffer is full of events that nobody has read.
        """
        for piece in pieces:
            index = self._next_token
            self._next_token = number = index + 1
            body = codec.encode(WorkerToken(index, piece.text, piece.ids, piece.held))
            self._replay.append((number, 0), encode_event("token", f"{number}.0", body))
        self._wake()
        if self._replay.full:
            self._replay.let_go(max(self._positions.values(), default=0))
            if self._replay.full:
                raise errors.WorkerLost("nobody read the job's events until their buffer was full")

    def event(self, kind: str, body: object) -> None:
        """Write an event that is not a token; `end` and `error` are the last."""
        self._serial = max(self._serial + 1, time.time_ns() // 1_000_000)
        event_id: Id = (self._next_token, self._serial)
        self._replay.append(event_id, encode_event(kind, f"{event_id[0]}.{event_id[1]}", codec.encode(body)))
        if kind in {"end", "error"}:
            self.done = True
            self.ended_s = time.monotonic()
        self._wake()

    def fail(self, error: errors.LlorchError) -> None:
        """Write the last event of a job that did not get to its end."""
        self.error = error
        self.event("error", Failed(code=error.code, message=error.message, retriable=error.retriable))

    def stop(self, reason: errors.LlorchError) -> None:
        """Have it ended with *reason* as soon as the engine lets go; the first reason stays."""
        if self.done or self.stopping is not None:
            return
        self.stopping, self.stopped_s = reason, time.monotonic()
        if self.task is not None:
            self.task.cancel()

    def position_after(self, event_id: Id) -> int:
        """Return where to follow from; raises JobNotFound when what comes next is no longer kept."""
        return self._replay.position_after(event_id)

    async def follow(self, position: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield encoded events from *position* to the last one, a comment when nothing happens.

        A reader who falls so far behind that its next event is gone gets an early end.
        """
        me = object()
        self._positions[me] = position
        try:
            while True:
                if position < self._replay.end:
                    block = self._replay.read(position)
                    if block is None:
                        return
                    self._positions[me] = position = self._replay.end
                    yield block
                elif self.done:
                    return
                else:
                    await self._news()
                    if position == self._replay.end and not self.done:
                        yield KEEPALIVE
        finally:
            del self._positions[me]
            self.unread_since_s = time.monotonic()

    def nudge(self, now_s: float) -> None:
        """Let the readers say that they are still there when the job has been quiet for long."""
        if self._waiting and now_s - self.changed_s > KEEPALIVE_S:
            self._wake()

    async def _news(self) -> None:
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    def _wake(self) -> None:
        self.changed_s = time.monotonic()
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)


class Jobs:
    """All jobs by id. Written by the worker's core.

    Args:
        slots: How many may run at a time.
        reattach_s: How long a job without readers goes on, and how long a finished one is kept.
    """

    def __init__(self, slots: int, reattach_s: float) -> None:
        self.slots = slots
        self._reattach_s = reattach_s
        self._jobs: dict[str, Job] = {}
        self._running: set[str] = set()

    @property
    def busy(self) -> int:
        """How many slots are taken."""
        return len(self._running)

    def running(self) -> list[Job]:
        """Return the jobs that hold a slot."""
        return [self._jobs[job_id] for job_id in self._running]

    def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            JobNotFound: Never seen, or forgotten.
        """
        if job_id not in self._jobs:
            raise errors.JobNotFound("this worker knows no job with that id, or no longer")
        return self._jobs[job_id]

    def reserve(self, job_id: str, attempt: int, *, first_token: int) -> Job:
        """Give a new job a slot.

        Raises:
            Conflict: The job is running here, or this attempt has been seen.
            AllSlotsBusy: There is no free slot.
        """
        known = self._jobs.get(job_id)
        if known is not None and (job_id in self._running or known.attempt == attempt):
            raise errors.Conflict("this worker already has that job; read its events instead")
        if self.busy >= self.slots:
            raise errors.AllSlotsBusy(f"all {self.slots} slots of this worker are busy", retry_after_s=1)
        job = self._jobs[job_id] = Job(job_id, attempt, first_token=first_token)
        self._running.add(job_id)
        return job

    def release(self, job: Job) -> None:
        """Take back the slot of a job that has ended."""
        self._running.discard(job.id)

    def forget(self, job: Job) -> None:
        """Take back the slot of a job that never began."""
        self.release(job)
        self._jobs.pop(job.id, None)

    def sweep(self, now_s: float) -> list[Job]:
        """Forget what ended long ago; return the running jobs that nobody came back for."""
        for job in list(self._jobs.values()):
            job.nudge(now_s)
            if job.id not in self._running and now_s - job.ended_s > self._reattach_s:
                del self._jobs[job.id]
        return [job for job in self.running() if not job.readers and now_s - job.unread_since_s > self._reattach_s]
