"""The orchestrator without HTTP: submit, look up, cancel, follow, and what pools say."""

from __future__ import annotations

import asyncio
import hashlib
import random
import uuid
from collections.abc import AsyncIterator, Mapping
from functools import partial

import msgspec
from msgspec import UNSET

from llorch import errors, log, models
from llorch.job import FINAL, JobId, State
from llorch.wire.codec import encode
from llorch.wire.events import EventId
from llorch.wire.pools import Heartbeat, Register, Spawned, SpawnWorker
from llorch.wire.tasks import DEFAULT_MAX_TOKENS, Accepted, CancelReply, Explanation, SubmitTask, Task
from llorch.wire.workers import CountTokens, TokenCount
from roles.orchestrator.clock import ClockMs
from roles.orchestrator.fleet import Fleet
from roles.orchestrator.metrics import OrchestratorMetrics
from roles.orchestrator.queue.admission import QueueState, admit, prompt_sha256, too_long
from roles.orchestrator.queue.dispatcher import Dispatcher
from roles.orchestrator.queue.order import Ticket
from roles.orchestrator.relay import Relay, Stream
from roles.orchestrator.state.rows import Filter, JobRow, NewJob
from roles.orchestrator.state.store import Store
from roles.orchestrator.view import events_url, explain, task_of

COUNT_TIMEOUT_S = 2.0
KEEP_JOBS = 256
KEEP_BYTES = 64 * 1024
"""The requests of so many waiting jobs, if small, stay in memory: a job that starts at once is not read back."""
_log = log.get("orchestrator")


class Orchestrator:
    """What the API calls. Nothing is told to a client before it is on disk."""

    def __init__(
        self,
        *,
        store: Store,
        fleet: Fleet,
        metrics: OrchestratorMetrics,
        clock_ms: ClockMs,
        aliases: Mapping[str, str],
        queue_capacity: int,
    ) -> None:
        self.relay = Relay(store, on_read=self._read, on_unread=self._unread)
        self.dispatcher = Dispatcher(store=store, relay=self.relay, fleet=fleet, metrics=metrics, clock_ms=clock_ms)
        self.fleet = fleet
        self.aliases = aliases
        self.queue_capacity = queue_capacity
        self.draining = False
        self._store = store
        self._metrics = metrics
        self._clock_ms = clock_ms
        self._last_seq = 0
        self._entering = 0

    async def recover(self) -> None:
        """Take up what an earlier process left: waiting jobs wait on, running ones wait for another attempt."""
        self._last_seq = await self._store.last_seq()
        rows = await self._store.unfinished()
        for row in rows:
            await self._recover(row)
        if rows:
            _log.info("jobs_recovered", jobs=len(rows))

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

    async def task(self, job_id: str, *, attempts: bool = True) -> Task:
        """Return everything known about a job.

        Raises:
            JobNotFound: There is none with that id.
        """
        row = await self._row(job_id)
        log_of_attempts = await self._store.attempts(row.seq) if attempts else None
        return task_of(row, position=self.dispatcher.queue.position(row.id), attempts=log_of_attempts)

    async def tasks(self, wanted: Filter) -> tuple[list[Task], int | None]:
        """Return a page of jobs, newest first, and the sequence number to go on before."""
        rows = await self._store.page(wanted)
        position = self.dispatcher.queue.position
        found = [task_of(row, position=position(row.id), attempts=None) for row in rows]
        return found, rows[-1].seq if len(rows) == wanted.limit else None

    async def cancel(self, job_id: str) -> CancelReply:
        """Cancel a job; the reply has its final state, or `cancelling` while a worker still has it.

        Raises:
            JobNotFound: There is none with that id.
        """
        row = await self._row(job_id)
        if row.state not in FINAL:
            await self.dispatcher.cancel(row.id)
            row = await self._row(job_id)
        return CancelReply(row.id, row.state.value)

    async def explain(self, job_id: str) -> Explanation:
        """Tell why a job is where it is, from what the scheduler decided last.

        Raises:
            JobNotFound: There is none with that id.
        """
        row = await self._row(job_id)
        queue = self.dispatcher.queue
        return explain(
            row,
            position=queue.position(row.id),
            wait=self.dispatcher.waits.get(row.model_ref),
            loading=self.fleet.loading(row.model_ref),
            now_ms=self._clock_ms(),
        )

    async def follow(self, job_id: str, after: EventId) -> AsyncIterator[bytes]:
        """Return a job's events behind *after*; raises before the first one when there are none to be had.

        Raises:
            JobNotFound: No such job, or its output is not kept any more.
        """
        if self.relay.find(JobId(job_id)) is None:
            row = await self._row(job_id)
            if (
                row.state in FINAL
                and row.pieces > after.tokens
                and not await self._store.output(row.seq, start=after.tokens)
            ):
                raise errors.JobNotFound("the output of this job is not kept any more")
        return self.relay.follow(JobId(job_id), after)

    async def register(self, body: Register) -> None:
        """Take in a pool."""
        await self.fleet.register(body, now_ms=self._clock_ms())
        _log.info("pool_registered", pool_id=body.pool_id, endpoint=body.endpoint, devices=len(body.devices))
        self.dispatcher.fleet_changed()

    async def heard(self, pool_id: str, beat: Heartbeat) -> None:
        """Take a heartbeat."""
        lost = await self.fleet.heard(pool_id, beat, now_ms=self._clock_ms())
        for worker_id in lost:
            _log.info("worker_gone", pool_id=pool_id, worker_id=worker_id)
        self.dispatcher.fleet_changed()

    async def spawn(self, pool_id: str, body: SpawnWorker) -> Spawned:
        """Ask a pool for a worker, on an operator's behalf.

        Raises:
            LlorchError: The pool's own refusal, or `POOL_UNREACHABLE`.
        """
        body = msgspec.structs.replace(body, model_ref=models.resolve(body.model_ref, self.aliases))
        pool = self.fleet.pool(pool_id)
        try:
            spawned = await pool.client.send("POST", "/v2/workers/spawn", Spawned, body=body)
        except errors.Unreachable as error:
            raise errors.PoolUnreachable(error.message) from error
        self.fleet.asked(pool_id, spawned.worker_id, body.model_ref, now_ms=self._clock_ms())
        return spawned

    async def clean(self, *, output_retention_ms: int, purge_after_ms: int) -> None:
        """Erase what has been kept long enough."""
        now_ms = self._clock_ms()
        await self._store.erase_outputs(finished_before_ms=now_ms - output_retention_ms)
        await self._store.purge(finished_before_ms=now_ms - purge_after_ms)

    async def drain(self, grace_s: float) -> None:
        """Refuse new work; let running jobs finish, or hand them back to the queue."""
        self.draining = True
        await self.dispatcher.drain(grace_s)

    def _read(self, stream: Stream) -> None:
        self.dispatcher.show(stream)

    def _unread(self, job_id: JobId) -> None:
        ticket = self.dispatcher.queue.get(job_id)
        running = self.dispatcher.running(job_id)
        ticket = running.ticket if running is not None else ticket
        if ticket is not None and ticket.on_disconnect == "cancel" and not self.draining:
            self.dispatcher.abandon(job_id)

    async def _row(self, job_id: str) -> JobRow:
        row = await self._store.get(job_id)
        if row is None:
            raise errors.JobNotFound("there is no such job, or it was purged")
        return row

    async def _admit(self, task: SubmitTask, *, key: str | None, owner: str, correlation_id: str) -> NewJob:
        now_ms = self._clock_ms()
        model_ref = models.resolve(task.model, self.aliases)
        queue = QueueState(
            waiting=len(self.dispatcher.queue) + self._entering,
            capacity=self.queue_capacity,
            finished_per_s=self.dispatcher.rate.per_second(now_ms),
            draining=self.draining,
        )
        fit = admit(task, queue, self.fleet.model(model_ref))
        if not fit.certainly_fits:
            await self._count(task, model_ref)
        request_sha256 = _sha256(task)
        seed = task.seed if task.seed is not UNSET else random.getrandbits(64)
        max_tokens = task.max_tokens if task.max_tokens is not UNSET else DEFAULT_MAX_TOKENS
        task = msgspec.structs.replace(task, seed=seed, max_tokens=max_tokens)
        self._last_seq += 1
        session_id = task.session_id if task.session_id is not UNSET else None
        return NewJob(
            seq=self._last_seq,
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
            tag=self.dispatcher.queue.next_tag(task.priority, session_id),
            idempotency_key=key,
            request_sha256=request_sha256,
            submitted_ms=now_ms,
            deadline_ms=now_ms + task.timeout_ms,
        )

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
                written.add_done_callback(lambda _: self.dispatcher.abandon(job.id))
            raise

    def _entered(self, job: NewJob, task: SubmitTask, written: asyncio.Future[bool]) -> None:
        self._entering -= 1
        if written.cancelled() or written.exception() is not None or not written.result():
            return
        self._metrics.enqueued.labels("accepted").inc()
        ticket = _ticket(job)
        if len(job.request) <= KEEP_BYTES and len(self.dispatcher.queue) < KEEP_JOBS:
            ticket.task = msgspec.structs.replace(task, seed=job.seed, max_tokens=job.max_tokens)
        self.dispatcher.add(ticket)

    async def _count(self, task: SubmitTask, model_ref: str) -> None:
        """Let a ready worker count a prompt whose bytes alone leave it open whether it fits."""
        client = self.fleet.any_client(model_ref)
        if client is None:
            return
        body = CountTokens(prompt=task.prompt, messages=task.messages)
        try:
            count = await client.send("POST", "/count", TokenCount, body=body, timeout_s=COUNT_TIMEOUT_S)
        except errors.PeerError:
            return  # the worker will count again when it runs the job
        if count.tokens >= count.context_length:
            raise too_long(count.tokens, count.context_length, exact=True)

    def _accepted(self, job_id: JobId, state: State, seed: int, model_ref: str) -> Accepted:
        position = self.dispatcher.queue.position(job_id) or 0
        return Accepted(job_id, state.value, position, seed, events_url(job_id), model_ref)

    def _same(self, row: JobRow, task: SubmitTask) -> Accepted:
        """Answer a repeated submission with the job of the first one."""
        if row.request_sha256 != _sha256(task):
            raise errors.Conflict(
                "this Idempotency-Key was used for another body; use a new key for a new job",
                details={"job_id": row.id},
            )
        return self._accepted(row.id, row.state, row.seed, row.model_ref)

    async def _recover(self, row: JobRow) -> None:
        now_ms = self._clock_ms()
        ticket = Ticket(
            id=row.id,
            seq=row.seq,
            model_ref=row.model_ref,
            session_id=row.session_id,
            priority=row.priority,
            submitted_ms=row.submitted_ms,
            deadline_ms=row.deadline_ms,
            correlation_id=row.correlation_id,
            on_disconnect=row.on_disconnect,
            tag=row.tag,
            attempt=row.attempt,
            not_before_ms=row.not_before_ms,
        )
        pieces = await self._store.pieces(row.seq)
        if pieces or row.started_event is not None:
            self.relay.restore(self.relay.open(row.id, row.seq), row, pieces)
        if row.state == State.CANCELLING:
            await self.dispatcher.confirm_cancel(ticket)
            return
        if row.state != State.QUEUED:
            await self._store.requeue(row.id, outcome="ORCHESTRATOR_RESTARTED", not_before_ms=0, now_ms=now_ms)
        self.dispatcher.add(ticket)


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
    )
