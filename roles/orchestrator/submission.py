"""Taking in jobs: admission, the way onto the disk and into the queue, and repeated submissions."""

from __future__ import annotations

import asyncio
import hashlib
import random
import uuid
from functools import partial

import msgspec
from msgspec import UNSET

from llorch import errors
from llorch.job import JobId, State
from llorch.wire.codec import encode
from llorch.wire.conversation import images_of
from llorch.wire.embedding import kind_of
from llorch.wire.tasks import DEFAULT_MAX_TOKENS, Accepted, SubmitTask
from llorch.wire.workers import TokenCount, counting
from roles.orchestrator.clock import ClockMs
from roles.orchestrator.fleet import Fleet
from roles.orchestrator.metrics import OrchestratorMetrics
from roles.orchestrator.names import Names
from roles.orchestrator.queue.admission import Fit, QueueState, admit, prompt_sha256, too_long
from roles.orchestrator.queue.dispatcher import Dispatcher
from roles.orchestrator.queue.order import Ticket
from roles.orchestrator.scheduler.prefix import prefix_of
from roles.orchestrator.state.rows import JobRow, NewJob
from roles.orchestrator.state.store import Store
from roles.orchestrator.view import events_url

COUNT_TIMEOUT_S = 2.0
KEEP_JOBS = 256
KEEP_BYTES = 64 * 1024
"""The requests of so many waiting jobs, if small, stay in memory: a job that starts at once is not read back."""
KEEP_PREFIXES = 10_000
"""Of so many waiting jobs is known where the beginning of their prompt was computed; at most 20 MB."""


class Submissions:
    """Takes in jobs. Nothing is told to a client before it is on disk.

    Args:
        store: Where accepted jobs are written.
        dispatcher: What gets them then.
        fleet: What is known of models.
        metrics: Counts what was accepted and why something was not.
        clock_ms: The time.
        names: What names of models mean.
        prefix_key: What the beginnings of prompts are hashed with; None when they are not looked at.
        capacity: How many jobs may wait; -1 for any number.
    """

    def __init__(  # noqa: PLR0913 - what a submission touches
        self,
        store: Store,
        dispatcher: Dispatcher,
        *,
        fleet: Fleet,
        metrics: OrchestratorMetrics,
        clock_ms: ClockMs,
        names: Names,
        prefix_key: bytes | None,
        capacity: int,
    ) -> None:
        self.draining = False
        self.last_seq = 0
        self._store = store
        self._dispatcher = dispatcher
        self._fleet = fleet
        self._metrics = metrics
        self._clock_ms = clock_ms
        self._names = names
        self._prefix_key = prefix_key
        self._capacity = capacity
        self._entering = 0

    async def submit(self, task: SubmitTask, *, key: str | None, owner: str, correlation_id: str) -> Accepted:
        """Accept a job; it is on disk when this returns.

        Raises:
            LlorchError: Refused by admission, or the key belongs to another body, or the disk is full.
        """
        if key is not None and (known := await self._store.by_key(owner, key)) is not None:
            return self._same(known, task)
        try:
            job = await self._admit(task, key=key, owner=owner, correlation_id=correlation_id)
            fresh = await self._enter(job, task)
        except errors.LlorchError as error:
            self._metrics.enqueued.labels(error.code.lower()).inc()
            raise
        if not fresh and key is not None:
            known = await self._store.by_key(owner, key)
            if known is None:
                raise errors.Conflict("the job of this Idempotency-Key has just been purged; submit again")
            return self._same(known, task)
        return self._accepted(job.id, State.QUEUED, job.seed, job.model_ref)

    async def _admit(self, task: SubmitTask, *, key: str | None, owner: str, correlation_id: str) -> NewJob:
        model_ref = await self._names.pinned(task.model)
        now_ms = self._clock_ms()
        fit = self._check(task, model_ref, now_ms=now_ms)
        if not fit.certainly_fits and kind_of(task) == "text-gen" and not images_of(task.messages):
            # whoever runs it looks at pictures once, and at inputs
            await self._count(task, model_ref)
            self._check(task, model_ref, now_ms=self._clock_ms())  # others have come meanwhile
        request_sha256 = _sha256(task)
        seed = max_tokens = 0
        if kind_of(task) == "text-gen":
            seed = task.seed if task.seed is not UNSET else random.getrandbits(64)
            max_tokens = task.max_tokens if task.max_tokens is not UNSET else DEFAULT_MAX_TOKENS
        task = _filled(task, seed, max_tokens)
        self.last_seq += 1
        session_id = task.session_id if task.session_id is not UNSET else None
        return NewJob(
            seq=self.last_seq,
            id=JobId(str(uuid.uuid4())),
            model=task.model,
            model_ref=model_ref,
            request=encode(task),
            prompt_sha256=prompt_sha256(task),
            priority=task.priority,
            session_id=session_id,
            owner=owner,
            correlation_id=correlation_id,
            on_disconnect=task.on_disconnect,
            seed=seed,
            max_tokens=max_tokens,
            tag=self._dispatcher.queue.next_tag(task.priority, session_id, model_ref=model_ref),
            idempotency_key=key,
            request_sha256=request_sha256,
            submitted_ms=now_ms,
            deadline_ms=now_ms + task.timeout_ms,
            kind=kind_of(task),
        )

    def _check(self, task: SubmitTask, model_ref: str, *, now_ms: int) -> Fit:
        """Refuse what cannot be served now; nothing may be waited for between this and `_enter`."""
        queue = QueueState(
            waiting=len(self._dispatcher.queue) + self._entering,
            capacity=self._capacity,
            finished_per_s=self._dispatcher.rate.per_second(now_ms),
            draining=self.draining,
        )
        return admit(task, queue, self._fleet.model(model_ref), sees=self._fleet.sees(model_ref))

    async def _enter(self, job: NewJob, task: SubmitTask) -> bool:
        """Put a job on disk and into the queue; False when its idempotency key is already there.

        The caller may leave at any time, but what is on disk is in the queue too: the two go together in a callback
        of the write, which nobody can cancel.
        """
        written = self._store.enqueue(job)
        self._entering += 1
        written.add_done_callback(partial(self._entered, job, task))
        try:
            return await asyncio.shield(written)
        except asyncio.CancelledError:
            if task.on_disconnect == "cancel" and not self.draining:
                written.add_done_callback(lambda _: self._dispatcher.abandon(job.id))
            raise

    def _entered(self, job: NewJob, task: SubmitTask, written: asyncio.Future[bool]) -> None:
        self._entering -= 1
        if written.cancelled() or written.exception() is not None or not written.result():
            return
        self._metrics.enqueued.labels("accepted").inc()
        ticket = _ticket(job)
        if self._prefix_key is not None and job.kind == "text-gen" and len(self._dispatcher.queue) < KEEP_PREFIXES:
            ticket.prefix = prefix_of(task, job.model_ref, key=self._prefix_key)
        if len(job.request) <= KEEP_BYTES and len(self._dispatcher.queue) < KEEP_JOBS:
            ticket.task = _filled(task, job.seed, job.max_tokens)
        self._dispatcher.add(ticket)

    async def _count(self, task: SubmitTask, model_ref: str) -> None:
        """Let a ready worker count a prompt whose bytes alone leave it open whether it fits."""
        client = self._fleet.any_client(model_ref)
        if client is None:
            return
        try:
            count = await client.send("POST", "/count", TokenCount, body=counting(task), timeout_s=COUNT_TIMEOUT_S)
        except (errors.PeerError, errors.RemoteError) as error:
            if error.status == errors.InvalidRequest.status:
                raise
            return  # the worker's trouble is not the job's: the one that runs it will count again
        if count.exact and count.tokens >= count.context_length:
            raise too_long(count.tokens, count.context_length, exact=True)

    def _accepted(self, job_id: JobId, state: State, seed: int, model_ref: str) -> Accepted:
        position = self._dispatcher.queue.position(job_id) or 0
        return Accepted(job_id, state.value, position, seed, events_url(job_id), model_ref)

    def _same(self, row: JobRow, task: SubmitTask) -> Accepted:
        """Answer a repeated submission with the job of the first one."""
        if row.request_sha256 != _sha256(task):
            raise errors.Conflict(
                "this Idempotency-Key was used for another body; use a new key for a new job",
                details={"job_id": row.id},
            )
        return self._accepted(row.id, row.state, row.seed, row.model_ref)


def _filled(task: SubmitTask, seed: int, max_tokens: int) -> SubmitTask:
    """Return the job as it goes to workers: with what was not said, where it has a meaning."""
    return msgspec.structs.replace(task, seed=seed, max_tokens=max_tokens) if kind_of(task) == "text-gen" else task


def _sha256(task: SubmitTask) -> str:
    return hashlib.sha256(encode(task)).hexdigest()


def _ticket(job: NewJob) -> Ticket:
    return Ticket(
        id=job.id,
        seq=job.seq,
        model_ref=job.model_ref,
        session_id=job.session_id,
        priority=job.priority,
        submitted_ms=job.submitted_ms,
        deadline_ms=job.deadline_ms,
        correlation_id=job.correlation_id,
        on_disconnect=job.on_disconnect,
        tag=job.tag,
        kind=job.kind,
    )
