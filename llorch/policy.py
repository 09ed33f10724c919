"""What an operator wants of a model's workers: `[models."NAME"]` of the configuration. Types only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from llorch.wire.engine_options import EngineOptions

KeepAlive = Annotated[float, Meta(ge=-1, le=30 * 86_400, description="seconds; 0 is not at all, -1 always")]


class ModelPolicy(EngineOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[models."NAME"]`: how the orchestrator keeps workers of a model; NAME is an alias or a reference.

    `keep_alive_s` is how long a worker without jobs is kept: 0 not at all, -1 always. `min_replicas` are kept loaded
    even without jobs. `slots` and `ctx` 0 are the pool's own defaults. A worker with other engine options
    than these gets no jobs of the model.
    """

    keep_alive_s: KeepAlive = 300.0
    min_replicas: Annotated[int, Meta(ge=0, le=1000)] = 0
    max_replicas: Annotated[int, Meta(ge=1, le=1000)] = 4
    slots: Annotated[int, Meta(ge=0, le=256)] = 0
    ctx: Annotated[int, Meta(ge=0, le=2**24)] = 0

    @property
    def pinned(self) -> bool:
        """Whether a worker is never stopped for want of jobs, nor for another model."""
        return self.keep_alive_s < 0


def contradictions(values: Mapping[str, object]) -> list[str]:
    """Return what is wrong with keys that are each allowed."""
    least, most = values.get("min_replicas", 0), values.get("max_replicas", ModelPolicy().max_replicas)
    if isinstance(least, int) and isinstance(most, int) and least > most:
        return [f"min_replicas: found {least}, expected at most max_replicas, which is {most}"]
    return []
