"""The ready workers: which has a free slot, which is idle and since when, which has served long. No I/O, no clock.

Strategy: every question that a decision asks has its own sorted list. A change of one worker moves that worker alone,
so that each costs O(log n). Leases may be taken on workers that no heartbeat has shown yet. Owned by the fleet.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from msgspec.structs import replace
from sortedcontainers import SortedList

from llorch.job import JobId
from llorch.policy import ModelPolicy
from roles.orchestrator.scheduler.capacity import Capacity, Spot, Wanted
from roles.orchestrator.scheduler.policies import Policies
from roles.orchestrator.scheduler.snapshot import Eviction, Tenant, WorkerView

MOST_HEADS = 64
"""So many jobs are dispatched in one decision; the next one follows at once."""
CHOICES, MOST_CHOICES = 4, 16
MOST_KEPT = 1_024
"""Of so many workers, those of which it changed last, is known how long requests have asked for them to be kept."""


@dataclass(slots=True, kw_only=True)
class ReadyWorker:
    """A worker that takes jobs, unless it is `claimed`: then its memory is meant for another model.

    `keep_alive_s` is what the last request that said so wants; None leaves it to the model's policy.
    """

    worker_id: str
    pool_id: str
    device: str
    model_ref: str
    slots: int
    memory_bytes: int
    memory_free_bytes: int
    ready_ms: int
    last_used_ms: int
    shares: Mapping[str, int] = field(default_factory=dict)
    claimed: str = ""
    keep_alive_s: float | None = None

    @property
    def held_bytes(self) -> Mapping[Spot, int]:
        """What it holds of each device that it is on."""
        return {(self.pool_id, d): size for d, size in (self.shares or {self.device: self.memory_bytes}).items()}


@dataclass(slots=True)
class _Model:
    """The workers of one model, and those with a free slot by load."""

    workers: set[str]
    free: SortedList[tuple[float, int, str]]
    slots: int = 0


class Serving:
    """All ready workers of online pools, and all leases.

    Args:
        policies: What the operator wants.
    """

    def __init__(self, policies: Policies) -> None:
        self.policy = policies.of
        self._workers: dict[str, ReadyWorker] = {}
        self._leases: dict[str, set[JobId]] = {}
        self._kept_s: dict[str, float] = {}
        self._models: dict[str, _Model] = {}
        self._free_keys: dict[str, tuple[float, int, str]] = {}
        self._idle: SortedList[tuple[int, str]] = SortedList()
        self._seasoned: SortedList[tuple[int, str]] = SortedList()
        self._expiry: SortedList[tuple[int, str]] = SortedList()
        self._listed: dict[str, tuple[tuple[int, str] | None, tuple[int, str] | None, tuple[int, str] | None]] = {}

    def kept(self, worker: ReadyWorker) -> ModelPolicy:
        """Return what is wanted of a worker: by the operator of its model, and by the last request that said so."""
        policy = self.policy(worker.model_ref)
        return policy if worker.keep_alive_s is None else replace(policy, keep_alive_s=worker.keep_alive_s)

    def keep(self, worker_id: str, keep_alive_s: float) -> bool:
        """Keep a worker for so long once it is idle, until another request says otherwise; below 0 is for ever.

        One that is not there is kept so when it comes: its pool was away, or this process has just started.

        Returns:
            Whether that is news.
        """
        if self._kept_s.get(worker_id) == keep_alive_s:
            return False
        self._kept_s.pop(worker_id, None)
        self._kept_s[worker_id] = keep_alive_s
        if len(self._kept_s) > MOST_KEPT:
            del self._kept_s[next(iter(self._kept_s))]
        worker = self._workers.get(worker_id)
        if worker is not None:
            self._unlist(worker)
            worker.keep_alive_s = keep_alive_s
            self._list(worker)
        return True

    def get(self, worker_id: str) -> ReadyWorker | None:
        """Return a ready worker."""
        return self._workers.get(worker_id)

    def put(self, worker: ReadyWorker) -> None:
        """Take in a ready worker, or what has changed of it."""
        known = self._workers.get(worker.worker_id)
        worker.keep_alive_s = self._kept_s.get(worker.worker_id)
        if known is not None:
            self._unlist(known)
            worker.ready_ms, worker.last_used_ms, worker.claimed = known.ready_ms, known.last_used_ms, known.claimed
        self._workers[worker.worker_id] = worker
        self._list(worker)

    def remove(self, worker_id: str) -> str | None:
        """Forget a worker, but not its leases; return its model."""
        worker = self._workers.pop(worker_id, None)
        if worker is None:
            return None
        self._unlist(worker)
        return worker.model_ref

    def lease(self, worker_id: str, job_id: JobId) -> None:
        """Take a slot for a job."""
        self._change(worker_id, lambda: self._leases.setdefault(worker_id, set()).add(job_id))

    def release(self, worker_id: str, job_id: JobId, *, now_ms: int) -> None:
        """Give a slot back."""
        held = self._leases.get(worker_id)
        worker = self._workers.get(worker_id)
        if held is None or job_id not in held:
            return

        def change() -> None:
            held.discard(job_id)
            if not held:
                del self._leases[worker_id]
            if worker is not None:
                worker.last_used_ms = now_ms

        self._change(worker_id, change)

    def leases(self, worker_id: str) -> int:
        """Return how many slots of a worker are given away."""
        return len(self._leases.get(worker_id, ()))

    def claim(self, worker_id: str, model_ref: str) -> None:
        """Give a worker no more jobs, for another model is to have its memory; an empty name undoes that."""
        worker = self._workers.get(worker_id)
        if worker is not None:
            self._unlist(worker)
            worker.claimed = model_ref
            self._list(worker)

    def workers(self, model_ref: str) -> Collection[str]:
        """Return the workers that take jobs of a model, free or not."""
        found = self._models.get(model_ref)
        return found.workers if found is not None else ()

    def pools(self, model_ref: str) -> set[str]:
        """Return the pools that have a worker of a model."""
        return {self._workers[worker_id].pool_id for worker_id in self.workers(model_ref)}

    def slots(self, model_ref: str) -> int:
        """Return how many slots the workers of a model have together."""
        found = self._models.get(model_ref)
        return found.slots if found is not None else 0

    def free(self, model_ref: str) -> tuple[WorkerView, ...]:
        """Return the workers of a model with a free slot, least loaded first; as many as one decision can use."""
        found = self._models.get(model_ref)
        return tuple(self.view(key[2]) for key in islice(found.free, MOST_HEADS)) if found is not None else ()

    def spots(self, model_ref: str) -> set[Spot]:
        """Return the devices that have a worker of a model."""
        return {spot for worker_id in self.workers(model_ref) for spot in self._workers[worker_id].held_bytes}

    def tenant(self, worker_id: str) -> Tenant | None:
        """Return a worker as one that holds memory."""
        worker = self._workers.get(worker_id)
        return self._tenant(worker) if worker is not None else None

    def expired(self, *, now_ms: int) -> list[Tenant]:
        """Return the idle workers whose time is up, the first to expire first."""
        late = self._expiry.irange(maximum=(now_ms, "\U0010ffff"))
        return [self._tenant(self._workers[worker_id]) for _, worker_id in late]

    def evictions(
        self, capacity: Capacity, wanted: Wanted, *, elsewhere: bool, spare: Callable[[str], bool]
    ) -> tuple[Eviction, ...]:
        """Return devices where a worker fits once idle ones have ended, so that the last used of them is the oldest.

        Args:
            capacity: What the devices can give away.
            wanted: What the place is for.
            elsewhere: Whether pools that do not list the file count.
            spare: Tells for a model whether its workers are to be left alone.
        """
        workers = (self._workers[worker_id] for _, worker_id in self._idle)
        return self._walk((w for w in workers if not spare(w.model_ref)), capacity, wanted, elsewhere=elsewhere)

    def turns(
        self, capacity: Capacity, wanted: Wanted, *, elsewhere: bool, since_ms: int, spare: Callable[[str], bool]
    ) -> tuple[Eviction, ...]:
        """Return devices where a worker fits once those have ended that are ready since *since_ms*, longest first."""
        ready = self._seasoned.irange(maximum=(since_ms, "\U0010ffff"))
        workers = (self._workers[worker_id] for _, worker_id in ready)
        return self._walk((w for w in workers if not spare(w.model_ref)), capacity, wanted, elsewhere=elsewhere)

    def _walk(
        self, workers: Iterable[ReadyWorker], capacity: Capacity, wanted: Wanted, *, elsewhere: bool
    ) -> tuple[Eviction, ...]:
        most = max(capacity.largest(wanted, elsewhere=elsewhere), capacity.together(wanted, elsewhere=elsewhere))
        if not wanted.need_bytes or wanted.need_bytes > most:
            return ()
        gathered: dict[Spot, list[tuple[ReadyWorker, int]]] = {}
        freed: dict[Spot, int] = {}
        found: list[Eviction] = []
        done: set[Spot] = set()
        for worker in workers:
            for spot, size in self._in_the_way(worker, capacity, wanted):
                if spot in done or not (elsewhere or spot[0] in wanted.needs):
                    continue
                gathered.setdefault(spot, []).append((worker, size))
                freed[spot] = freed.get(spot, 0) + size
                if capacity.available_at(spot, wanted) + freed[spot] < wanted.need(spot[0]):
                    continue
                place = capacity.place(spot, wanted)
                if place.available_bytes + freed[spot] < place.need_bytes:
                    continue
                done.add(spot)
                if wanted.open(spot):
                    tenants = (replace(self._tenant(one), memory_bytes=held) for one, held in gathered[spot])
                    found.append(Eviction(place=place, tenants=tuple(tenants)))
            if sum(not eviction.place.suspect for eviction in found) >= CHOICES or len(found) >= MOST_CHOICES:
                break
        return tuple(found)

    def _in_the_way(self, worker: ReadyWorker, capacity: Capacity, wanted: Wanted) -> Iterator[tuple[Spot, int]]:
        """Yield where a worker takes memory that is sought: its devices, and all of a pool for a model laid over it."""
        for spot, size in worker.held_bytes.items():
            if capacity.suits(spot, wanted):
                yield spot, size
        if capacity.laid_over(worker.pool_id, wanted):
            yield (worker.pool_id, ""), worker.memory_bytes

    def _change(self, worker_id: str, change: Callable[[], object]) -> None:
        worker = self._workers.get(worker_id)
        if worker is None:
            change()
            return
        self._unlist(worker)
        change()
        self._list(worker)

    def _list(self, worker: ReadyWorker) -> None:
        """Enter a worker where it can be found."""
        policy, leases = self.kept(worker), self.leases(worker.worker_id)
        idle = seasoned = expiry = None
        if not worker.claimed:
            model = self._models.setdefault(worker.model_ref, _Model(set(), SortedList()))
            model.workers.add(worker.worker_id)
            model.slots += worker.slots
            if leases < worker.slots:
                key = (leases / worker.slots, -worker.memory_free_bytes, worker.worker_id)
                self._free_keys[worker.worker_id] = key
                model.free.add(key)
            if not policy.pinned:
                seasoned = (worker.ready_ms, worker.worker_id)
                self._seasoned.add(seasoned)
                if not leases:
                    idle = (worker.last_used_ms, worker.worker_id)
                    expiry = (worker.last_used_ms + round(policy.keep_alive_s * 1000), worker.worker_id)
                    self._idle.add(idle)
                    self._expiry.add(expiry)
        self._listed[worker.worker_id] = (idle, seasoned, expiry)

    def _unlist(self, worker: ReadyWorker) -> None:
        entries = self._listed.pop(worker.worker_id)
        for entry, where in zip(entries, (self._idle, self._seasoned, self._expiry), strict=True):
            if entry is not None:
                where.remove(entry)
        if worker.claimed:
            return
        model = self._models[worker.model_ref]
        model.workers.discard(worker.worker_id)
        model.slots -= worker.slots
        key = self._free_keys.pop(worker.worker_id, None)
        if key is not None:
            model.free.remove(key)
        if not model.workers:
            del self._models[worker.model_ref]

    def view(self, worker_id: str) -> WorkerView:
        """Return a ready worker and its slots."""
        worker, leases = self._workers[worker_id], self.leases(worker_id)
        return WorkerView(
            worker_id=worker_id,
            pool_id=worker.pool_id,
            free_slots=worker.slots - leases,
            leases=leases,
            memory_free_bytes=worker.memory_free_bytes,
        )

    def _tenant(self, worker: ReadyWorker) -> Tenant:
        return Tenant(
            worker_id=worker.worker_id,
            model_ref=worker.model_ref,
            memory_bytes=worker.memory_bytes,
            leases=self.leases(worker.worker_id),
            last_used_ms=worker.last_used_ms,
            ready_ms=worker.ready_ms,
        )
