"""The jobs that have a worker: begins and takes up their attempts, and acts on how each ended.

The one owner of leases and of what runs. A job comes from the queue and goes to its end or back into the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from llorch import log
from llorch.client import Client
from llorch.errors import InvalidRequest, LlorchError, RemoteError, WorkerLost
from llorch.job import JobId, Move
from llorch.wire.codec import reread
from llorch.wire.protocol import foreign
from llorch.wire.tasks import ClientTask, SubmitTask, keep_alive_s
from llorch.wire.workers import WorkerHealth
from roles.orchestrator.clock import ClockMs
from roles.orchestrator.fleet import Fleet
from roles.orchestrator.metrics import OrchestratorMetrics
from roles.orchestrator.queue.attempt import Attempt, Patience, Runner, Target
from roles.orchestrator.queue.order import Ticket
from roles.orchestrator.queue.retry import GiveUp, after_failure
from roles.orchestrator.queue.settlement import Settlement, cancelled
from roles.orchestrator.relay import Relay
from roles.orchestrator.state.rows import Whereabouts
from roles.orchestrator.state.store import Store
from roles.orchestrator.stream import Stream

PROBE_TIMEOUT_S = 5.0
LAST_WORDS_S = 1.0
NEWS_TIMEOUT_S = 1.0
_log = log.get("orchestrator.runs")


@dataclass(slots=True)
class Running:
    """A job that a worker has, or is about to get."""

    ticket: Ticket
    worker_id: str
    attempt: Attempt
    pool_id: str = ""
    client: Client | None = None
    cancelled: bool = False
    """Somebody asked for its end."""
    hand_back: bool = False
    """It shall go back to the queue when it has not ended by itself."""
    again: bool = False
    """It goes back to the queue."""


class Runs:
    """What runs. Its tasks belong to the dispatcher's group.

    Args:
        store: Where claims and ends are written.
        relay: The streams that attempts write to.
        fleet: Where the leases are.
        settlement: The one way to a final state.
        metrics: Counts retries.
        patience: How long attempts wait.
        clock_ms: The time.
        over: Called when a job has no worker any more: with its ticket when it is to be queued again, else None.
    """

    def __init__(  # noqa: PLR0913 - the parts of an orchestrator
        self,
        *,
        store: Store,
        relay: Relay,
        fleet: Fleet,
        settlement: Settlement,
        metrics: OrchestratorMetrics,
        patience: Patience,
        clock_ms: ClockMs,
        over: Callable[[Ticket | None], None],
    ) -> None:
        self._store = store
        self._relay = relay
        self._fleet = fleet
        self._settlement = settlement
        self._metrics = metrics
        self._patience = patience
        self._clock_ms = clock_ms
        self._over = over
        self._runner = Runner(store, relay, clock_ms, patience)
        self._running: dict[JobId, Running] = {}
        self._found: list[tuple[Running, Whereabouts]] = []
        self._all_done = asyncio.Event()

    def __len__(self) -> int:
        return len(self._running)

    def get(self, job_id: JobId) -> Running | None:
        """Return a job that has a worker."""
        return self._running.get(job_id)

    def begin(self, ticket: Ticket, worker_id: str, tasks: asyncio.TaskGroup) -> None:
        """Give a job that has been taken out of the queue to a worker."""
        running = self._enter(Running(ticket, worker_id, Attempt(seed=0)))
        self._fleet.reading(worker_id, ticket.id, prefix=ticket.prefix)
        tasks.create_task(self._serve(running), name=f"job {ticket.id}")

    def find(self, ticket: Ticket, place: Whereabouts, attempt: Attempt) -> None:
        """Go on with an attempt that an earlier process began, once `take_up` is called; its slot is taken now."""
        running = Running(ticket, place.worker_id, attempt, place.pool_id, cancelled=attempt.cancel.is_set())
        self._found.append((self._enter(running), place))

    def take_up(self, tasks: asyncio.TaskGroup) -> None:
        """Go on with every attempt that was found."""
        for running, place in self._found:
            tasks.create_task(self._resume(running, place), name=f"job {running.ticket.id}")
        self._found.clear()

    def workers_gone(self, worker_ids: Iterable[str]) -> None:
        """Note that workers have ended: a job whose connection to one breaks need not look for it."""
        gone = set(worker_ids)
        for running in self._running.values():
            running.attempt.gone |= running.worker_id in gone

    def pool_silent(self, pool_id: str, tasks: asyncio.TaskGroup) -> None:
        """Find out whether the workers of a silent pool are still there: its host may be gone without a word."""
        for running in self._running.values():
            if running.pool_id == pool_id:
                tasks.create_task(_probe(running), name=f"probe of worker {running.worker_id}")

    async def cancel(self, running: Running) -> None:
        """Have a running job cancelled."""
        running.cancelled = True
        await self._store.cancelling(running.ticket.id)
        running.attempt.cancel.set()

    async def drain(self, grace_s: float) -> None:
        """Let what runs finish for *grace_s*, then have the rest handed back to the queue."""
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
                async with asyncio.timeout(self._patience.cancel_s + LAST_WORDS_S):
                    await self._all_done.wait()

    def _enter(self, running: Running) -> Running:
        self._running[running.ticket.id] = running
        self._fleet.lease(running.worker_id, running.ticket.id)
        return running

    async def _serve(self, running: Running) -> None:
        """Run one attempt and act on how it ended."""
        ticket, attempt = running.ticket, running.attempt
        try:
            ticket.attempt += 1
            found = self._fleet.worker(running.worker_id)
            running.client = self._fleet.client(running.worker_id)
            if found is None or running.client is None:
                await self._ended(running, WorkerLost("the worker is gone"), claimed=False)
                return
            pool, worker = found
            running.pool_id = pool.pool_id
            stream = self._relay.open(ticket.id, ticket.seq, ticket.kind)
            attempt.tokens_before = len(stream.ids) if stream.exact else stream.count
            place = Whereabouts(
                attempt=ticket.attempt,
                worker_id=running.worker_id,
                pool_id=running.pool_id,
                url=running.client.url,
                token=worker.token,
                tokens_before=attempt.tokens_before,
            )
            startup = self._fleet.startups.of(running.worker_id)
            if startup is not None and startup.ready_ms <= ticket.submitted_ms:
                startup = None  # it was there already
            claimed = self._store.claim(ticket.id, place, now_ms=self._clock_ms(), startup=startup)
            task = ticket.task
            if task is None:
                request = await claimed
                if request is None:
                    return  # it has ended meanwhile
                try:
                    task = reread(request, ClientTask)
                except InvalidRequest as error:
                    await self._ended(running, error, claimed=True)
                    return
            ticket.task = None
            if task.keep_alive is not msgspec.UNSET:
                self._keep(running.worker_id, keep_alive_s(task.keep_alive))
            if task.seed is not msgspec.UNSET:
                attempt.seed = task.seed
            await self._run(running, stream, task)
        finally:
            self._left(running)

    def _keep(self, worker_id: str, keep_alive_s: float) -> None:
        if self._fleet.keep(worker_id, keep_alive_s):
            self._store.keep_worker(worker_id, keep_alive_s)

    async def _resume(self, running: Running, place: Whereabouts) -> None:
        """Go on with an attempt of an earlier process and act on how it ended.

        Where that one's worker speaks another version than this process, the job is tried again elsewhere.
        """
        ticket = running.ticket
        try:
            async with Client(place.url, token=place.token, what=f"worker {place.worker_id}") as running.client:
                if await _is_foreign(running.client):
                    await self._requeue(running, "HANDED_BACK", not_before_ms=0, claimed=True)
                    return
                await self._run(running, self._relay.open(ticket.id, ticket.seq, ticket.kind), None)
        finally:
            self._left(running)

    async def _run(self, running: Running, stream: Stream, task: SubmitTask | None) -> None:
        ticket = running.ticket
        assert running.client is not None
        target = Target(
            worker_id=running.worker_id,
            pool_id=running.pool_id,
            model_ref=ticket.model_ref,
            correlation_id=ticket.correlation_id,
            attempt=ticket.attempt,
            client=running.client,
        )
        limit_s = max(0.0, (ticket.deadline_ms - self._clock_ms()) / 1000)
        error = await self._runner.run(stream, task, target, running.attempt, limit_s=limit_s)
        await self._ended(running, error, claimed=True)

    def _left(self, running: Running) -> None:
        """Note that an attempt is over."""
        ticket, attempt = running.ticket, running.attempt
        self._fleet.read(
            running.worker_id, ticket.id, model_ref=ticket.model_ref, end=attempt.end, answer=attempt.answer
        )
        self._fleet.release(running.worker_id, ticket.id)
        self._running.pop(ticket.id, None)
        if not self._running:
            self._all_done.set()
        self._over(ticket if running.again else None)

    async def _ended(self, running: Running, error: LlorchError | None, *, claimed: bool) -> None:
        ticket, attempt = running.ticket, running.attempt
        now_ms = self._clock_ms()
        if running.cancelled:
            await self._store.cancelling(ticket.id)
            await self._settlement.settle(ticket, Move.CONFIRM_CANCEL if claimed else Move.CANCEL, cancelled(), attempt)
            return
        if error is None:
            await self._settlement.settle(ticket, Move.COMPLETE, None, attempt)
            return
        if running.hand_back:
            await self._requeue(running, "HANDED_BACK", not_before_ms=0, claimed=claimed)
            return
        if attempt.silent:
            await self._suspect(running)
        outcome = after_failure(
            error,
            attempt=ticket.failures + 1,
            now_ms=now_ms,
            deadline_ms=ticket.deadline_ms,
            chance=random.random(),
            refusals=ticket.attempt - ticket.failures - 1,
        )
        if isinstance(outcome, GiveUp):
            error = RemoteError(
                outcome.message,
                code=outcome.code,
                status=error.status,
                retriable=outcome.retriable,
                details=outcome.details(error.details),
            )
            await self._settlement.settle(ticket, Move.FAIL, error, attempt)
            return
        ticket.failures += outcome.counts
        self._metrics.retries.labels(error.code).inc()
        _log.warning("attempt_failed", job_id=ticket.id, attempt=ticket.attempt, code=error.code, reason=error.message)
        await self._requeue(running, error.code, not_before_ms=outcome.not_before_ms, claimed=claimed)

    async def _suspect(self, running: Running) -> None:
        """Give a worker that seems to be in trouble nothing more until its pool, asked at once, vouches for it."""
        self._fleet.lost(running.worker_id)
        with contextlib.suppress(LlorchError):  # the pool is gone, too
            pool = self._fleet.pool(running.pool_id)
            async with pool.client.request("POST", "/v2/report", timeout_s=NEWS_TIMEOUT_S):
                pass

    async def _requeue(self, running: Running, outcome: str, *, not_before_ms: int, claimed: bool) -> None:
        ticket = running.ticket
        stream = self._relay.find(ticket.id)
        if stream is not None:
            self._relay.store_rest(stream)
        now_ms = self._clock_ms()
        if claimed and not await self._store.requeue(
            ticket.id, outcome=outcome, not_before_ms=not_before_ms, now_ms=now_ms
        ):
            await self._settlement.settle(ticket, Move.CONFIRM_CANCEL, cancelled(), None)
            return
        if running.cancelled:  # asked for while the line above was being written
            await self._settlement.settle(ticket, Move.CANCEL, cancelled(), None)
            return
        self._metrics.dispatched.labels("retried").inc()
        ticket.not_before_ms = not_before_ms
        running.again = True


async def _is_foreign(client: Client) -> bool:
    """Tell whether a worker surely speaks another version."""
    try:
        health = await client.send("GET", "/health", WorkerHealth, timeout_s=PROBE_TIMEOUT_S)
    except LlorchError:
        return False
    return foreign(health.protocol)


async def _probe(running: Running) -> None:
    if running.client is None:
        return
    try:
        await running.client.send("GET", "/health", WorkerHealth, timeout_s=PROBE_TIMEOUT_S)
    except LlorchError:
        running.attempt.lost.set()
