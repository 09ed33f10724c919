"""How much memory a worker of each model takes on each pool that has its file. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

_NONE: Mapping[str, int] = {}


class Needs:
    """Bytes by model and pool, 0 where a pool does not say; and what was learnt from refusals about other models."""

    def __init__(self) -> None:
        self._pools: dict[str, dict[str, int]] = {}
        self._ranges: dict[str, tuple[int, int]] = {}
        self._learnt: dict[str, int] = {}

    def of(self, model_ref: str) -> Mapping[str, int]:
        """Return what a worker takes, by pool; empty when no pool has the file."""
        return self._pools.get(model_ref, _NONE)

    def range(self, model_ref: str) -> tuple[int, int]:
        """Return the least and the most that a worker takes anywhere; 0 while nobody knows."""
        if model_ref not in self._pools:
            learnt = self._learnt.get(model_ref, 0)
            return learnt, learnt
        known = self._ranges.get(model_ref)
        if known is None:
            needs = [size for size in self._pools[model_ref].values() if size] or [self._learnt.get(model_ref, 0)]
            known = self._ranges[model_ref] = (min(needs), max(needs))
        return known

    def put(self, model_ref: str, pool_id: str, size_bytes: int) -> None:
        """Note what a worker takes on a pool that has the file."""
        self._pools.setdefault(model_ref, {})[pool_id] = size_bytes
        self._ranges.pop(model_ref, None)

    def learn(self, model_ref: str, size_bytes: int) -> None:
        """Note what a pool has said in a refusal."""
        self._learnt[model_ref] = size_bytes
        self._ranges.pop(model_ref, None)

    def forget(self, model_ref: str, pool_id: str) -> None:
        """Note that a pool does not have the file any more, or takes no work."""
        needs = self._pools[model_ref]
        del needs[pool_id]
        self._ranges.pop(model_ref, None)
        if not needs:
            del self._pools[model_ref]
