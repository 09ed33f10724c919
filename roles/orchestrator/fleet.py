"""The pools and the connections to them and their workers: the newest heartbeats, and what was done since.

The one writer of all of it. A heartbeat says what was; leases and promises, which the supply keeps, say what the
orchestrator has done since and the pool cannot know yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import msgspec

from llorch import log
from llorch.abilities import able
from llorch.client import Client
from llorch.errors import Conflict, LlorchError, PoolNotFound, TimeoutExceeded, Unreachable
from llorch.job import JobId
from llorch.models import own_name
from llorch.policy import ModelPolicy
from llorch.wire.events import WorkerEnd
from llorch.wire.meta import Health
from llorch.wire.pools import Heartbeat, Model, Pool, PoolState, Register, WorkerReport
from roles.orchestrator.clock import ClockMs
from roles.orchestrator.pool_record import PoolRecord, public
from roles.orchestrator.scheduler.facts import Facts, told
from roles.orchestrator.scheduler.prefix import Prefix
from roles.orchestrator.scheduler.progress import Loading
from roles.orchestrator.scheduler.startup import Startups
from roles.orchestrator.scheduler.supply import Supply

MISSED_HEARTBEATS = 3
PROBE_TIMEOUT_S = 2.0
_log = log.get("orchestrator.fleet")


class Fleet:
    """All pools, their workers, and the leases on their slots. Open it with `async with`.

    Args:
        token: What pools are spoken to with.
        heartbeat_interval_s: How often pools report at least.
        clock_ms: The time.
        policies: What the operator wants of models, by reference.
        default: What holds for every other model.
    """

    def __init__(
        self,
        token: str,
        heartbeat_interval_s: float,
        *,
        clock_ms: ClockMs,
        policies: Mapping[str, ModelPolicy],
        default: ModelPolicy,
    ) -> None:
        self.token = token
        self._offline_after_ms = round(MISSED_HEARTBEATS * heartbeat_interval_s * 1000)
        self.supply = Supply(policies, default, started_ms=clock_ms(), settle_ms=self._offline_after_ms)
        self.startups = Startups()
        self._clock_ms = clock_ms
        self._pools: dict[str, PoolRecord] = {}
        self._clients: dict[str, Client] = {}
        self._homes: dict[str, str] = {}
        self._drained: set[str] = set()

    async def __aenter__(self) -> Self:
        """Open nothing yet; connections open when pools come."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection to pools and workers."""
        for client in [*self._clients.values(), *(pool.client for pool in self._pools.values())]:
            await client.__aexit__()

    async def register(self, body: Register, *, now_ms: int) -> None:
        """Take a pool in, or take it in again, be it at another address.

        Raises:
            Conflict: Another pool is online under that id, and `takeover` was not asked for.
        """
        known = self._pools.get(body.pool_id)
        endpoint = body.endpoint.rstrip("/")
        if known is not None and known.endpoint != endpoint:
            known = await self._moved(known, body)
        if known is None or known.endpoint != endpoint:
            client = await Client(endpoint, token=self.token, what=f"pool {body.pool_id}").__aenter__()
            if known is None:
                known = self._pools[body.pool_id] = PoolRecord(body.pool_id, endpoint, body.version, now_ms, client)
            else:
                old, known.client, known.endpoint = known.client, client, endpoint
                await old.__aexit__()
        known.version, known.last_seen_ms, known.ending = body.version, now_ms, False
        known.protocol = body.protocol
        known.seq = -1  # a pool that was restarted counts on from its clock, which may have been set back
        if known.trouble:
            _log.warning("pool_not_used", pool_id=known.pool_id, reason=known.trouble, remedy=known.remedy)
        known.state = self._state(known)
        known.instance = body.instance
        await self._take(known, told(body), now_ms=now_ms, anew=True)

    async def _moved(self, known: PoolRecord, body: Register) -> PoolRecord | None:
        """Return the record of a pool that has another address now; None when another one has taken its id over.

        Raises:
            Conflict: It is there where it was, or may be.
        """
        if known.instance and known.instance == body.instance:
            return known  # its workers, and their connections, stay
        if not (body.takeover or known.state == "offline" or await _is_gone(known)):
            raise Conflict(
                f"pool {body.pool_id} is online at {known.endpoint}; give this one another --pool-id, "
                "or set takeover when that one is gone",
                details={"endpoint": known.endpoint},
            )
        if self._pools.get(body.pool_id) is not known:
            raise Conflict(f"another pool {body.pool_id} has just registered", details={"pool_id": body.pool_id})
        await self.remove(body.pool_id)
        return None

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
        pool.ending = beat.draining
        pool.state = self._state(pool)
        return await self._take(pool, told(beat), now_ms=now_ms)

    def drain(self, pool_id: str, *, now_ms: int) -> None:
        """Give a pool no new jobs and workers, also one that comes later, until `resume`; what runs there goes on."""
        self._drained.add(pool_id)
        pool = self._pools.get(pool_id)
        if pool is not None and pool.state == "online":
            pool.state = "draining"
            self.supply.leave(pool_id, for_good=False, now_ms=now_ms)

    def resume(self, pool_id: str, *, now_ms: int) -> None:
        """Give a drained pool work again; one that is not drained stays as it is."""
        if pool_id not in self._drained:
            return
        self._drained.remove(pool_id)
        pool = self._pools.get(pool_id)
        if pool is not None and pool.state == "draining" and self._state(pool) == "online":
            pool.state = "online"
            self.supply.hear(pool_id, pool.facts(), now_ms=now_ms)

    def drained(self, pool_id: str) -> bool:
        """Tell whether a pool is drained at an operator's wish."""
        return pool_id in self._drained

    async def remove(self, pool_id: str) -> None:
        """Forget a pool that says goodbye."""
        pool = self.pool(pool_id)
        del self._pools[pool_id]
        self.supply.leave(pool_id, for_good=True, now_ms=self._clock_ms())
        self.startups.leave(pool_id)
        for worker_id in pool.workers:
            self.startups.forget(worker_id)
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
            self.supply.leave(pool.pool_id, for_good=False, now_ms=now_ms)
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
        pool = self._pools.get(self._homes.get(worker_id, ""))
        return (pool, pool.workers[worker_id]) if pool is not None and worker_id in pool.workers else None

    def model(self, model_ref: str) -> Model | None:
        """Return what any pool knows of a model's file; what it can do, as its workers are to be started."""
        found = next((pool.models[model_ref] for pool in self._pools.values() if model_ref in pool.models), None)
        if found is None or own_name(model_ref):
            return found
        can = able(found.capabilities, self.supply.serving.policy(model_ref))
        return msgspec.structs.replace(found, capabilities=list(can))

    def sees(self, model_ref: str) -> bool:
        """Tell whether the workers of a model read pictures."""
        return bool(self.supply.serving.policy(model_ref).projector)

    def learn(self, name: str, ref: str, *, beside: bool) -> None:
        """Note what a name means now: of a model, or of a file *beside* one."""
        self.supply.learn(name, ref, beside=beside, now_ms=self._clock_ms())

    def served(self) -> list[str]:
        """Return the references of the models of servers, those of pools that are away too, each once."""
        return sorted({ref for pool in self._pools.values() for ref in pool.served})

    def client(self, worker_id: str) -> Client | None:
        """Return the connection to a ready worker."""
        return self._clients.get(worker_id)

    def any_client(self, model_ref: str) -> Client | None:
        """Return the connection to some ready worker of a model."""
        workers = self.supply.serving.workers(model_ref)
        return next((self._clients[worker_id] for worker_id in workers if worker_id in self._clients), None)

    def lost(self, worker_id: str) -> None:
        """Give a worker that failed its job nothing more until its pool says again that it is there."""
        self.supply.lost(worker_id)

    def lease(self, worker_id: str, job_id: JobId) -> None:
        """Take a slot of a worker for a job."""
        self.supply.serving.lease(worker_id, job_id)

    def reading(self, worker_id: str, job_id: JobId, *, prefix: Prefix | None) -> None:
        """Note what the prompt begins with that a worker is given, if that is known."""
        worker = self.supply.serving.get(worker_id)
        if prefix is not None and worker is not None:
            self.supply.affinity.began(worker_id, job_id, prefix=prefix, slots=worker.slots)

    def read(self, worker_id: str, job_id: JobId, *, model_ref: str, end: WorkerEnd | None, answer: str) -> None:
        """Note that a worker is done with a prompt, and what it has told at the end."""
        self.supply.affinity.ended(worker_id, job_id, model_ref=model_ref, end=end, answer=answer)

    def keep(self, worker_id: str, keep_alive_s: float) -> bool:
        """Keep a worker for so long once it is idle; tell whether that is news."""
        return self.supply.serving.keep(worker_id, keep_alive_s)

    def release(self, worker_id: str, job_id: JobId) -> None:
        """Give a slot back."""
        self.supply.released(worker_id, job_id, now_ms=self._clock_ms())

    def leases(self, worker_id: str) -> int:
        """Return how many slots of a worker are given away."""
        return self.supply.serving.leases(worker_id)

    def kept_until_ms(self, worker_id: str) -> int | None:
        """Return when a worker is ended if it gets no more jobs; None is never."""
        found, now_ms = self.supply.serving.get(worker_id), self._clock_ms()
        if found is None:
            return now_ms
        policy = self.supply.serving.kept(found)
        since_ms = now_ms if self.leases(worker_id) else found.last_used_ms
        return None if policy.pinned else since_ms + round(policy.keep_alive_s * 1000)

    def loading(self, model_ref: str) -> list[Loading]:
        """Return the workers of a model that are on their way."""
        return self.supply.progress.of(model_ref)

    def asked(self, pool_id: str, worker_id: str, model_ref: str, *, now_ms: int) -> None:
        """Note that an operator has asked a pool for a worker."""
        self.supply.asked(worker_id, Loading(worker_id, pool_id, model_ref), need_bytes=0, now_ms=now_ms)

    def _state(self, pool: PoolRecord) -> PoolState:
        """Return the state of a pool that has just been heard."""
        unused = pool.ending or pool.trouble or pool.pool_id in self._drained
        return "draining" if unused else "online"

    async def _take(self, pool: PoolRecord, facts: Facts, *, now_ms: int, anew: bool = False) -> list[str]:
        before = pool.workers
        pool.devices, pool.downloads = list(facts.devices), list(facts.downloads)
        pool.models = {model.model_ref: model for model in facts.models}
        pool.served = [ref for ref in pool.models if own_name(ref)]
        pool.workers = {worker.worker_id: worker for worker in facts.workers}
        for worker in facts.workers:
            self._homes[worker.worker_id] = pool.pool_id
            self.startups.heard(worker, now_ms=now_ms, told_ms=facts.told_ms)
            await self._connect(worker)
        if pool.state == "online":
            self.supply.hear(pool.pool_id, facts, now_ms=now_ms, anew=anew)
            self._warn(now_ms=now_ms)
        else:
            self.supply.leave(pool.pool_id, for_good=False, now_ms=now_ms, refs=frozenset(pool.models))
        gone = [w for w in before if w not in pool.workers or pool.workers[w].status in {"stopped", "failed"}]
        lost = [w for w in gone if w in self._clients]
        for worker_id in lost:
            await self._forget_worker(worker_id)
        for worker_id in before.keys() - pool.workers.keys():
            self._homes.pop(worker_id, None)
            self.startups.forget(worker_id)
        return lost

    def _warn(self, *, now_ms: int) -> None:
        """Tell of workers that are not kept as they should be, for they die."""
        for model_ref, pause in self.supply.deaths.begun():
            if self.supply.serving.policy(model_ref).min_replicas:
                wait_s = (pause.until_ms - now_ms) / 1000
                facts = {name: getattr(pause, name) for name in ("pool_id", "device", "code", "reason", "deaths")}
                _log.warning("replica_paused", model_ref=model_ref, wait_s=wait_s, **facts)

    async def _connect(self, worker: WorkerReport) -> None:
        ready = worker.status in {"ready", "busy"} and worker.uri is not msgspec.UNSET
        if ready and worker.worker_id not in self._clients and worker.uri is not msgspec.UNSET:
            client = Client(worker.uri, token=worker.token, what=f"worker {worker.worker_id}")
            self._clients[worker.worker_id] = await client.__aenter__()

    async def _forget_worker(self, worker_id: str) -> None:
        client = self._clients.pop(worker_id, None)
        if client is not None:
            await client.__aexit__()


async def _is_gone(pool: PoolRecord) -> bool:
    """Tell whether nobody answers where a pool was."""
    try:
        await pool.client.send("GET", "/health", Health, timeout_s=PROBE_TIMEOUT_S)
    except (Unreachable, TimeoutExceeded):
        return True
    except LlorchError:
        return False
    return False
