"""A whole day in no time: pools, devices, workers and jobs as numbers, ruled by the real supply, queue and decisions.

Time is a number that the test moves. A pool here takes what preflight would take, and says at once what has changed.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from msgspec.structs import replace

from llorch.job import JobId
from llorch.policy import ModelPolicy
from llorch.wire.pools import Device, Model, WorkerReport
from roles.orchestrator.queue.order import JobQueue, Ticket
from roles.orchestrator.scheduler.decide import decide, decide_idle
from roles.orchestrator.scheduler.decisions import Decision, Dispatch, DropRoom, MakeRoom, StartWorker, StopWorker
from roles.orchestrator.scheduler.facts import Demand, Facts
from roles.orchestrator.scheduler.journal import Journal
from roles.orchestrator.scheduler.progress import Loading
from roles.orchestrator.scheduler.snapshot import IdleSnapshot, Snapshot
from roles.orchestrator.scheduler.supply import Supply

GIB = 2**30


def device(device_id: str = "d", *, gib: float = 8, free_gib: float | None = None, backend: str = "cpu") -> Device:
    """Return a device as a pool reports it."""
    total = round(gib * GIB)
    free = total if free_gib is None else round(free_gib * GIB)
    return Device(
        id=device_id,
        uuid=device_id,
        name=device_id,
        backend=backend,  # type: ignore[arg-type]
        memory_total_bytes=total,
        memory_used_bytes=total - free,
        memory_free_bytes=free,
    )


def model(ref: str, *, gib: float = 1) -> Model:
    """Return a model file as a pool reports it; a worker of it takes *gib*."""
    return Model(
        model_ref=ref,
        size_bytes=1,
        architecture="llama",
        quantization="Q4_0",
        context_length=512,
        vocab_size=1,
        max_token_bytes=1,
        memory_bytes=round(gib * GIB),
        memory_slots=4,
        memory_ctx=512,
    )


def report(
    worker_id: str, ref: str, *, gib: float = 1, status: str = "ready", device_id: str = "d", slots: int = 4
) -> WorkerReport:
    """Return a worker as a pool reports it."""
    return WorkerReport(
        worker_id=worker_id,
        model_ref=ref,
        status=status,  # type: ignore[arg-type]
        backend="cpu",
        engine="llamacpp",
        device=device_id,
        slots=slots,
        slots_busy=0,
        context_length=512,
        memory_bytes=round(gib * GIB),
        started_ms=0,
        uri="http://worker",
    )


def demand(
    waiting: int = 1, *, oldest_ms: int = 0, heads: tuple[str, ...] = (), waits: dict[str, int] | None = None
) -> Demand:
    """Return what waits for a model."""
    others = waits or {}
    return Demand(
        waiting=waiting,
        oldest_ms=oldest_ms,
        heads=lambda count: heads[:count],
        waits=lambda ref: others.get(ref, 0),
    )


@dataclass(slots=True)
class World:
    """Pools with one device each, and what happens there. Times are in ms."""

    pools: dict[str, float]
    models: dict[str, float]
    policies: dict[str, ModelPolicy] = field(default_factory=dict)
    load_ms: int = 2_000
    job_ms: int = 1_000
    slots: int = 2
    now_ms: int = 1_000_000
    queue: JobQueue = field(default_factory=JobQueue)
    journal: Journal = field(default_factory=Journal)
    supply: Supply = field(init=False)
    workers: dict[str, dict[str, WorkerReport]] = field(default_factory=dict)
    events: list[tuple[int, int, str, tuple[str, ...]]] = field(default_factory=list)
    acts: list[tuple[int, Decision]] = field(default_factory=list)
    waited_ms: dict[str, int] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.supply = Supply(self.policies, ModelPolicy())
        for pool_id in self.pools:
            self.workers[pool_id] = {}
            self.tell(pool_id)

    def come(self, ref: str, session_id: str | None = None) -> str:
        """Submit a job."""
        seq = next(self._numbers)
        ticket = Ticket(
            id=JobId(f"job {seq}"),
            seq=seq,
            model_ref=ref,
            session_id=session_id,
            priority="interactive",
            submitted_ms=self.now_ms,
            tag=self.queue.next_tag("interactive", session_id, model_ref=ref),
            deadline_ms=2**60,
            correlation_id="",
        )
        self.queue.add(ticket)
        return ticket.id

    def tell(self, pool_id: str) -> None:
        """Let a pool say what it has."""
        held = sum(worker.memory_bytes for worker in self.workers[pool_id].values() if worker.status != "starting")
        total = self.pools[pool_id]
        facts = Facts(
            devices=[device(gib=total, free_gib=total - held / GIB)],
            models=[model(ref, gib=gib) for ref, gib in self.models.items()],
            workers=list(self.workers[pool_id].values()),
        )
        self.supply.hear(pool_id, facts, now_ms=self.now_ms)
        assert sum(worker.memory_bytes for worker in self.workers[pool_id].values()) <= total * GIB

    def run(self, ms: int) -> None:
        """Let time pass, one second after the other, and everything happen that is due."""
        end_ms = self.now_ms + ms
        while self.now_ms < end_ms:
            self.now_ms += 500
            for event in sorted(event for event in self.events if event[0] <= self.now_ms):
                self.events.remove(event)
                self._happen(event[2], event[3])
            self.look()

    def look(self) -> None:
        """Decide on every model that jobs wait for, and on idle workers."""
        waiting = sorted(self.queue.models(), key=lambda ref: self.supply.hungry_since(ref, self.queue.oldest_ms(ref)))
        for ref in [*waiting, *(ref for ref in self.models if ref in self.supply.rooms and ref not in waiting)]:
            wanted = Demand(
                waiting=self.queue.waiting(ref),
                oldest_ms=self.queue.oldest_ms(ref),
                heads=lambda count, ref=ref: tuple(t.id for t in self.queue.heads(ref, count)),  # type: ignore[misc]
                waits=self.queue.waiting,
            )
            snapshot = self.supply.snapshot(ref, wanted, now_ms=self.now_ms)
            self._follow(snapshot, decide(snapshot))
        for tenant in self.supply.serving.expired(now_ms=self.now_ms):
            idle = self.supply.idle(tenant, self.queue.waiting(tenant.model_ref), now_ms=self.now_ms)
            self._follow(idle, decide_idle(idle))

    def _follow(self, snapshot: Snapshot | IdleSnapshot, decisions: list[Decision]) -> None:
        self.journal.note(snapshot, decisions)
        for decision in decisions:
            self.acts.append((self.now_ms, decision))
            self._act(decision)

    def _act(self, decision: Decision) -> None:
        rooms = self.supply.rooms
        if isinstance(decision, Dispatch):
            ticket = self.queue.take(JobId(decision.job_id))
            assert ticket is not None
            self.waited_ms[ticket.id] = self.now_ms - ticket.submitted_ms
            self.supply.dispatched(ticket.model_ref, now_ms=self.now_ms)
            self.supply.serving.lease(decision.worker_id, ticket.id)
            self._later(self.job_ms, "done", decision.worker_id, ticket.id)
        elif isinstance(decision, StartWorker):
            rooms.drop(decision.model_ref, now_ms=self.now_ms)
            worker_id = f"worker {next(self._numbers)} of {decision.model_ref}"
            loading = Loading(worker_id, decision.pool_id, decision.model_ref, decision.device)
            self.supply.asked(worker_id, loading, need_bytes=decision.need_bytes, now_ms=self.now_ms)
            self._later(0, "starting", worker_id, decision.pool_id, decision.model_ref)
        elif isinstance(decision, StopWorker):
            if rooms.may_stop(decision.worker_id, now_ms=self.now_ms):
                rooms.stopping(decision.worker_id, now_ms=self.now_ms)
                self._later(500, "gone", decision.worker_id)
        elif isinstance(decision, MakeRoom):
            rooms.make(decision)
        elif isinstance(decision, DropRoom):
            rooms.drop(decision.model_ref, now_ms=self.now_ms)

    def _later(self, ms: int, what: str, *about: str) -> None:
        self.events.append((self.now_ms + ms, next(self._numbers), what, about))

    def _happen(self, what: str, about: tuple[str, ...]) -> None:
        worker_id = about[0]
        if what == "done":
            self.supply.released(worker_id, JobId(about[1]), now_ms=self.now_ms)
            return
        if what == "starting":
            gib = self.models[about[2]]
            self.workers[about[1]][worker_id] = report(
                worker_id, about[2], gib=gib, status="starting", slots=self.slots
            )
            self._later(self.load_ms, "ready", worker_id)
            self.tell(about[1])
            return
        pool_id = next(pool_id for pool_id, workers in self.workers.items() if worker_id in workers)
        if what == "ready":
            self.workers[pool_id][worker_id] = replace(self.workers[pool_id][worker_id], status="ready")
        else:
            assert not self.supply.serving.leases(worker_id), "a worker with a lease was told to end"
            del self.workers[pool_id][worker_id]
        self.tell(pool_id)
