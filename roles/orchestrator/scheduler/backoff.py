"""Which pool, or device of one, is not to be asked for a model, and until when. The caller passes the time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import TypeVar

from roles.orchestrator.scheduler.capacity import Spot
from roles.orchestrator.scheduler.snapshot import Refusal

FIRST_MS = 2_000
MOST_MS = 120_000
MOST_MODELS = 10_000
"""Of so many models refusals are kept, the last ones: anybody can ask for a file that no pool has."""
PERMANENT = frozenset({"MODEL_NOT_FOUND", "MODEL_INVALID", "MODEL_INCOMPATIBLE", "BACKEND_UNAVAILABLE", "FORBIDDEN"})
ABOUT_THE_POOL = frozenset(
    {"MODEL_NOT_FOUND", "MODEL_INVALID", "MODEL_INCOMPATIBLE", "DRAINING", "POOL_UNREACHABLE", "UNREACHABLE"}
    | {"FORBIDDEN", "DISK_FULL", "HUB_UNREACHABLE", "DOWNLOAD_FAILED"}
)
"""These would be the same on every device of the pool."""


Entry = TypeVar("Entry")


@dataclass(slots=True)
class _Model:
    refusals: dict[Spot, Refusal] = field(default_factory=dict)
    failures: dict[Spot, int] = field(default_factory=dict)


class Backoff:
    """Refusals by model. A pause doubles with every failure in a row, from `FIRST_MS` to `MOST_MS`."""

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}

    def refused(self, model_ref: str, spot: Spot, *, code: str, message: str, now_ms: int) -> None:
        """Note that a worker was not started, or did not come up."""
        spot = (spot[0], "") if code in ABOUT_THE_POOL else spot
        model = self._models[model_ref] = self._models.pop(model_ref) if model_ref in self._models else _Model()
        while len(self._models) > MOST_MODELS:
            del self._models[next(iter(self._models))]
        count = model.failures[spot] = model.failures.get(spot, 0) + 1
        model.refusals[spot] = Refusal(
            pool_id=spot[0],
            device=spot[1],
            code=code,
            message=message,
            retry_at_ms=now_ms + pause_ms(count),
            permanent=code in PERMANENT,
        )

    def came_up(self, model_ref: str, pool_id: str) -> None:
        """Forget what a pool has refused: a worker of the model is ready there, or its file has come."""
        model = self._models.get(model_ref)
        if model is None:
            return
        _forget(model.refusals, pool_id)
        _forget(model.failures, pool_id)
        if not model.refusals and not model.failures:
            del self._models[model_ref]

    def forget(self, pool_id: str, *, failures: bool) -> None:
        """Forget what a pool has refused: it has registered anew. With *failures*, also how often: it is gone."""
        for model in self._models.values():
            _forget(model.refusals, pool_id)
            if failures:
                _forget(model.failures, pool_id)

    def of(self, model_ref: str) -> list[Refusal]:
        """Return what was refused, by spot."""
        model = self._models.get(model_ref)
        return [model.refusals[spot] for spot in sorted(model.refusals)] if model is not None else []

    def blocked(self, model_ref: str, *, now_ms: int) -> set[Spot]:
        """Return the spots that are not to be asked now."""
        model = self._models.get(model_ref)
        if model is None:
            return set()
        return {spot for spot, no in model.refusals.items() if no.permanent or no.retry_at_ms > now_ms}


def pause_ms(count: int) -> int:
    """Return how long a pause is after so many failures in a row."""
    return min(MOST_MS, FIRST_MS << min(count - 1, 10))


def closed(blocked: Collection[Spot], pools: Collection[str], *, spots: Callable[[str], Iterable[Spot]]) -> int:
    """Return how many of *pools* have nothing left to ask, be it that all of their *spots* are *blocked*."""
    found = {pool_id for pool_id, _ in blocked if pool_id in pools}
    return sum((pool_id, "") in blocked or all(spot in blocked for spot in spots(pool_id)) for pool_id in found)


def _forget(known: MutableMapping[Spot, Entry], pool_id: str) -> None:
    for spot in [spot for spot in known if spot[0] == pool_id]:
        del known[spot]
