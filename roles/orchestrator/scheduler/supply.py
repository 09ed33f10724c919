"""All that could serve: pools, devices, workers, what was asked of them; and one model's part of it as a snapshot.

Told of facts by the fleet and of deeds by the dispatcher; decides nothing and does nothing. No I/O; the caller passes
the time. `changed` names the models that may have to be decided on anew, `grown` says that memory has come free.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from msgspec import UNSET
from msgspec.structs import replace

from llorch.job import JobId
from llorch.models import own_name
from llorch.policy import ModelPolicy
from llorch.wire.models import Download
from llorch.wire.pools import WorkerReport
from roles.orchestrator.scheduler.affinity import Affinity
from roles.orchestrator.scheduler.backoff import Backoff, closed
from roles.orchestrator.scheduler.capacity import Capacity, Spot, Wanted
from roles.orchestrator.scheduler.deaths import Deaths
from roles.orchestrator.scheduler.decide import AGED_MS, TURN_MS, hot, short
from roles.orchestrator.scheduler.dispatching import MOST_HELD
from roles.orchestrator.scheduler.facts import Demand, Facts, KnownPool, complaint, failed_to_start
from roles.orchestrator.scheduler.identity import WITHOUT_OPTIONS, same, served
from roles.orchestrator.scheduler.kinds import Kinds
from roles.orchestrator.scheduler.memory import need
from roles.orchestrator.scheduler.needs import Needs
from roles.orchestrator.scheduler.policies import Policies
from roles.orchestrator.scheduler.progress import Loading, Progress
from roles.orchestrator.scheduler.rooms import Rooms, promised
from roles.orchestrator.scheduler.served import Served
from roles.orchestrator.scheduler.serving import MOST_HEADS, ReadyWorker, Serving
from roles.orchestrator.scheduler.snapshot import IdleSnapshot, Part, Snapshot, Tenant


class Supply:
    """The one owner of what is known of supply.

    Args:
        policies: What the operator wants, by model reference.
        default: What holds for every other model.
        started_ms: When this process began.
        settle_ms: So long after that, a pool that is not there may yet come back.
    """

    def __init__(
        self, policies: Mapping[str, ModelPolicy], default: ModelPolicy, *, started_ms: int = 0, settle_ms: int = 0
    ) -> None:
        self.capacity = Capacity()
        self.policies = Policies(policies, default)
        self.serving = Serving(self.policies)
        self.backoff = Backoff()
        self.deaths = Deaths()
        self.needs = Needs()
        self.kinds = Kinds()
        self.served = Served()
        self.progress = Progress()
        self.affinity = Affinity()
        self.rooms = Rooms(self.capacity, self.serving)
        self.changed: set[str] = set()
        self.grown = False
        self._started_ms = started_ms
        self.settled_ms = started_ms + settle_ms
        self._pools: dict[str, KnownPool] = {}
        self._away: dict[str, frozenset[str]] = {}
        self._served_ms: dict[str, int] = {}

    def hear(self, pool_id: str, facts: Facts, *, now_ms: int, anew: bool = False) -> None:
        """Take in what an online pool says; *anew* when it has just registered."""
        self._away.pop(pool_id, None)
        known = self._pools.get(pool_id)
        pool = self._pools[pool_id] = known or KnownPool()
        if anew:
            self.backoff.forget(pool_id, failures=False)
            pool.closed.clear()
        if known is None or pool.facts.models != facts.models or pool.facts.kinds != facts.kinds:
            self._take_models(pool_id, pool, facts)
        self._take_downloads(pool_id, pool.facts.downloads, facts.downloads, now_ms=now_ms)
        before, pool.workers = pool.workers, {worker.worker_id: worker for worker in facts.workers}
        pool.facts = facts
        for loading in self.progress.shown(pool_id, pool.workers):
            self.capacity.withdraw(loading.worker_id)
            self._turned_out(loading, now_ms=now_ms)
        seen = [self._seen(worker) for worker in facts.workers]
        self.progress.seen(pool_id, seen, facts.downloads, now_ms=now_ms)
        self.deaths.heard(pool_id, seen, told_ms=facts.told_ms, now_ms=now_ms, anew=anew)
        grown = self.capacity.update(pool_id, facts.devices, facts.workers, without=pool.closed)
        self.grown |= grown or known is None
        for worker_id in before.keys() - pool.workers.keys():
            self.lost(worker_id)
        for worker in seen:
            was = before.get(worker.worker_id)
            if failed_to_start(worker, was, first=known is None):
                ref, (code, message) = worker.model_ref, complaint(pool_id, worker)
                self.backoff.refused(ref, (pool_id, worker.device), code=code, message=message, now_ms=now_ms)
                self.changed.add(ref)
            self._take_worker(pool_id, worker, was, now_ms=now_ms)

    def _seen(self, worker: WorkerReport) -> WorkerReport:
        """Return a worker under the name of what it serves."""
        return replace(worker, model_ref=served(worker, self.policies.of(worker.model_ref), means=self.policies.means))

    def learn(self, name: str, ref: str, *, beside: bool, now_ms: int) -> None:
        """Note what a name of the operator's means: of a model, or of a file *beside* one."""
        if not self.policies.learn(name, ref, beside=beside):
            return
        self.changed.add(ref)
        for pool_id, pool in self._pools.items():
            self._take_models(pool_id, pool, pool.facts)
            for worker in (one for one in pool.workers.values() if self.serving.get(one.worker_id)):
                self._take_worker(pool_id, self._seen(worker), worker, now_ms=now_ms)
            self.progress.seen(pool_id, [self._seen(one) for one in pool.facts.workers], pool.facts.downloads)

    def leave(self, pool_id: str, *, for_good: bool, now_ms: int, refs: frozenset[str] | None = None) -> None:
        """Note that a pool, which tells of *refs*, takes no work: it is draining, silent, or gone *for_good*."""
        pool = self._pools.pop(pool_id, None)
        known = pool.refs if pool else self._away.get(pool_id, frozenset())
        self._away[pool_id] = known if refs is None else refs
        self.kinds.take(pool_id, (), ())
        if pool is not None:
            for ref in pool.refs:
                self.needs.forget(ref, pool_id)
            for worker_id in pool.workers:
                self.lost(worker_id)
            self.progress.leave(pool_id)
            self.capacity.drop(pool_id)
            self.rooms.leave(pool_id, now_ms=now_ms)
        if for_good:
            self._away.pop(pool_id, None)
            self.backoff.forget(pool_id, failures=True)
            self.deaths.leave(pool_id)
        self.grown = True

    def snapshot(self, model_ref: str, demand: Demand, *, now_ms: int) -> Snapshot:
        """Return what a decision on a model depends on. Costs O(log n); O(its pools) where GPUs are of no use to it."""
        workers = self.serving.free(model_ref)
        slots = min(MOST_HEADS, sum(worker.free_slots for worker in workers))
        pace = self.affinity.pace(model_ref)
        heads = demand.heads(slots + MOST_HELD if pace.known else slots) if slots else ()
        wishes = self.affinity.wishes(heads, demand, serving=self.serving, workers=workers) if pace.known else ()
        serving, starting = self.serving.workers(model_ref), len(self.progress.of(model_ref))
        base = Snapshot(
            now_ms=now_ms,
            model_ref=model_ref,
            policy=self.serving.policy(model_ref),
            waiting=demand.waiting,
            heads=heads,
            hungry_since_ms=self.hungry_since(model_ref, demand.oldest_ms),
            workers=workers,
            wishes=tuple(wishes),
            pace=pace,
            busy=len(serving) - len(workers),
            slots=self.serving.slots(model_ref),
            starting=starting,
            room=self.rooms.of(model_ref, now_ms=now_ms),
            online=len(self._pools),
            pauses=() if demand.waiting else self.deaths.pauses(model_ref, now_ms=now_ms),
        )
        return self._with_places(base, demand, more=demand.waiting > len(heads))

    def idle(self, tenant: Tenant, waiting: int, *, now_ms: int) -> IdleSnapshot:
        """Return what a decision about a worker without jobs depends on."""
        worker = self.serving.get(tenant.worker_id)
        return IdleSnapshot(
            now_ms=now_ms,
            tenant=tenant,
            policy=self.serving.kept(worker) if worker else self.serving.policy(tenant.model_ref),
            waiting=waiting,
            workers=len(self.serving.workers(tenant.model_ref)),
        )

    def hungry_since(self, model_ref: str, oldest_ms: int) -> int:
        """Return since when jobs wait for a model without one of them being dispatched."""
        return max(oldest_ms, self._served_ms.get(model_ref, 0))

    def dispatched(self, model_ref: str, *, now_ms: int) -> None:
        """Note that a job of a model goes to a worker."""
        self._served_ms[model_ref] = now_ms

    def released(self, worker_id: str, job_id: JobId, *, now_ms: int) -> None:
        """Take a slot back from a job."""
        worker = self.serving.get(worker_id)
        self.serving.release(worker_id, job_id, now_ms=now_ms)
        if worker is not None:
            self.changed.add(worker.claimed or worker.model_ref)
            self.grown |= not self.serving.leases(worker_id)

    def lost(self, worker_id: str) -> None:
        """Note that a worker is gone, or may be; when its pool says that it is there, it is."""
        worker = self.serving.get(worker_id)
        self.rooms.gone(worker_id)
        self.affinity.forget(worker_id)
        if worker is not None:
            self.serving.remove(worker_id)
            self.changed |= {worker.model_ref, worker.claimed} - {""}
            self.grown = True

    def asked(self, token: str, loading: Loading, *, need_bytes: int, now_ms: int, parts: Sequence[Part] = ()) -> None:
        """Note that a worker was asked for; its memory is promised until a heartbeat shows it."""
        if loading.pool_id in self._pools and token in self._pools[loading.pool_id].workers:
            self._turned_out(loading, now_ms=now_ms)
            return
        self.progress.asked(token, loading, now_ms=now_ms)
        if loading.device or parts:
            self.capacity.promise(token, promised((loading.pool_id, loading.device), need_bytes, parts))

    def _turned_out(self, loading: Loading, *, now_ms: int) -> None:
        """Ask a pool for no more workers if one has other options than those it was asked for: it would never end."""
        worker, ref = self._pools[loading.pool_id].workers[loading.worker_id], loading.model_ref
        if loading.options is not None and not same(loading.options, worker, means=self.policies.means):
            told = f"pool {loading.pool_id} {WITHOUT_OPTIONS}"
            self.refused(ref, (loading.pool_id, ""), code="MODEL_INCOMPATIBLE", message=told, now_ms=now_ms)

    def answered(self, token: str) -> None:
        """Note that a request under *token* is over."""
        self.progress.answered(token)
        self.capacity.withdraw(token)

    def refused(self, model_ref: str, spot: Spot, *, code: str, message: str, now_ms: int, need_bytes: int = 0) -> None:
        """Note that a worker was not started. What the pool says that it needs is learnt; else it is not asked soon."""
        self.changed.add(model_ref)
        if need_bytes and not self.needs.range(model_ref)[1]:
            self.needs.learn(model_ref, need_bytes)
            return
        self.backoff.refused(model_ref, spot, code=code, message=message, now_ms=now_ms)

    def close(self, spot: Spot) -> None:
        """Note that no engine of a pool computes on devices of that kind."""
        pool, backend = self._pools.get(spot[0]), self.capacity.backend(spot)
        if pool is not None and backend is not None and backend != "cpu":
            pool.closed.add(backend)
            self.capacity.update(spot[0], pool.facts.devices, pool.facts.workers, without=pool.closed)

    def forget_unseen(self, *, now_ms: int) -> None:
        """Forget workers that were asked for so long ago that a heartbeat would have shown them."""
        for token, model_ref in self.progress.overdue(now_ms=now_ms):
            self.answered(token)
            self.changed.add(model_ref)

    def _with_places(self, base: Snapshot, demand: Demand, *, more: bool) -> Snapshot:
        """Add what the rules beyond dispatching need, if they are reached."""
        model_ref, now_ms = base.model_ref, base.now_ms
        serving = bool(base.slots or base.starting)
        few = short(base)
        if not few and (not more or base.workers or (serving and not hot(base, demand.waiting))):
            return base
        needs = self.needs.of(model_ref)
        blocked = self.backoff.blocked(model_ref, now_ms=now_ms)
        blocked |= set() if base.waiting else self.deaths.blocked(model_ref, now_ms=now_ms)
        taken = self.serving.spots(model_ref) if serving else set()
        taken |= self.served.closed(model_ref, needs, serving=self.serving.pools(model_ref), capacity=self.capacity)
        least, most = self.needs.range(model_ref)
        kinds = self.kinds.of(model_ref)
        wanted = Wanted(needs=needs, need_bytes=most, least_bytes=least, blocked=blocked, taken=taken, kinds=kinds)
        if own_name(model_ref) and not most and (places := self.capacity.anywhere(wanted)):
            return replace(base, places=places)
        if serving:
            places = self.capacity.places(wanted, elsewhere=False) if wanted.need_bytes else ()
            return replace(base, places=places, need_bytes=wanted.need_bytes)
        elsewhere = not needs or model_ref.startswith("file:")
        candidates: Collection[str] = self._pools if elsewhere else needs
        found = replace(
            base,
            places=self.capacity.places(wanted, elsewhere=elsewhere) or self.capacity.places_together(wanted),
            refusals=tuple(no for no in self.backoff.of(model_ref) if no.pool_id in self._pools),
            askable=len(candidates) - closed(blocked, candidates, spots=lambda p: self.capacity.spots(p, kinds.get(p))),
            absent=tuple(sorted(pool_id for pool_id, refs in self._away.items() if model_ref in refs)),
            returning=demand.oldest_ms < self._started_ms and now_ms < self.settled_ms,
            need_bytes=wanted.need_bytes,
            largest_bytes=self.capacity.largest(wanted, elsewhere=elsewhere),
            together_bytes=self.capacity.together(wanted, elsewhere=elsewhere),
        )
        if found.places or found.room is not None or not more:
            return found
        return self._with_evictions(found, wanted, demand, elsewhere=elsewhere)

    def _with_evictions(self, found: Snapshot, wanted: Wanted, demand: Demand, *, elsewhere: bool) -> Snapshot:
        def kept(model_ref: str) -> bool:
            return len(self.serving.workers(model_ref)) <= self.serving.policy(model_ref).min_replicas

        def spare(model_ref: str) -> bool:
            return demand.waits(model_ref) > 0 or kept(model_ref)

        evictions = self.serving.evictions(self.capacity, wanted, elsewhere=elsewhere, spare=spare)
        if evictions:
            return replace(found, evictions=evictions)
        found = replace(found, doubts=self.capacity.doubts(wanted, elsewhere=elsewhere))
        if found.now_ms - found.hungry_since_ms < AGED_MS:
            return found
        since_ms = found.now_ms - TURN_MS
        turns = self.serving.turns(self.capacity, wanted, elsewhere=elsewhere, since_ms=since_ms, spare=kept)
        return replace(found, turns=turns)

    def _take_models(self, pool_id: str, pool: KnownPool, facts: Facts) -> None:
        refs = frozenset(model.model_ref for model in facts.models)
        before = {model.model_ref: model.added_ms for model in pool.facts.models}
        self.served.take(pool_id, facts.models)
        self.kinds.take(pool_id, facts.models, facts.devices)
        for ref in pool.refs - refs:
            self.needs.forget(ref, pool_id)
        for model in facts.models:
            policy, means = self.policies.of(model.model_ref), self.policies.means
            self.needs.put(model.model_ref, pool_id, need(model, policy, facts.models, means=means))
            if model.added_ms > before.get(model.model_ref, -1):  # it is here, or here again
                self.backoff.came_up(model.model_ref, pool_id)
        pool.refs = refs
        self.changed |= refs

    def _take_worker(self, pool_id: str, worker: WorkerReport, before: WorkerReport | None, *, now_ms: int) -> None:
        ref, spot = worker.model_ref, (pool_id, worker.device)
        if worker.status in {"ready", "busy"} and worker.uri is not UNSET:
            if self.serving.get(worker.worker_id) is None:
                self.backoff.came_up(ref, pool_id)
                self.changed.add(ref)
            elif before is not None and before.slots != worker.slots:
                self.changed.add(ref)
            self.serving.put(
                ReadyWorker(
                    worker_id=worker.worker_id,
                    pool_id=pool_id,
                    device=worker.device,
                    model_ref=ref,
                    slots=worker.slots,
                    memory_bytes=worker.memory_bytes,
                    memory_free_bytes=self.capacity.available(spot),
                    ready_ms=now_ms,
                    last_used_ms=now_ms,
                    shares=worker.shares,
                )
            )
            return
        if worker.status in {"stopped", "failed"}:
            self.lost(worker.worker_id)
        elif worker.status == "draining":
            self.rooms.draining(worker.worker_id)

    def _take_downloads(
        self, pool_id: str, before: Sequence[Download], now: Sequence[Download], *, now_ms: int
    ) -> None:
        """Take in what a pool fetches; a download that has failed since is a refusal of its model."""
        if before == now:
            return
        known = {(one.download_id, one.created_ms) for one in before if one.state == "failed"}
        for one in now:
            self.changed.add(one.model_ref)
            if one.state == "failed" and (one.download_id, one.created_ms) not in known:
                told, code = f"pool {pool_id} could not fetch the model: {one.error}", str(one.error_code)
                self.backoff.refused(one.model_ref, (pool_id, ""), code=code, message=told, now_ms=now_ms)
