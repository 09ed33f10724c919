"""Watches a worker: asks for progress until it is ready, for its health afterwards; ends what does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from llorch import log
from llorch.wire import protocol
from roles.pool.metrics import LifecycleMetrics
from roles.pool.worker_lifecycle import contact, records
from roles.pool.worker_lifecycle.launcher import Child
from roles.pool.worker_lifecycle.load_rate import LoadRate
from roles.pool.worker_lifecycle.reclaim import Reclaim
from roles.pool.worker_lifecycle.records import Record
from roles.pool.worker_lifecycle.roster import Roster

START_POLL_S = 0.1
_log = log.get("pool.watch")


Measure = Callable[[Record], Awaitable[int]]


async def nobody_tells(_record: Record) -> int:
    """Return that no driver tells what a worker holds."""
    return 0


class Watch:
    """Watches workers; holds how fast this host loads them.

    Args:
        roster: Their records.
        metrics: Counts those that became ready.
        reclaim: Is shown a worker's device while it lives.
        ready_timeout_s: For a worker to load, beside the time that loading progresses.
        health_interval_s: Between two questions to a ready worker.
        measure: Returns what a worker holds of its device, as the device's driver tells; 0 where none does.
    """

    def __init__(
        self,
        roster: Roster,
        metrics: LifecycleMetrics,
        reclaim: Reclaim,
        *,
        ready_timeout_s: float,
        health_interval_s: float,
        measure: Measure = nobody_tells,
    ) -> None:
        self._roster = roster
        self._metrics = metrics
        self._reclaim = reclaim
        self._ready_timeout_s = ready_timeout_s
        self._health_interval_s = health_interval_s
        self._measure = measure
        self._load_rate = LoadRate()

    async def follow(self, worker_id: str, child: Child) -> None:
        """Watch a worker for as long as it lives and is not condemned."""
        await self._start(worker_id, child)
        await self._weigh(worker_id)
        while not self._roster.get(worker_id).condemned:
            await asyncio.sleep(self._health_interval_s)
            await child.tidy()
            record = self._roster.get(worker_id)
            if not record.uri:
                return  # it never was ready, and is ending
            await self._reclaim.look(record)
            await self._weigh(worker_id)
            health = await contact.health(record.uri, record.token)
            record = self._roster.get(worker_id)
            if health is not None:
                self._roster.put(records.healthy(record, health))
            elif (after := records.missed(record)).condemned:
                self._condemn(after, child)
            else:
                self._roster.put(after)

    def ready(self, record: Record, child: Child | None) -> Record:
        """Take in that a worker has its model; one that speaks another version than this pool is condemned."""
        if protocol.foreign(record.protocol):
            lost = records.misunderstood(replace(self._roster.get(record.worker_id), protocol=record.protocol))
            self._condemn(lost, child)
            return lost
        after = self._roster.put(record)
        self._load_rate.saw(record.weights_bytes, record.load_ms)
        self._metrics.starts.labels("ready").inc()
        _log.info("worker_ready", worker_id=record.worker_id, model_ref=record.model_ref, load_ms=record.load_ms)
        return after

    async def _start(self, worker_id: str, child: Child) -> None:
        loop = asyncio.get_running_loop()
        record = self._roster.get(worker_id)
        patience_s = (record.plan.patience_s or self._ready_timeout_s) + self._load_rate.time_s(record.weights_bytes)
        deadline = loop.time() + patience_s
        while (record := self._roster.get(worker_id)).status == "starting":
            if loop.time() >= deadline:
                reason = f"it was not ready and made no progress for {patience_s:.0f} s"
                self._condemn(records.condemned(record, "STARTUP_TIMEOUT", reason), child)
                return
            url = await child.url()
            if url is not None and (health := await contact.health(url, record.token)) is not None:
                current = self._roster.get(worker_id)
                if current.status == "starting" and health.status in {"ready", "busy"}:
                    self.ready(records.loaded(current, health, uri=url, now_ms=self._roster.clock_ms()), child)
                    return
                if current.status == "starting" and health.progress > current.progress:
                    deadline = loop.time() + patience_s
                    self._roster.put(records.healthy(current, health))
            await asyncio.sleep(START_POLL_S)

    async def _weigh(self, worker_id: str) -> None:
        """Have its device's driver tell what a worker holds."""
        record = self._roster.get(worker_id)
        if record.was_ready and record.live and record.pid is not None:
            held_bytes = await self._measure(record)
            self._roster.put(records.measured(self._roster.get(worker_id), held_bytes))

    def _condemn(self, record: Record, child: Child | None) -> None:
        self._roster.put(record)
        assert record.condemned is not None
        code, reason = record.condemned
        _log.warning("worker_killed", worker_id=record.worker_id, code=code, reason=reason)
        if child is not None:
            child.kill()
