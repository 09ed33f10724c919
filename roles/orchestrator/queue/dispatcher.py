"""The one loop that acts: wake or tick, take a snapshot, decide, do it.

Owns the queue and the running attempts; nobody else changes them. A wake-up is a hint: the tick, once a second,
would find the same work.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass

import msgspec

from llorch import log
from llorch.errors import LlorchError, RemoteError, TimeoutExceeded, WorkerLost
from llorch.job import JobId, Move
from llorch.wire.pools import Spawned, SpawnWorker
from llorch.wire.tasks import SubmitTask
from roles.orchestrator.clock import ClockMs
from roles.orchestrator.fleet import Fleet
from roles.orchestrator.metrics import OrchestratorMetrics
from roles.orchestrator.queue.announcement import announcement
from roles.orchestrator.queue.attempt import CANCEL_GRACE_S, Attempt, Runner, Target
from roles.orchestrator.queue.order import JobQueue, Ticket
from roles.orchestrator.queue.retry import GiveUp, after_failure
from roles.orchestrator.queue.service_rate import ServiceRate
from roles.orchestrator.queue.settlement import Settlement, cancelled
from roles.orchestrator.relay import Relay, Stream
from roles.orchestrator.scheduler.decide import Decision, Dispatch, Reject, StartWorker, Wait, decide
from roles.orchestrator.scheduler.snapshot import ModelView, Snapshot
from roles.orchestrator.state.store import Store

TICK_S = 1.0
SPAWN_TIMEOUT_S = 30.0
_log = log.get("orchestrator.dispatcher")


@dataclass(slots=True)
class Running:
    """A job that a worker has, or is about to get."""

    ticket: Ticket
    worker_id: str
    attempt: Attempt
    hand_back: bool = False


class Dispatcher:
    """Serves the queue. `run` is the loop; the rest is called by the core."""

    def __init__(
        self, *, store: Store, relay: Relay, fleet: Fleet, metrics: OrchestratorMetrics, clock_ms: ClockMs
    ) -> None:
        self.queue = JobQueue()
        self.rate = ServiceRate()
        self.waits: dict[str, Wait] = {}
        self._running: dict[JobId, Running] = {}
        self._store = store
        self._relay = relay
        self._fleet = fleet
        self._metrics = metrics
        self._clock_ms = clock_ms
        self._settlement = Settlement(store, relay, metrics, self.rate, clock_ms)
        self._runner = Runner(store, relay, clock_ms)
        self._wake = asyncio.Event()
        self._all_done = asyncio.Event()
        self._abandoned: set[JobId] = set()
        self._draining = False
        self._told = True
        self._tasks: asyncio.TaskGroup | None = None
        self._ticked_at = 0.0

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S):
                        await self._wake.wait()
                self._wake.clear()
                while self._abandoned:
                    await self.cancel(self._abandoned.pop())
                await self._tick()
                if not self._draining:
                    self._schedule()
                if not self._told:
                    self._told = True
                    self._show_all()

    def wake(self) -> None:
        """Look again soon: something has changed."""
        self._wake.set()

    def fleet_changed(self) -> None:
        """Look again soon, and tell readers of waiting jobs what has changed for them."""
        self._told = False
        self._wake.set()

    def add(self, ticket: Ticket) -> None:
        """Take in a job that is on disk."""
        self.queue.add(ticket)
        self._wake.set()

    def running(self, job_id: JobId) -> Running | None:
        """Return a job that has a worker."""
        return self._running.get(job_id)

    async def cancel(self, job_id: JobId) -> bool:
        """Cancel a job; False when it neither waits nor runs."""
        ticket = self.queue.remove(job_id)
        if ticket is not None:
            await self._settlement.settle(ticket, Move.CANCEL, cancelled(), None)
            return True
        running = self._running.get(job_id)
        if running is None:
            return False
        await self._store.cancelling(job_id)
        running.attempt.cancel.set()
        return True

    def abandon(self, job_id: JobId) -> None:
        """Cancel a job soon, because the last reader that it was for has gone."""
        self._abandoned.add(job_id)
        self._wake.set()

    async def confirm_cancel(self, ticket: Ticket) -> None:
        """End a job that was being cancelled when an earlier process ended."""
        await self._settlement.settle(ticket, Move.CONFIRM_CANCEL, cancelled(), None)

    async def drain(self, grace_s: float) -> None:
        """Start nothing more, let what runs finish for *grace_s*, then hand the rest back to the queue."""
        self._draining = True
        if not self._running:
            return
        _log.info("waiting_for_running_jobs", jobs=len(self._running), grace_s=grace_s)
        self._all_done.clear()
        try:
            async with asyncio.timeout(grace_s):
                await self._all_done.wait()
        except TimeoutError:
            for running in self._running.values():
                running.hand_back = True
                running.attempt.cancel.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CANCEL_GRACE_S + TICK_S):
                    await self._all_done.wait()

    def _schedule(self) -> None:
        started = time.perf_counter()
        decisions = decide(self._snapshot())
        self._metrics.scheduling_ms.observe((time.perf_counter() - started) * 1000)
        self.waits = {decision.model_ref: decision for decision in decisions if isinstance(decision, Wait)}
        for decision in decisions:
            self._act(decision)

    def _snapshot(self) -> Snapshot:
        now_ms = self._clock_ms()
        return Snapshot(now_ms=now_ms, models=tuple(self._view(ref, now_ms) for ref in self.queue.models()))

    def _view(self, model_ref: str, now_ms: int) -> ModelView:
        workers, busy = self._fleet.ready_workers(model_ref)
        slots = sum(worker.free_slots for worker in workers)
        heads = self.queue.heads(model_ref, slots, now_ms=now_ms) if slots else []
        return ModelView(
            model_ref=model_ref,
            waiting=self.queue.waiting(model_ref),
            heads=tuple(ticket.id for ticket in heads),
            workers=tuple(workers),
            busy_workers=busy,
            starting=len(self._fleet.loading(model_ref)) if not workers else 0,
            pools=self._fleet.views(model_ref) if not workers else (),
        )

    def _act(self, decision: Decision) -> None:
        if self._tasks is None:
            return
        if isinstance(decision, Dispatch):
            ticket = self.queue.take(decision.job_id)
            if ticket is not None:
                self._fleet.lease(decision.worker_id, ticket.id)
                running = self._running[ticket.id] = Running(ticket, decision.worker_id, Attempt(seed=0))
                self._tasks.create_task(self._serve(running), name=f"job {ticket.id}")
        elif isinstance(decision, StartWorker):
            token = f"asking {decision.model_ref}"
            self._fleet.asked(decision.pool_id, token, decision.model_ref, now_ms=self._clock_ms())
            self._tasks.create_task(self._start_worker(decision, token), name=token)
        elif isinstance(decision, Reject):
            self._tasks.create_task(self._reject(decision), name=f"reject {decision.model_ref}")

    async def _start_worker(self, decision: StartWorker, token: str) -> None:
        pool_id, model_ref = decision.pool_id, decision.model_ref
        _log.info("worker_asked_for", pool_id=pool_id, model_ref=model_ref)
        try:
            client = self._fleet.pool(pool_id).client
            spawned = await client.send(
                "POST", "/v2/workers/spawn", Spawned, body=SpawnWorker(model_ref=model_ref), timeout_s=SPAWN_TIMEOUT_S
            )
        except LlorchError as error:
            _log.warning("worker_refused", pool_id=pool_id, model_ref=model_ref, code=error.code, reason=error.message)
            self._fleet.refused(
                pool_id, model_ref, code=error.code, message=f"pool {pool_id}: {error.message}", now_ms=self._clock_ms()
            )
        else:
            self._fleet.asked(pool_id, spawned.worker_id, model_ref, now_ms=self._clock_ms())
        finally:
            self._fleet.answered(pool_id, token)
            self._wake.set()

    async def _reject(self, decision: Reject) -> None:
        error = LlorchError(decision.message)
        error.code = decision.code
        while tickets := self.queue.heads(decision.model_ref, 100, now_ms=2**62):
            for ticket in tickets:
                if self.queue.remove(ticket.id):
                    await self._settlement.settle(ticket, Move.FAIL, error, None)

    async def _serve(self, running: Running) -> None:
        """Run one attempt and act on how it ended."""
        ticket = running.ticket
        try:
            ticket.attempt += 1
            found = self._fleet.worker(running.worker_id)
            client = self._fleet.client(running.worker_id)
            if found is None or client is None:
                await self._ended(running, WorkerLost("the worker is gone"), claimed=False)
                return
            pool_id = found[0].pool_id
            claimed = self._store.claim(
                ticket.id,
                attempt=ticket.attempt,
                worker_id=running.worker_id,
                pool_id=pool_id,
                now_ms=self._clock_ms(),
            )
            task = ticket.task or msgspec.json.decode(await claimed or b"", type=SubmitTask)
            ticket.task = None
            if task.seed is not msgspec.UNSET:
                running.attempt.seed = task.seed
            target = Target(
                worker_id=running.worker_id,
                pool_id=pool_id,
                model_ref=ticket.model_ref,
                correlation_id=ticket.correlation_id,
                attempt=ticket.attempt,
                client=client,
            )
            stream = self._relay.open(ticket.id, ticket.seq)
            before = stream.count
            limit_s = max(0.0, (ticket.deadline_ms - self._clock_ms()) / 1000)
            error = await self._runner.run(stream, task, target, running.attempt, limit_s=limit_s)
            await self._ended(running, error, claimed=True, tokens_before=before)
        finally:
            self._fleet.release(running.worker_id, ticket.id)
            self._running.pop(ticket.id, None)
            if not self._running:
                self._all_done.set()
            self._wake.set()

    async def _ended(
        self, running: Running, error: LlorchError | None, *, claimed: bool, tokens_before: int = 0
    ) -> None:
        ticket, attempt = running.ticket, running.attempt
        now_ms = self._clock_ms()
        if running.hand_back and attempt.end is None:
            await self._requeue(ticket, "HANDED_BACK", not_before_ms=0, claimed=claimed)
            return
        if attempt.cancel.is_set():
            await self._store.cancelling(ticket.id)
            await self._settlement.settle(ticket, Move.CONFIRM_CANCEL if claimed else Move.CANCEL, cancelled(), attempt)
            return
        if error is None:
            await self._settlement.settle(ticket, Move.COMPLETE, None, attempt, tokens_before=tokens_before)
            return
        outcome = after_failure(error, attempt=ticket.failures + 1, now_ms=now_ms, chance=random.random())
        if isinstance(outcome, GiveUp):
            error = RemoteError(outcome.message, code=outcome.code, status=error.status, retriable=outcome.retriable)
        if isinstance(outcome, GiveUp) or outcome.not_before_ms >= ticket.deadline_ms:
            await self._settlement.settle(ticket, Move.FAIL, error, attempt)
            return
        ticket.failures += outcome.counts
        self._metrics.retries.labels(error.code).inc()
        _log.warning("attempt_failed", job_id=ticket.id, attempt=ticket.attempt, code=error.code, reason=error.message)
        await self._requeue(ticket, error.code, not_before_ms=outcome.not_before_ms, claimed=claimed)

    async def _requeue(self, ticket: Ticket, outcome: str, *, not_before_ms: int, claimed: bool) -> None:
        stream = self._relay.find(ticket.id)
        if stream is not None:
            self._relay.store_rest(stream)
        now_ms = self._clock_ms()
        if claimed and not await self._store.requeue(
            ticket.id, outcome=outcome, not_before_ms=not_before_ms, now_ms=now_ms
        ):
            await self._settlement.settle(ticket, Move.CONFIRM_CANCEL, cancelled(), None)
            return
        self._metrics.dispatched.labels("retried").inc()
        ticket.not_before_ms = not_before_ms
        self.queue.add(ticket)

    async def _tick(self) -> None:
        """Do what time alone asks for, at most once a second."""
        now = time.monotonic()
        if now - self._ticked_at < TICK_S:
            return
        self._ticked_at = now
        now_ms = self._clock_ms()
        self.queue.promote(now_ms=now_ms)
        for pool_id in self._fleet.expire(now_ms=now_ms):
            _log.warning("pool_offline", pool_id=pool_id)
        for priority in ("interactive", "batch"):
            self._metrics.queue_depth.labels(priority).set(self.queue.depth(priority))
        for ticket in self.queue.expired(now_ms=now_ms):
            self.queue.remove(ticket.id)
            late = TimeoutExceeded("the job was not started within its timeout_ms", code="QUEUE_TIMEOUT")
            await self._settlement.settle(ticket, Move.FAIL, late, None)
        self._told = False

    def _show_all(self) -> None:
        for stream in self._relay.watched():
            self.show(stream)

    def show(self, stream: Stream) -> None:
        """Tell the readers of a waiting job where it stands, if that has changed."""
        ticket = self.queue.get(stream.job_id)
        if ticket is None:
            return
        kind, body = announcement(
            ticket,
            position=self.queue.position(ticket.id) or 0,
            wait=self.waits.get(ticket.model_ref),
            loading=self._fleet.loading(ticket.model_ref),
        )
        self._relay.show(stream, kind, body, now_ms=self._clock_ms())
