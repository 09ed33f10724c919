"""Before a worker is started: does it fit, on which device, with which settings? Pure.

Memory is counted twice, and the smaller result holds: what is free now less what starting workers have not taken yet,
and all there is less what all workers and other programs hold. The first sees all other programs; the second sees model
files that are mapped, which an operating system calls free. A device whose memory may not have come back is taken only
where no other has room.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from msgspec import UNSET
from msgspec.structs import replace

from llorch.errors import BackendUnavailable, InsufficientMemory, ModelIncompatible
from llorch.program import with_extra
from llorch.wire.engine_options import PLAIN, EngineOptions
from llorch.wire.pools import Backend, Device, Engine, Model, SpawnWorker
from roles.pool.model_cache.gguf import Metadata
from roles.pool.worker_lifecycle.engines import ARCHITECTURES, Engines
from roles.pool.worker_lifecycle.estimate import BATCH, Estimate, estimate
from roles.pool.worker_lifecycle.extras import NO_EXTRAS, Extras, check_extras
from roles.pool.worker_lifecycle.split import Share, split

ENGINES: Mapping[str, Engine] = {"gguf": "llamacpp", "ggml": "ctransformers", "safetensors": "torch"}
"""By the form of a model's files, what runs it unless another engine is asked for."""
READS: Mapping[Engine, Sequence[str]] = {
    "llamacpp": ("gguf",),
    "torch": ("safetensors",),
    "ctransformers": ("ggml", "gguf"),
}
FORMS: Mapping[str, str] = {
    "gguf": "GGUF files",
    "ggml": "files of before GGUF",
    "safetensors": "folders of safetensors",
}
ONE_SLOT = frozenset[Engine]({"ctransformers"})
"""Engines that compute one job at a time."""
MAX_DEFAULT_CTX = 8192
PREFERENCE: Sequence[Backend] = ("cuda", "metal", "cpu")


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a request that does not say gets."""

    slots: int
    ctx: int
    batch: int = BATCH


@dataclass(frozen=True, slots=True)
class Commitment:
    """Memory that a living worker holds or will hold on a device; `pending` while it is still taking it."""

    device: str
    memory_bytes: int
    pending: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """How a worker is to be started; with `shares`, over these devices, the first of which is `device`.

    An empty `device` is that it takes no memory of its own. `patience_s` is how long it may load without progress,
    where that is not the pool's own limit.
    """

    device: str
    backend: Backend
    engine: Engine
    slots: int
    ctx: int
    memory_bytes: int
    shares: tuple[Share, ...] = ()
    options: EngineOptions = PLAIN
    patience_s: float = 0.0


def plan(  # noqa: PLR0913 - what is decided from
    metadata: Metadata,
    request: SpawnWorker,
    *,
    devices: Sequence[Device],
    commitments: Sequence[Commitment],
    engines: Engines,
    defaults: Defaults,
    extras: Extras = NO_EXTRAS,
) -> Plan:
    """Decide how to start a worker for a model.

    Args:
        metadata: What the model's file says.
        request: What was asked for; what it leaves open is decided here.
        devices: What this host has, as measured now.
        commitments: What its living workers hold.
        engines: What is installed.
        defaults: For what the request leaves open.
        extras: The files that the worker is to have beside the model.

    Raises:
        BackendUnavailable: No such engine, device or backend here; the message lists what there is.
        ModelIncompatible: The engine does not know the architecture, or the file is a part of a model, or another one
            does not go with it.
        InsufficientMemory: It fits none of the devices in question.
    """
    engine = ENGINES[metadata.form] if request.engine is UNSET else request.engine
    check_installed(metadata.form, engines, engine=engine)
    check_compatible(metadata, engine)
    check_extras(metadata, extras, engine)
    slots = slots_of(request, engine, default=defaults.slots)
    ctx = context(metadata, asked=0 if request.ctx is UNSET else request.ctx, default=defaults.ctx)
    needed = estimate(metadata, slots=slots, ctx=ctx, batch=defaults.batch, extras=extras, engine=engine)
    required = needed.total_bytes
    free = {device.id: available(device, commitments) for device in devices}
    usable = _usable(request, devices, engine, engines)
    fitting = [device for device in usable if required <= free[device.id]]
    chosen = min(fitting or usable, key=lambda device: (device.suspect is not UNSET, -free[device.id]))
    lone = engine != "llamacpp" or request.device is not UNSET
    if not fitting and not lone and (shares := _shares(metadata, needed, usable, free)):
        whole = sum(share.memory_bytes for share in shares)
        return Plan(shares[0].device, chosen.backend, engine, slots, ctx, whole, shares, extras.options)
    if not fitting:
        raise InsufficientMemory(
            f"the model needs {_size(required)} with {slots} slots of {ctx} tokens, {_size(free[chosen.id])} are free "
            f"on {chosen.id}; stop another worker, or ask for fewer slots or a smaller ctx",
            details={"required_bytes": required, "available_bytes": free[chosen.id], "device": chosen.id},
        )
    return Plan(chosen.id, chosen.backend, engine, slots, ctx, required, options=extras.options)


def _shares(
    metadata: Metadata, needed: Estimate, devices: Sequence[Device], free: Mapping[str, int]
) -> tuple[Share, ...]:
    """Lay a model over several devices: over trusted ones, else over all."""
    trusted = {device.id: free[device.id] for device in devices if device.suspect is UNSET}
    return split(metadata, needed, trusted) or split(metadata, needed, {d.id: free[d.id] for d in devices})


def check_installed(form: str, engines: Engines, *, engine: Engine | None = None) -> None:
    """Refuse what this host has no engine for.

    Args:
        form: Of the model's files.
        engines: What is installed.
        engine: The one asked for; None is the one for the form.

    Raises:
        BackendUnavailable: It is not installed; the message lists what is.
    """
    wanted = engine or ENGINES[form]
    if wanted not in engines:
        raise BackendUnavailable(
            f"the engine {wanted} is not installed on this host, and {FORMS[form]} take it; "
            f"installed: {_list(engines)}; {with_extra(wanted)}",
            details={"engines": sorted(engines)},
        )


def check_compatible(metadata: Metadata, engine: Engine) -> None:
    """Refuse what the engine cannot run.

    Raises:
        ModelIncompatible: With what the engine lacks.
    """
    if metadata.kind != "model":
        raise ModelIncompatible(f"the file is no model by itself: it is one's {metadata.kind}")
    if metadata.form not in READS.get(engine, ()):
        raise ModelIncompatible(
            f"the engine {engine} does not read {FORMS[metadata.form]}; {ENGINES[metadata.form]} does",
            details={"form": metadata.form, "engine": engine},
        )
    if metadata.form != "ggml" and metadata.architecture not in ARCHITECTURES.get(engine, frozenset()):
        raise ModelIncompatible(
            f"the engine {engine} does not know models of the architecture {metadata.architecture!r}",
            details={"architecture": metadata.architecture, "engine": engine},
        )
    if metadata.split_count > 1:
        raise ModelIncompatible(
            f"the file is one of {metadata.split_count} parts of a model; join them with llama-gguf-split --merge"
        )


def runs_here(metadata: Metadata, engines: Engines) -> bool:
    """Tell whether the engine for a model's files is installed."""
    return ENGINES[metadata.form] in engines


def slots_of(request: SpawnWorker, engine: Engine, *, default: int) -> int:
    """Return how many jobs a worker is to take at a time.

    Raises:
        BackendUnavailable: More are asked for than the engine computes at a time.
    """
    if engine not in ONE_SLOT:
        return default if request.slots is UNSET else request.slots
    if request.slots is not UNSET and request.slots > 1:
        raise BackendUnavailable(f"the engine {engine} computes one job at a time; ask for 1 slot, not {request.slots}")
    return 1


def context(model: Metadata, *, asked: int, default: int) -> int:
    """Return the context of one slot in tokens: never above what the model was trained for."""
    trained = model.context_length
    wanted = asked or default or min(trained or MAX_DEFAULT_CTX, MAX_DEFAULT_CTX)
    return min(wanted, trained) if trained else wanted


def sized(model: Model, metadata: Metadata, defaults: Defaults, engines: Engines) -> Model:
    """Return a model as others are told of it: with what a worker takes when the request leaves all to the defaults."""
    ctx = context(metadata, asked=0, default=defaults.ctx)
    engine = ENGINES[metadata.form]
    slots = 1 if engine in ONE_SLOT else defaults.slots
    needed = estimate(metadata, slots=slots, ctx=ctx, batch=defaults.batch, engine=engine)
    backends = sorted(engines.get(engine, ()))
    return replace(model, memory_bytes=needed.total_bytes, memory_slots=slots, memory_ctx=ctx, backends=backends)


def available(device: Device, commitments: Iterable[Commitment]) -> int:
    """Return the bytes that a new worker may take on *device*."""
    here = [commitment for commitment in commitments if commitment.device == device.id]
    free_now = device.memory_free_bytes - sum(c.memory_bytes for c in here if c.pending)
    never_given = device.memory_total_bytes - device.others_bytes - sum(c.memory_bytes for c in here)
    return max(0, min(free_now, never_given) - device.reserve_bytes)


def is_called(device: Device, name: str) -> bool:
    """Tell whether a device is meant: by its id or UUID, or by the number in its id."""
    return name in {device.id, device.uuid} or (name.isdecimal() and device.id.partition(":")[2] == name)


def _usable(request: SpawnWorker, devices: Sequence[Device], engine: Engine, engines: Engines) -> list[Device]:
    """Return the devices that may be meant: the one named, else those of the backend named, else the best kind.

    Where no engine at all computes on them, the refusal says so in `details["no_engine"]`.
    """
    here = f"this host has {', '.join(f'{device.id} ({device.name})' for device in devices)}"
    found = list(devices)
    if request.backend is not UNSET:
        found = [device for device in found if device.backend == request.backend]
        if not found:
            raise BackendUnavailable(f"nothing here computes on {request.backend}; {here}", details=_there_is(devices))
    if request.device is not UNSET:
        found = [device for device in found if is_called(device, request.device)]
        if not found:
            such = "such device" if request.backend is UNSET else f"such device for {request.backend}"
            raise BackendUnavailable(f"there is no {such}; {here}", details=_there_is(devices))
    meant = {device.backend for device in found}
    found = [device for device in found if device.backend in engines[engine]]
    if not found:
        raise BackendUnavailable(
            f"the engine {engine} as installed here computes on {_list(engines[engine])} only; {here}",
            details={**_there_is(devices), "no_engine": not any(meant & backends for backends in engines.values())},
        )
    best = min(PREFERENCE.index(device.backend) for device in found)
    return [device for device in found if PREFERENCE.index(device.backend) == best]


def _there_is(devices: Sequence[Device]) -> dict[str, object]:
    return {"devices": [{"id": device.id, "uuid": device.uuid, "backend": device.backend} for device in devices]}


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _size(count: int) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"
