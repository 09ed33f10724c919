"""What the supply is told: of a pool, and of what waits for a model. Types only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from llorch.wire.models import Download
from llorch.wire.pools import Device, Model, WorkerReport
from roles.orchestrator.scheduler.prefix import Prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a pool says of itself."""

    devices: Sequence[Device] = ()
    models: Sequence[Model] = ()
    workers: Sequence[WorkerReport] = ()
    downloads: Sequence[Download] = ()


def unknown(_: str) -> tuple[Prefix | None, int]:
    """Tell nothing of a job's prompt."""
    return None, 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What waits for a model. `heads` gives the first jobs that may run, `waits` how many wait for another model.

    `prefix` gives what a job's prompt begins with, if that is known, and since when the job is held back, else 0.
    """

    waiting: int
    oldest_ms: int
    heads: Callable[[int], tuple[str, ...]]
    waits: Callable[[str], int]
    prefix: Callable[[str], tuple[Prefix | None, int]] = field(default=unknown)
