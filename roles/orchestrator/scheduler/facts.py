"""What the supply is told: of a pool, and of what waits for a model. Types only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llorch.wire.models import Download
from llorch.wire.pools import Device, Model, WorkerReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a pool says of itself."""

    devices: Sequence[Device] = ()
    models: Sequence[Model] = ()
    workers: Sequence[WorkerReport] = ()
    downloads: Sequence[Download] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What waits for a model. `heads` gives the first jobs that may run, `waits` how many wait for another model."""

    waiting: int
    oldest_ms: int
    heads: Callable[[int], tuple[str, ...]]
    waits: Callable[[str], int]
