"""What is known of pools and workers: the newest heartbeats, and the slots given away since.

The one writer of all of it. A heartbeat says what was; a lease says what the orchestrator has done since and the
pool cannot know yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

import msgspec

from llorch.client import Client
from llorch.errors import Conflict, PoolNotFound
from llorch.job import JobId
from llorch.wire.pools import Device, Heartbeat, Model, Pool, PoolState, Register, Worker, WorkerReport
from roles.orchestrator.scheduler.snapshot import PoolView, Refusal, WorkerView

MISSED_HEARTBEATS = 3
FIRST_BACKOFF_MS = 2_000
MAX_BACKOFF_MS = 120_000
PERMANENT_CODES = frozenset({"MODEL_NOT_FOUND", "MODEL_INVALID", "MODEL_INCOMPATIBLE", "BACKEND_UNAVAILABLE"})
SPAWN_GRACE_MS = 10_000
"""How long a worker that was asked for counts as starting before a heartbeat shows it."""


@dataclass(slots=True)
class PoolRecord:
    """One pool and what it said last."""

    pool_id: str
    endpoint: str
    version: str
    last_seen_ms: int
    client: Client
    seq: int = -1
    state: PoolState = "online"
    devices: list[Device] = field(default_factory=list)
    models: dict[str, Model] = field(default_factory=dict)
    workers: dict[str, WorkerReport] = field(default_factory=dict)
    asked: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Workers asked for and not yet in a heartbeat: id -> (model_ref, time)."""
    refusals: dict[str, Refusal] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    """How often in a row a worker for a model did not come up."""

    @property
    def memory_free_bytes(self) -> int:
        """The most memory one of its devices has free."""
        return max((device.memory_free_bytes for device in self.devices), default=0)


@dataclass(slots=True)
class Loading:
    """A worker on its way, for those who wait for it."""

    worker_id: str
    pool_id: str
    progress: float
    known: bool


class Fleet:
    """All pools, their workers, and the leases on their slots. Open it with `async with`."""

    def __init__(self, token: str, heartbeat_interval_s: float) -> None:
        self.token = token
        self._offline_after_ms = round(MISSED_HEARTBEATS * heartbeat_interval_s * 1000)
        self._pools: dict[str, PoolRecord] = {}
        self._leases: dict[str, set[JobId]] = {}
        self._clients: dict[str, Client] = {}
        self._by_model: dict[str, dict[str, str]] = {}

    async def __aenter__(self) -> Self:
        """Open nothing yet; connections open when pools come."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection to pools and workers."""
        for client in [*self._clients.values(), *(pool.client for pool in self._pools.values())]:
            await client.__aexit__()

    async def register(self, body: Register, *, now_ms: int) -> None:
        """Take a pool in, or take it in again.

        Raises:
            Conflict: Another endpoint is online under that id, and `takeover` was not asked for.
        """
        known = self._pools.get(body.pool_id)
        endpoint = body.endpoint.rstrip("/")
        if known and known.endpoint != endpoint and known.state != "offline" and not body.takeover:
            raise Conflict(
                f"pool {body.pool_id} is online at {known.endpoint}; give this one another --pool-id, "
                "or set takeover when that one is gone",
                details={"endpoint": known.endpoint},
            )
        if known is None or known.endpoint != endpoint:
            if known is not None:
                await self.remove(body.pool_id)
            client = await Client(endpoint, token=self.token, what=f"pool {body.pool_id}").__aenter__()
            known = PoolRecord(body.pool_id, endpoint, body.version, now_ms, client)
            self._pools[body.pool_id] = known
        known.version, known.last_seen_ms, known.state = body.version, now_ms, "online"
        known.refusals.clear()
        await self._take(known, body.devices, body.models, body.workers, now_ms=now_ms)

    async def heard(self, pool_id: str, beat: Heartbeat, *, now_ms: int) -> list[str]:
        """Take a heartbeat; return the ids of workers that are gone since the last one.

        Raises:
            PoolNotFound: It has to register first.
            Conflict: Its sequence number is not newer than the last one's.
        """
        pool = self._pools.get(pool_id)
        if pool is None:
            raise PoolNotFound(f"pool {pool_id} is not registered")
        if beat.seq <= pool.seq:
            raise Conflict(f"heartbeat {beat.seq} of pool {pool_id} is not newer than {pool.seq}")
        pool.seq, pool.last_seen_ms = beat.seq, now_ms
        pool.state = "draining" if beat.draining else "online"
        return await self._take(pool, beat.devices, beat.models, beat.workers, now_ms=now_ms)

    async def remove(self, pool_id: str) -> None:
        """Forget a pool that says goodbye."""
        pool = self.pool(pool_id)
        del self._pools[pool_id]
        for worker_id in pool.workers:
            await self._forget_worker(worker_id)
        await pool.client.__aexit__()

    def expire(self, *, now_ms: int) -> list[str]:
        """Mark pools offline that have been silent for too long; return their ids.

        Jobs that their workers still stream go on: a pool is not on the token path.
        """
        gone = [
            pool
            for pool in self._pools.values()
            if pool.state != "offline" and now_ms - pool.last_seen_ms > self._offline_after_ms
        ]
        for pool in gone:
            pool.state = "offline"
        return [pool.pool_id for pool in gone]

    def pool(self, pool_id: str) -> PoolRecord:
        """Return a pool.

        Raises:
            PoolNotFound: There is none with that id.
        """
        pool = self._pools.get(pool_id)
        if pool is None:
            raise PoolNotFound(f"there is no pool {pool_id}")
        return pool

    def pools(self) -> list[Pool]:
        """Return every pool as people see it: without the workers' tokens."""
        return [public(self._pools[pool_id]) for pool_id in sorted(self._pools)]

    def online(self) -> list[PoolRecord]:
        """Return the pools that take work."""
        return [pool for pool in self._pools.values() if pool.state == "online"]

    def worker(self, worker_id: str) -> tuple[PoolRecord, WorkerReport] | None:
        """Return a worker and its pool."""
        for pool in self._pools.values():
            if worker_id in pool.workers:
                return pool, pool.workers[worker_id]
        return None

    def model(self, model_ref: str) -> Model | None:
        """Return what any pool knows of a model's file."""
        return next((pool.models[model_ref] for pool in self._pools.values() if model_ref in pool.models), None)

    def client(self, worker_id: str) -> Client | None:
        """Return the connection to a ready worker."""
        return self._clients.get(worker_id)

    def any_client(self, model_ref: str) -> Client | None:
        """Return the connection to some ready worker of a model."""
        return next((self._clients[worker_id] for worker_id in self._by_model.get(model_ref, {})), None)

    def lost(self, worker_id: str) -> None:
        """Give a worker that failed its job nothing more until its pool says again that it is there."""
        for serving in self._by_model.values():
            serving.pop(worker_id, None)

    def lease(self, worker_id: str, job_id: JobId) -> None:
        """Take a slot of a worker for a job."""
        self._leases.setdefault(worker_id, set()).add(job_id)

    def release(self, worker_id: str, job_id: JobId) -> None:
        """Give a slot back."""
        held = self._leases.get(worker_id)
        if held is not None:
            held.discard(job_id)

    def leases(self, worker_id: str) -> int:
        """Return how many slots of a worker are given away."""
        return len(self._leases.get(worker_id, ()))

    def ready_workers(self, model_ref: str) -> tuple[list[WorkerView], int]:
        """Return the workers of a model with a free slot, and how many have none."""
        free: list[WorkerView] = []
        busy = 0
        for worker_id, pool_id in self._by_model.get(model_ref, {}).items():
            pool = self._pools[pool_id]
            worker = pool.workers[worker_id]
            leases = self.leases(worker_id)
            if pool.state != "online" or leases >= worker.slots:
                busy += pool.state == "online"
                continue
            free.append(
                WorkerView(
                    worker_id=worker_id,
                    pool_id=pool_id,
                    free_slots=worker.slots - leases,
                    leases=leases,
                    memory_free_bytes=pool.memory_free_bytes,
                )
            )
        return free, busy

    def loading(self, model_ref: str) -> list[Loading]:
        """Return the workers of a model that are on their way."""
        found = [
            Loading(worker.worker_id, pool.pool_id, worker.progress, known=True)
            for pool in self._pools.values()
            for worker in pool.workers.values()
            if worker.model_ref == model_ref and worker.status == "starting" and pool.state == "online"
        ]
        found += [
            Loading(worker_id, pool.pool_id, 0.0, known=False)
            for pool in self._pools.values()
            for worker_id, (ref, _) in pool.asked.items()
            if ref == model_ref and pool.state == "online"
        ]
        return found

    def views(self, model_ref: str) -> tuple[PoolView, ...]:
        """Return the online pools as one model sees them."""
        return tuple(
            PoolView(
                pool_id=pool.pool_id,
                has_file=model_ref in pool.models,
                memory_free_bytes=pool.memory_free_bytes,
                refusal=pool.refusals.get(model_ref),
            )
            for pool in self.online()
        )

    def asked(self, pool_id: str, worker_id: str, model_ref: str, *, now_ms: int) -> None:
        """Note that a pool was asked for a worker."""
        pool = self._pools.get(pool_id)
        if pool is not None and worker_id not in pool.workers:
            pool.asked[worker_id] = (model_ref, now_ms)

    def answered(self, pool_id: str, worker_id: str) -> None:
        """Note that the asking is over."""
        pool = self._pools.get(pool_id)
        if pool is not None:
            pool.asked.pop(worker_id, None)

    def refused(self, pool_id: str, model_ref: str, *, code: str, message: str, now_ms: int) -> None:
        """Note that a pool did not start a worker, or that it did not come up: do not ask again for a growing time."""
        pool = self._pools.get(pool_id)
        if pool is None:
            return
        count = pool.failures[model_ref] = pool.failures.get(model_ref, 0) + 1
        pause_ms = min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** min(count - 1, 10))
        pool.refusals[model_ref] = Refusal(
            code=code, message=message, retry_at_ms=now_ms + pause_ms, permanent=code in PERMANENT_CODES
        )

    async def _take(
        self,
        pool: PoolRecord,
        devices: list[Device],
        models: list[Model],
        workers: Iterable[WorkerReport],
        *,
        now_ms: int,
    ) -> list[str]:
        refs = {model.model_ref for model in models}
        for ref in refs - pool.models.keys():
            pool.refusals.pop(ref, None)  # the file has come since it was refused
        pool.devices, pool.models = devices, {model.model_ref: model for model in models}
        before = pool.workers
        pool.workers = {worker.worker_id: worker for worker in workers}
        for worker in pool.workers.values():
            await self._take_worker(pool, worker, before.get(worker.worker_id), now_ms=now_ms)
        pool.asked = {
            worker_id: (ref, since)
            for worker_id, (ref, since) in pool.asked.items()
            if worker_id not in pool.workers and now_ms - since < SPAWN_GRACE_MS
        }
        gone = [w for w in before if w not in pool.workers or pool.workers[w].status in {"stopped", "failed"}]
        lost = [w for w in gone if w in self._clients]
        for worker_id in lost:
            await self._forget_worker(worker_id)
        return lost

    async def _take_worker(
        self, pool: PoolRecord, worker: WorkerReport, before: WorkerReport | None, *, now_ms: int
    ) -> None:
        ready = worker.status in {"ready", "busy"} and worker.uri is not msgspec.UNSET
        if ready and worker.worker_id not in self._clients and worker.uri is not msgspec.UNSET:
            client = Client(worker.uri, token=worker.token, what=f"worker {worker.worker_id}")
            self._clients[worker.worker_id] = await client.__aenter__()
            pool.failures.pop(worker.model_ref, None)
            pool.refusals.pop(worker.model_ref, None)
        serving = self._by_model.setdefault(worker.model_ref, {})
        if ready:
            serving[worker.worker_id] = pool.pool_id
        else:
            serving.pop(worker.worker_id, None)
        asked = worker.worker_id in pool.asked or (before is not None and before.status == "starting")
        if worker.status == "failed" and asked:
            code = worker.error_code if worker.error_code is not msgspec.UNSET else "ENGINE_FAILED"
            reason = worker.error if worker.error is not msgspec.UNSET else "it did not start"
            message = f"a worker on pool {pool.pool_id} failed to start: {reason}"
            self.refused(pool.pool_id, worker.model_ref, code=code, message=message, now_ms=now_ms)

    async def _forget_worker(self, worker_id: str) -> None:
        client = self._clients.pop(worker_id, None)
        if client is not None:
            await client.__aexit__()
        for serving in self._by_model.values():
            serving.pop(worker_id, None)


def public(pool: PoolRecord) -> Pool:
    """Return a pool as people see it: without the workers' tokens."""
    names = Worker.__struct_fields__
    return Pool(
        pool_id=pool.pool_id,
        endpoint=pool.endpoint,
        version=pool.version,
        status=pool.state,
        last_seen_ms=pool.last_seen_ms,
        devices=pool.devices,
        models=list(pool.models.values()),
        workers=[Worker(**{name: getattr(worker, name) for name in names}) for worker in pool.workers.values()],
    )
