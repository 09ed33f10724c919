"""Workers that died soon after they were ready: where they did, no other is started at once. No I/O, no clock.

For replicas without jobs alone, for nothing else would end that: a job that loses its workers ends after a few tries.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET

from llorch.wire.pools import WorkerReport
from roles.orchestrator.scheduler.backoff import Backoff
from roles.orchestrator.scheduler.capacity import LIVE, Spot
from roles.orchestrator.scheduler.facts import complaint

LONG_LIFE_MS = 60_000
"""A worker that was ready for so long has not died of being started."""


class Deaths:
    """Pauses by model, which double with every short life in a row."""

    def __init__(self) -> None:
        self._pauses = Backoff()
        self._ready_ms: dict[str, dict[str, int]] = {}

    def heard(self, pool_id: str, workers: Sequence[WorkerReport], *, now_ms: int) -> None:
        """Take in which workers a pool has, and how they are."""
        before = self._ready_ms.get(pool_id, {})
        self._ready_ms[pool_id] = {
            worker.worker_id: now_ms if worker.status == "starting" else before.get(worker.worker_id, now_ms)
            for worker in workers
            if worker.status in LIVE
        }
        for worker in workers:
            since_ms = before.get(worker.worker_id)
            if worker.status != "failed" or worker.ready_ms is UNSET or since_ms is None:
                continue
            if now_ms - since_ms >= LONG_LIFE_MS:
                self._pauses.came_up(worker.model_ref, pool_id)
                continue
            code, message = complaint(pool_id, worker)
            spot = (pool_id, worker.device)
            self._pauses.refused(worker.model_ref, spot, code=code, message=message, now_ms=now_ms)

    def blocked(self, model_ref: str, *, now_ms: int) -> set[Spot]:
        """Return where no worker of a model is to be started now for want of jobs."""
        return self._pauses.blocked(model_ref, now_ms=now_ms)

    def leave(self, pool_id: str) -> None:
        """Forget a pool that is gone for good."""
        self._ready_ms.pop(pool_id, None)
        self._pauses.forget(pool_id, failures=True)
