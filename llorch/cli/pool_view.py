"""How pools, devices, workers and models are shown to a person. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llorch.cli.figures import bar, duration, size
from llorch.errors import BackendUnavailable
from llorch.models import own_name
from llorch.wire.pools import Device, Model, Pool, PoolStatus, Worker
from llorch.wire.protocol import differs, foreign

DEVICES = ("DEVICE", "NAME", "MEMORY", "USED", "OF", "FOR MODELS", "LOAD", "TEMPERATURE")
WORKERS = ("WORKER", "STATUS", "MODEL", "DEVICE", "ENGINE", "SLOTS", "CONTEXT", "MEMORY")
MODELS = ("MODEL", "SIZE", "QUANTISATION", "ARCHITECTURE", "CONTEXT", "REFERENCE")
POOLS = ("POOL", "STATUS", "ADDRESS", "SEEN", "DEVICES", "FREE MEMORY", "WORKERS", "MODELS")
NOTHING = "–"


def headline(status: PoolStatus) -> str:
    """Return what a pool is, in one line."""
    parts = [f"pool {status.pool_id}", f"llorch {status.version}", f"up {duration(status.uptime_s * 1000)}"]
    if isinstance(status.orchestrator, str):
        state = "registered with" if status.registered else "not registered with"
        parts.append(f"{state} {status.orchestrator}")
    else:
        parts.append("no orchestrator")
    if status.draining:
        parts.append("draining")
    parts.append(f"{size(status.disk.free_bytes)} of disk free")
    return " · ".join(parts)


def device_row(device: Device) -> Sequence[str]:
    """Return a device's row under `DEVICES`."""
    percent, celsius = device.utilization_percent, device.temperature_c
    return (
        device.id,
        device.name,
        bar(device.memory_used_bytes, device.memory_total_bytes),
        size(device.memory_used_bytes),
        size(device.memory_total_bytes),
        size(device.memory_allocated_bytes),
        f"{percent:.0f} %" if isinstance(percent, float) else NOTHING,
        f"{celsius:.0f} °C" if isinstance(celsius, float) else NOTHING,
    )


def worker_row(worker: Worker, names: dict[str, str]) -> Sequence[str]:
    """Return a worker's row under `WORKERS`."""
    return (
        worker.worker_id,
        worker_state(worker),
        names.get(worker.model_ref, worker.model_ref),
        worker.device or NOTHING,
        worker.engine,
        f"{worker.slots_busy}/{worker.slots}",
        str(worker.context_length),
        size(worker.memory_bytes),
    )


def worker_state(worker: Worker) -> str:
    """Return how a worker is: while it loads how far, when it failed why."""
    if worker.status == "starting":
        return f"starting {worker.progress:.0f} %"
    return f"failed: {worker.error}" if worker.status == "failed" and isinstance(worker.error, str) else worker.status


def worker_notes(status: PoolStatus) -> Sequence[str]:
    """Return a line for each worker that takes no more jobs because it speaks another version than its pool."""
    return [
        f"worker {worker.worker_id} {differs(worker.protocol, whose='its pool', ours=status.protocol)}: "
        "it finishes its jobs and then ends; new ones get a new worker"
        for worker in status.workers
        if worker.status == "draining" and foreign(worker.protocol, ours=status.protocol)
    ]


def pool_notes(pools: Iterable[Pool]) -> Sequence[str]:
    """Return a line for each pool that gets no work though nobody has asked for that."""
    return [f"pool {pool.pool_id} gets no work: {pool.trouble}; {pool.remedy}" for pool in pools if pool.trouble]


def model_row(model: Model) -> Sequence[str]:
    """Return a model's row under `MODELS`."""
    return (
        ", ".join(model.aliases) or own_name(model.model_ref) or NOTHING,
        size(model.size_bytes) if model.size_bytes else NOTHING,
        model.quantization or NOTHING,
        model.architecture or NOTHING,
        str(model.context_length),
        model.model_ref,
    )


def pool_row(pool: Pool, now_ms: int) -> Sequence[str]:
    """Return a pool's row under `POOLS`."""
    return (
        pool.pool_id,
        pool.status,
        pool.endpoint,
        f"{duration(now_ms - pool.last_seen_ms)} ago",
        ", ".join(device.id for device in pool.devices),
        size(sum(device.memory_free_bytes for device in pool.devices)),
        str(len(pool.workers)),
        str(len(pool.models)),
    )


def short_names(models: Iterable[Model]) -> dict[str, str]:
    """Return the alias by which each reference is known, where it has one."""
    return {model.model_ref: model.aliases[0] for model in models if model.aliases}


def refuse_backend(backend: str, devices: Sequence[Device]) -> None:
    """Refuse a backend that a host does not have.

    Raises:
        BackendUnavailable: With the devices that it has.
    """
    if all(device.backend != backend for device in devices):
        has = ", ".join(f"{device.id} ({device.name})" for device in devices)
        raise BackendUnavailable(f"nothing here computes on {backend}; this host has {has}")
