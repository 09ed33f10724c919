"""Decides on one model after the other, and does what was decided; tells the journal first.

Strategy: whatever changes names the models it is about; only they are looked at, the most urgent first and a bounded
number at once, so that no look takes long. Once a second, or as soon as the last round is over, all that wait are
looked at. Each decision is made on a snapshot of its own, taken after the one before was acted on, so that no two count
on the same memory or slot.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterable

from msgspec import UNSET
from msgspec.structs import replace

from llorch import log
from llorch.client import Client
from llorch.errors import LlorchError, RemoteError
from llorch.job import JobId
from llorch.wire.engine_options import fields_of, files, options_of
from llorch.wire.models import DownloadModel, Preloading, PreloadModel
from llorch.wire.pools import Spawned, SpawnWorker, Worker
from roles.orchestrator.clock import ClockMs
from roles.orchestrator.fetching import download, fetch, fetchable
from roles.orchestrator.fleet import Fleet
from roles.orchestrator.metrics import OrchestratorMetrics
from roles.orchestrator.names import Names
from roles.orchestrator.queue.agenda import Agenda
from roles.orchestrator.queue.order import JobQueue, Ticket
from roles.orchestrator.queue.runs import Runs
from roles.orchestrator.scheduler.decide import decide, decide_idle
from roles.orchestrator.scheduler.decisions import (
    Decision,
    Dispatch,
    DropRoom,
    Hold,
    MakeRoom,
    Reject,
    StartWorker,
    StopWorker,
    Wait,
)
from roles.orchestrator.scheduler.facts import Demand
from roles.orchestrator.scheduler.journal import Journal
from roles.orchestrator.scheduler.progress import Loading
from roles.orchestrator.scheduler.serving import MOST_HEADS
from roles.orchestrator.scheduler.snapshot import IdleSnapshot, Snapshot

AT_ONCE = 32
SPAWN_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
REJECT_TOGETHER = 256
"""Jobs that are ended in one commit, where many end for one reason."""
_log = log.get("orchestrator.placement")


class Placement:
    """Where jobs and workers go.

    Args:
        queue: The jobs that wait.
        fleet: What could serve them.
        names: What the files mean that workers are to have beside their models.
        runs: Takes the jobs that are dispatched.
        metrics: Times decisions.
        clock_ms: The time.
        fail: Ends waiting jobs.
        wake: Makes the dispatcher look again soon.
    """

    def __init__(  # noqa: PLR0913 - what it acts on
        self,
        *,
        queue: JobQueue,
        fleet: Fleet,
        names: Names,
        runs: Runs,
        metrics: OrchestratorMetrics,
        clock_ms: ClockMs,
        fail: Callable[[Iterable[Ticket], LlorchError], None],
        wake: Callable[[], None],
    ) -> None:
        self.journal = Journal()
        self._queue = queue
        self._fleet = fleet
        self._names = names
        self._supply = fleet.supply
        self._runs = runs
        self._metrics = metrics
        self._clock_ms = clock_ms
        self._fail = fail
        self._wake = wake
        self._agenda = Agenda(self._urgency)
        self._hungry: set[str] = set()
        self._tokens = itertools.count()

    def changed(self, model_ref: str) -> None:
        """Look at a model soon."""
        self._agenda.add([model_ref])

    def look_at_all(self) -> None:
        """Look at every model soon, unless that is under way; forget what was asked for too long ago."""
        self._supply.forget_unseen(now_ms=self._clock_ms())
        self._agenda.begin_round({*self._queue.models(), *self._supply.policies.wanted_always()})

    def step(self, tasks: asyncio.TaskGroup) -> None:
        """Decide on the models that have changed, and act; call `wake` if some are left."""
        now_ms, supply = self._clock_ms(), self._supply
        self._agenda.add(self._queue.rested(now_ms=now_ms) | supply.changed)
        supply.changed.clear()
        if supply.grown:
            supply.grown = False
            self._agenda.add(self._hungry)
        for model_ref in self._agenda.take(AT_ONCE):
            self._decide(model_ref, tasks, now_ms=now_ms)
        for tenant in supply.serving.expired(now_ms=now_ms):
            idle = supply.idle(tenant, self._queue.waiting(tenant.model_ref), now_ms=now_ms)
            self._follow(idle, decide_idle(idle), tasks)
        if self._agenda or supply.changed:
            self._wake()

    def _urgency(self, model_ref: str) -> tuple[bool, int]:
        """Return what models are looked at by: interactive ones first, then by how long they have been hungry."""
        batch, oldest_ms, _ = self._queue.urgency(model_ref)
        return batch, self._supply.hungry_since(model_ref, oldest_ms)

    def _decide(self, model_ref: str, tasks: asyncio.TaskGroup, *, now_ms: int) -> None:
        queue, supply = self._queue, self._supply
        waiting = queue.waiting(model_ref)
        if not waiting and model_ref not in supply.rooms and not supply.serving.policy(model_ref).min_replicas:
            self._hungry.discard(model_ref)
            self.journal.forget(model_ref)
            return
        started = time.perf_counter()
        demand = Demand(
            waiting=waiting,
            oldest_ms=queue.oldest_ms(model_ref),
            heads=lambda count: tuple(ticket.id for ticket in queue.heads(model_ref, count)),
            waits=queue.waiting,
            prefix=queue.prefix,
        )
        snapshot = supply.snapshot(model_ref, demand, now_ms=now_ms)
        decisions = decide(snapshot)
        self._metrics.scheduling_ms.observe((time.perf_counter() - started) * 1000)
        if any(isinstance(decision, Wait) for decision in decisions):
            self._hungry.add(model_ref)
        else:
            self._hungry.discard(model_ref)
        if len(snapshot.heads) >= MOST_HEADS:
            self._agenda.add([model_ref])
        self._follow(snapshot, decisions, tasks)

    def _follow(self, snapshot: Snapshot | IdleSnapshot, decisions: list[Decision], tasks: asyncio.TaskGroup) -> None:
        if self.journal.note(snapshot, decisions):
            for decision in decisions:
                _log.debug("decided", kind=type(decision).__name__, reason=decision.text)
        for decision in decisions:
            self._act(decision, tasks)

    def _act(self, decision: Decision, tasks: asyncio.TaskGroup) -> None:
        now_ms, rooms = self._clock_ms(), self._supply.rooms
        if isinstance(decision, Dispatch):
            ticket = self._queue.take(JobId(decision.job_id))
            if ticket is not None:
                self._supply.dispatched(ticket.model_ref, now_ms=now_ms)
                self._runs.begin(ticket, decision.worker_id, tasks)
        elif isinstance(decision, Hold):
            self._hold(decision)
        elif isinstance(decision, StartWorker):
            self._supply.changed |= rooms.drop(decision.model_ref, now_ms=now_ms)
            token = f"request {next(self._tokens)}"
            loading = Loading("", decision.pool_id, decision.model_ref, decision.device)
            self._supply.asked(token, loading, need_bytes=decision.need_bytes, now_ms=now_ms, parts=decision.parts)
            tasks.create_task(self._start_worker(decision, token), name=f"start of {decision.model_ref}")
        elif isinstance(decision, StopWorker):
            found = self._fleet.worker(decision.worker_id)
            if found is not None and rooms.may_stop(decision.worker_id, now_ms=now_ms):
                rooms.stopping(decision.worker_id, now_ms=now_ms)
                self._supply.changed.add(decision.model_ref)
                tasks.create_task(self._stop_worker(decision, found[0].pool_id), name=f"stop of {decision.worker_id}")
        elif isinstance(decision, MakeRoom):
            _log.info("room_made", model_ref=decision.model_ref, pool_id=decision.pool_id, reason=decision.text)
            self._supply.changed |= rooms.make(decision)
            tasks.create_task(self._preload(decision), name=f"preload of {decision.model_ref}")
        elif isinstance(decision, DropRoom):
            self._supply.changed |= rooms.drop(decision.model_ref, now_ms=now_ms)
            self._supply.grown = True
        elif isinstance(decision, Reject):
            error = LlorchError(decision.text)
            error.code = decision.code
            self._fail(self._queue.all_of(decision.model_ref, REJECT_TOGETHER), error)

    def _hold(self, decision: Hold) -> None:
        """Look again when a job has been held back for long enough."""
        ticket = self._queue.get(JobId(decision.job_id))
        if ticket is not None and not ticket.held_since_ms:
            ticket.held_since_ms = decision.since_ms
            left_s = (decision.until_ms - decision.since_ms) / 1000
            asyncio.get_running_loop().call_later(left_s, self._look_again, ticket.model_ref)

    def _look_again(self, model_ref: str) -> None:
        self.changed(model_ref)
        self._wake()

    async def _start_worker(self, decision: StartWorker, token: str) -> None:
        model_ref, spot = decision.model_ref, (decision.pool_id, decision.device)
        asked_ms = self._clock_ms()
        policy = self._supply.serving.policy(model_ref)
        _log.info("worker_asked_for", pool_id=spot[0], device=spot[1], model_ref=model_ref, reason=decision.text)
        body = SpawnWorker(
            model_ref=model_ref,
            device=decision.device or UNSET,
            slots=policy.slots or UNSET,
            ctx=max(policy.ctx, 16) if policy.ctx else UNSET,
        )
        try:
            pool = self._fleet.pool(decision.pool_id)
            if model_ref not in pool.models and fetchable(model_ref):
                self._fleet.startups.fetching(decision.pool_id, model_ref, now_ms=asked_ms)
                await download(self._fleet, decision.pool_id, DownloadModel(model_ref=model_ref, evict=True))
                return  # its heartbeats tell how far it is, and when a worker can be asked for
            options = await self._names.equipped(options_of(policy))
            await fetch(self._fleet, decision.pool_id, files(options))
            body = replace(body, **fields_of(options))
            spawned = await _spawn(pool.client, body)
        except LlorchError as error:
            _log.warning("worker_refused", pool_id=spot[0], model_ref=model_ref, code=error.code, reason=error.message)
            if error.details and error.details.get("no_engine") is True:
                self._supply.close(spot)
            self._supply.refused(
                model_ref,
                spot,
                code=error.code,
                message=f"pool {decision.pool_id}: {error.message}",
                now_ms=self._clock_ms(),
                need_bytes=_required(error),
            )
        else:
            self._fleet.startups.asked(spawned.worker_id, spot[0], model_ref=model_ref, asked_ms=asked_ms)
            loading = Loading(
                spawned.worker_id, decision.pool_id, model_ref, decision.device, known=True, options=options
            )
            self._supply.asked(
                spawned.worker_id,
                loading,
                need_bytes=decision.need_bytes,
                now_ms=self._clock_ms(),
                parts=decision.parts,
            )
        finally:
            self._supply.answered(token)
            self._wake()

    async def _preload(self, decision: MakeRoom) -> None:
        """Have a model's file read while the memory for it is being freed; a pool that cannot does without."""
        body = PreloadModel(model_ref=decision.model_ref)
        with contextlib.suppress(LlorchError):
            pool = self._fleet.pool(decision.pool_id)
            if decision.model_ref in pool.models:
                await pool.client.send("POST", "/v2/models/preload", Preloading, body=body, timeout_s=STOP_TIMEOUT_S)

    async def _stop_worker(self, decision: StopWorker, pool_id: str) -> None:
        worker_id = decision.worker_id
        _log.info("worker_told_to_end", pool_id=pool_id, worker_id=worker_id, reason=decision.text)
        try:
            client = self._fleet.pool(pool_id).client
            await client.send("POST", f"/v2/workers/{worker_id}/stop", Worker, timeout_s=STOP_TIMEOUT_S)
        except LlorchError as error:
            _log.warning("worker_not_stopped", pool_id=pool_id, worker_id=worker_id, reason=error.message)
            self._supply.changed |= {self._supply.rooms.not_stopped(worker_id)} - {""}
            self._wake()


async def _spawn(client: Client, body: SpawnWorker) -> Spawned:
    """Ask a pool for a worker; for one on whatever device suits, where the model's engine does not compute on that one.

    Raises:
        LlorchError: The pool cannot be asked, or refuses.
    """
    path = "/v2/workers/spawn"
    try:
        return await client.send("POST", path, Spawned, body=body, timeout_s=SPAWN_TIMEOUT_S)
    except RemoteError as error:
        if body.device is UNSET or not error.details or error.details.get("no_engine") is not False:
            raise
        return await client.send("POST", path, Spawned, body=replace(body, device=UNSET), timeout_s=SPAWN_TIMEOUT_S)


def _required(error: LlorchError) -> int:
    """Return how much memory a pool says that a worker would take."""
    details = error.details if isinstance(error, RemoteError) and error.code == "INSUFFICIENT_MEMORY" else None
    needed = details.get("required_bytes") if details else None
    return needed if isinstance(needed, int) and needed > 0 else 0
