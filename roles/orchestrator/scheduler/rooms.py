"""Memory that is being made free for models, and the workers that were told to end. No I/O, no clock.

A worker that is to end for another model is *claimed* at once, so that it gets no more jobs, and told to end when it
has none left. The memory is promised meanwhile, so that nobody else takes it. Owned by the supply.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from roles.orchestrator.scheduler.capacity import Capacity, Spot
from roles.orchestrator.scheduler.decisions import MakeRoom
from roles.orchestrator.scheduler.serving import Serving
from roles.orchestrator.scheduler.snapshot import Part, Room

PAUSE_MS = 10_000
"""After so long a worker that was told to end, and is still there without a job, is told again."""


@dataclass(slots=True)
class _Room:
    spot: Spot
    worker_ids: tuple[str, ...]
    parts: tuple[Part, ...] = ()


@dataclass(slots=True)
class Rooms:
    """At most one room for a model."""

    capacity: Capacity
    serving: Serving
    _rooms: dict[str, _Room] = field(default_factory=dict)
    _told: dict[str, int] = field(default_factory=dict)

    def __contains__(self, model_ref: str) -> bool:
        return model_ref in self._rooms

    def of(self, model_ref: str, *, now_ms: int) -> Room | None:
        """Return the room that is being made for a model."""
        room = self._rooms.get(model_ref)
        if room is None:
            return None
        tenants = (self.serving.tenant(worker_id) for worker_id in room.worker_ids)
        return Room(
            pool_id=room.spot[0],
            device=room.spot[1],
            tenants=tuple(tenant for tenant in tenants if tenant is not None),
            told=tuple(worker_id for worker_id in room.worker_ids if self._told.get(worker_id, 0) > now_ms),
            parts=room.parts,
        )

    def make(self, decision: MakeRoom) -> set[str]:
        """Keep memory for a model; the workers named get no more jobs. Return the models that lose them."""
        spot = (decision.pool_id, decision.device)
        self._rooms[decision.model_ref] = _Room(spot, decision.worker_ids, decision.parts)
        self.capacity.promise(_token(decision.model_ref), promised(spot, decision.need_bytes, decision.parts))
        return {self._claim(worker_id, decision.model_ref) for worker_id in decision.worker_ids} - {""}

    def drop(self, model_ref: str, *, now_ms: int) -> set[str]:
        """Keep no memory for a model any more; return the models that get workers back: those not told to end."""
        room = self._rooms.pop(model_ref, None)
        if room is None:
            return set()
        self.capacity.withdraw(_token(model_ref))
        back = [worker_id for worker_id in room.worker_ids if self._told.get(worker_id, 0) <= now_ms]
        return {self._claim(worker_id, "") for worker_id in back} - {""}

    def leave(self, pool_id: str, *, now_ms: int) -> None:
        """Drop the rooms on a pool that takes no work any more."""
        for model_ref in [ref for ref, room in self._rooms.items() if room.spot[0] == pool_id]:
            self.drop(model_ref, now_ms=now_ms)

    def may_stop(self, worker_id: str, *, now_ms: int) -> bool:
        """Tell whether a worker may be told to end now: it is there, has no lease, and was not told lately."""
        known = self.serving.get(worker_id) is not None
        return known and not self.serving.leases(worker_id) and self._told.get(worker_id, 0) <= now_ms

    def stopping(self, worker_id: str, *, now_ms: int) -> None:
        """Note that a worker is told to end: it gets no more jobs."""
        self._told[worker_id] = now_ms + PAUSE_MS
        self.draining(worker_id)

    def draining(self, worker_id: str) -> None:
        """Note that a worker is ending, whoever has told it."""
        worker = self.serving.get(worker_id)
        if worker is not None and not worker.claimed:
            self.serving.claim(worker_id, worker.model_ref)

    def not_stopped(self, worker_id: str) -> str:
        """Note that a worker could not be told to end; return the model that it serves again, if any."""
        worker = self.serving.get(worker_id)
        if worker is None or worker.claimed != worker.model_ref:
            return ""
        return self._claim(worker_id, "")

    def gone(self, worker_id: str) -> None:
        """Forget a worker."""
        self._told.pop(worker_id, None)

    def _claim(self, worker_id: str, model_ref: str) -> str:
        worker = self.serving.get(worker_id)
        if worker is None:
            return ""
        self.serving.claim(worker_id, model_ref)
        return worker.model_ref


def promised(spot: Spot, need_bytes: int, parts: Iterable[Part]) -> dict[Spot, int]:
    """Return what a worker will take of which devices."""
    return {(spot[0], part.device): part.need_bytes for part in parts} or {spot: need_bytes}


def _token(model_ref: str) -> str:
    return f"room {model_ref}"
