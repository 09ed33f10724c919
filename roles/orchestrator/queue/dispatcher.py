"""The one loop that acts: wake or tick, take a snapshot, decide, do it.

Owns the queue; nobody else changes it. A wake-up is a hint: the tick, once a second,
would find the same work.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from itertools import islice

from llorch import log
from llorch.errors import LlorchError, TimeoutExceeded
from llorch.job import JobId, Move
from roles.orchestrator.clock import ClockMs
from roles.orchestrator.fleet import Fleet
from roles.orchestrator.metrics import OrchestratorMetrics
from roles.orchestrator.names import Names
from roles.orchestrator.queue.announcement import announcement
from roles.orchestrator.queue.attempt import Patience
from roles.orchestrator.queue.order import JobQueue, Ticket
from roles.orchestrator.queue.placement import Placement
from roles.orchestrator.queue.runs import Runs
from roles.orchestrator.queue.service_rate import ServiceRate
from roles.orchestrator.queue.settlement import Settlement, cancelled
from roles.orchestrator.relay import Relay
from roles.orchestrator.state.store import Store
from roles.orchestrator.stream import Stream

TICK_S = 1.0
SETTLE_TOGETHER = 256
"""Jobs that are ended in one commit, where many end for one reason."""
_log = log.get("orchestrator.dispatcher")


class Dispatcher:
    """Serves the queue. `run` is the loop; the rest is called by the core."""

    def __init__(  # noqa: PLR0913 - what it acts on
        self,
        *,
        store: Store,
        relay: Relay,
        fleet: Fleet,
        names: Names,
        metrics: OrchestratorMetrics,
        clock_ms: ClockMs,
        patience: Patience,
    ) -> None:
        self.queue = JobQueue()
        self.rate = ServiceRate()
        self._store = store
        self._relay = relay
        self._fleet = fleet
        self._metrics = metrics
        self._clock_ms = clock_ms
        self._settlement = Settlement(store, relay, metrics, self.rate, clock_ms)
        self.runs = Runs(
            store=store,
            relay=relay,
            fleet=fleet,
            settlement=self._settlement,
            metrics=metrics,
            patience=patience,
            clock_ms=clock_ms,
            over=self._over,
        )
        self.placement = Placement(
            queue=self.queue,
            fleet=fleet,
            names=names,
            runs=self.runs,
            metrics=metrics,
            clock_ms=clock_ms,
            fail=self._fail,
            wake=self.wake,
        )
        self._wake = asyncio.Event()
        self._abandoned: set[JobId] = set()
        self._draining = False
        self._told = True
        self._tasks: asyncio.TaskGroup | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._ticked_at = 0.0

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            self.runs.take_up(self._tasks)
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S):
                        await self._wake.wait()
                self._wake.clear()
                while self._abandoned:
                    self._tasks.create_task(self.cancel(self._abandoned.pop()), name="cancel an abandoned job")
                self._tick()
                self._expire()
                if not self._draining:
                    self.placement.step(self._tasks)
                if not self._told:
                    self._told = True
                    self._show_all()
                if self._wake.is_set():
                    await asyncio.sleep(0)  # to wait for what is set lets nobody else run

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
        self.placement.changed(ticket.model_ref)
        self._wake.set()

    async def cancel(self, job_id: JobId) -> bool:
        """Cancel a job; False when it neither waits nor runs."""
        ticket = self.queue.remove(job_id)
        if ticket is not None:
            self.placement.changed(ticket.model_ref)
            await self._settlement.settle(ticket, Move.CANCEL, cancelled(), None)
            return True
        running = self.runs.get(job_id)
        if running is None:
            return False
        await self.runs.cancel(running)
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
        await self.runs.drain(grace_s)

    def _over(self, ticket: Ticket | None) -> None:
        """Take a job back into the queue if it is to run again; a slot is free in any case."""
        if ticket is not None:
            self.queue.add(ticket)
            self.placement.changed(ticket.model_ref)
        self._wake.set()

    def _fail(self, tickets: Iterable[Ticket], error: LlorchError) -> None:
        """End waiting jobs with *error*, many in one commit; look again soon, for there may be more."""
        for ticket in tickets:
            if self._tasks is not None and self.queue.remove(ticket.id):
                self.placement.changed(ticket.model_ref)
                settled = self._settlement.settle(ticket, Move.FAIL, error, None)
                task = self._tasks.create_task(settled, name="fail a job")
                self._ending.add(task)
                task.add_done_callback(self._failed)
                self._wake.set()

    def _failed(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not self._ending:
            self._wake.set()

    def _tick(self) -> None:
        """Do what time alone asks for, at most once a second."""
        now = time.monotonic()
        if now - self._ticked_at < TICK_S:
            return
        self._ticked_at = now
        now_ms = self._clock_ms()
        self.queue.promote(now_ms=now_ms)
        self.placement.look_at_all()
        for pool_id in self._fleet.expire(now_ms=now_ms):
            _log.warning("pool_offline", pool_id=pool_id)
            if self._tasks is not None:
                self.runs.pool_silent(pool_id, self._tasks)
        for priority in ("interactive", "batch"):
            self._metrics.queue_depth.labels(priority).set(self.queue.depth(priority))
        self._told = False

    def _expire(self) -> None:
        """End jobs whose deadline has passed while they waited, the next ones as soon as these have ended."""
        if self._ending:
            return
        late = TimeoutExceeded("the job was not started within its timeout_ms", code="QUEUE_TIMEOUT")
        self._fail(islice(self.queue.expired(now_ms=self._clock_ms()), SETTLE_TOGETHER), late)

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
            wait=self.placement.journal.wait(ticket.model_ref),
            loading=self._fleet.loading(ticket.model_ref),
        )
        self._relay.show(stream, kind, body, now_ms=self._clock_ms())
