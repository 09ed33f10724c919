"""Where a worker of a server's model can be: on the device that its pool names, and only one in a pool. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from llorch.models import own_name
from llorch.wire.pools import Model
from roles.orchestrator.scheduler.capacity import Capacity, Spot


class Served:
    """The models of servers, by pool, and the one device that each runs on; empty where it takes no memory."""

    def __init__(self) -> None:
        self._devices: dict[str, dict[str, str]] = {}

    def take(self, pool_id: str, models: Iterable[Model]) -> None:
        """Take in what a pool has."""
        self._devices[pool_id] = {model.model_ref: model.device for model in models if own_name(model.model_ref)}

    def closed(
        self, model_ref: str, pools: Iterable[str], *, serving: Collection[str], capacity: Capacity
    ) -> set[Spot]:
        """Return the spots where a worker of a server's model cannot be; none for any other model.

        Args:
            model_ref: The model.
            pools: Those that have it.
            serving: Those that have a worker of it: a server's slots are all in one.
            capacity: What devices they have.
        """
        if not own_name(model_ref):
            return set()
        found: set[Spot] = {(pool_id, "") for pool_id in serving}
        for pool_id in pools:
            device = self._devices[pool_id][model_ref]
            found.update(spot for spot in capacity.spots(pool_id) if pool_id in serving or spot[1] != device)
        return found
