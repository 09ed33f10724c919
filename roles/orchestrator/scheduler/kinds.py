"""What the engines of models compute on, on each pool where that is not all that the pool has. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from llorch.wire.pools import Backend, Device, Model

_NONE: Mapping[str, frozenset[Backend]] = {}


class Kinds:
    """Kinds of devices by model and pool."""

    def __init__(self) -> None:
        self._models: dict[str, dict[str, frozenset[Backend]]] = {}
        self._refs: dict[str, list[str]] = {}

    def of(self, model_ref: str) -> Mapping[str, frozenset[Backend]]:
        """Return on which kinds of devices a model runs, by pool; a pool where it runs on all is not there."""
        return self._models.get(model_ref, _NONE)

    def take(self, pool_id: str, models: Iterable[Model], devices: Iterable[Device]) -> None:
        """Take in what a pool has; nothing of either forgets it."""
        for ref in self._refs.pop(pool_id, ()):
            del self._models[ref][pool_id]
            if not self._models[ref]:
                del self._models[ref]
        there = {device.backend for device in devices}
        told = {model.model_ref: frozenset(model.backends) for model in models if model.backends}
        limited = {ref: kinds for ref, kinds in told.items() if not there <= kinds}
        for ref, kinds in limited.items():
            self._models.setdefault(ref, {})[pool_id] = kinds
        if limited:
            self._refs[pool_id] = list(limited)
