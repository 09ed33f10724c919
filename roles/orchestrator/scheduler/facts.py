"""What the supply is told: of a pool, and of what waits for a model. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from msgspec import UNSET

from llorch.wire.models import Download
from llorch.wire.pools import Backend, Device, Heartbeat, Model, Register, WorkerReport
from roles.orchestrator.scheduler.prefix import Prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a pool says of itself; `told_ms` is when, by its own clock, and 0 where it does not say that."""

    devices: Sequence[Device] = ()
    models: Sequence[Model] = ()
    workers: Sequence[WorkerReport] = ()
    downloads: Sequence[Download] = ()
    told_ms: int = 0

    @property
    def kinds(self) -> frozenset[Backend]:
        """The kinds of its devices."""
        return frozenset(device.backend for device in self.devices)


@dataclass(slots=True)
class KnownPool:
    """One online pool, as told last; `closed` are the kinds of devices that no engine there computes on."""

    facts: Facts = field(default_factory=Facts)
    refs: frozenset[str] = frozenset()
    workers: dict[str, WorkerReport] = field(default_factory=dict)
    closed: set[Backend] = field(default_factory=set)


def told(body: Register | Heartbeat) -> Facts:
    """Return what a pool says of itself in a message."""
    return Facts(
        devices=body.devices,
        models=body.models,
        workers=body.workers,
        downloads=body.downloads,
        told_ms=body.time_ms if isinstance(body, Heartbeat) else 0,
    )


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


def failed_to_start(worker: WorkerReport, before: WorkerReport | None, *, first: bool) -> bool:
    """Tell whether a worker has failed since the pool spoke last, and was never ready."""
    if worker.status != "failed" or worker.ready_ms is not UNSET:
        return False
    return before.status == "starting" if before is not None else not first


def complaint(pool_id: str, worker: WorkerReport) -> tuple[str, str]:
    """Return the code and the message of a worker that has failed to start."""
    code = worker.error_code if worker.error_code is not UNSET else "ENGINE_FAILED"
    reason = worker.error if worker.error is not UNSET else "it did not start"
    where = f"on {worker.device} " if worker.device else ""
    return code, f"a worker {where}of pool {pool_id} failed to start: {reason}"
