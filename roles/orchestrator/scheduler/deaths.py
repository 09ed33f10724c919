"""Workers that died soon after they were ready: where they did, no other is started at once. No I/O, no clock.

For replicas without jobs alone, for nothing else would end that: a job that loses its workers ends after a few tries.

How long a worker has lived is a difference of two times of its pool's own clock: when it was ready, and when the pool
told of it. So one counts that came and died between two reports; one that died while its pool was silent may count as
one that lived long.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET
from msgspec.structs import replace

from llorch.wire.pools import WorkerReport
from roles.orchestrator.scheduler.backoff import pause_ms
from roles.orchestrator.scheduler.capacity import LIVE, Spot
from roles.orchestrator.scheduler.snapshot import Pause

LONG_LIFE_MS = 60_000
"""A worker that was ready for so long has not died of being started."""


class Deaths:
    """Pauses by model and place, which double with every short life in a row there; a long life ends the row."""

    def __init__(self) -> None:
        self._pauses: dict[str, dict[Spot, Pause]] = {}
        self._failed: dict[str, frozenset[str]] = {}
        self._begun: list[tuple[str, Pause]] = []

    def heard(
        self, pool_id: str, workers: Sequence[WorkerReport], *, told_ms: int, now_ms: int, anew: bool = False
    ) -> None:
        """Take in which workers a pool has, and how they are.

        Args:
            pool_id: The pool.
            workers: All of its workers.
            told_ms: When it told that, by its own clock; 0 where it does not say: then no death counts.
            now_ms: The time.
            anew: It has just registered: somebody may have mended it, so pauses end, but not rows of deaths.
        """
        failed = frozenset(worker.worker_id for worker in workers if worker.status == "failed")
        died = failed - self._failed.get(pool_id, failed)
        self._failed[pool_id] = failed
        if anew:
            self._end_pauses(pool_id)
        for worker in workers if told_ms else ():
            if worker.ready_ms is UNSET or not (worker.status in LIVE or worker.worker_id in died):
                continue
            if told_ms - worker.ready_ms >= LONG_LIFE_MS:
                self._forget(worker.model_ref, (pool_id, worker.device))
            elif worker.worker_id in died:
                self._pause(pool_id, worker, now_ms=now_ms)

    def begun(self) -> list[tuple[str, Pause]]:
        """Return the pauses that have begun since this was asked last, each with its model."""
        begun, self._begun = self._begun, []
        return begun

    def pauses(self, model_ref: str, *, now_ms: int) -> tuple[Pause, ...]:
        """Return why and where no worker of a model is to be started now for want of jobs."""
        return tuple(pause for pause in self._pauses.get(model_ref, {}).values() if pause.until_ms > now_ms)

    def blocked(self, model_ref: str, *, now_ms: int) -> set[Spot]:
        """Return where no worker of a model is to be started now for want of jobs."""
        return {(pause.pool_id, pause.device) for pause in self.pauses(model_ref, now_ms=now_ms)}

    def leave(self, pool_id: str) -> None:
        """Forget a pool that is gone for good."""
        self._failed.pop(pool_id, None)
        gone = [(ref, spot) for ref, places in self._pauses.items() for spot in places if spot[0] == pool_id]
        for model_ref, spot in gone:
            self._forget(model_ref, spot)

    def _forget(self, model_ref: str, spot: Spot) -> None:
        places = self._pauses.get(model_ref, {})
        places.pop(spot, None)
        if not places:
            self._pauses.pop(model_ref, None)

    def _pause(self, pool_id: str, worker: WorkerReport, *, now_ms: int) -> None:
        places, spot = self._pauses.setdefault(worker.model_ref, {}), (pool_id, worker.device)
        deaths = places[spot].deaths + 1 if spot in places else 1
        places[spot] = Pause(
            pool_id=pool_id,
            device=worker.device,
            code=worker.error_code if worker.error_code is not UNSET else "WORKER_LOST",
            reason=worker.error if worker.error is not UNSET else "nobody knows why",
            deaths=deaths,
            until_ms=now_ms + pause_ms(deaths),
        )
        self._begun.append((worker.model_ref, places[spot]))

    def _end_pauses(self, pool_id: str) -> None:
        for places in self._pauses.values():
            for spot, pause in places.items():
                if spot[0] == pool_id:
                    places[spot] = replace(pause, until_ms=0)
