"""What pools and the orchestrator tell each other, and what a pool tells people. No I/O.

Bodies between roles ignore unknown fields, so that hosts can be upgraded one after the other.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from llorch.wire.engine_options import EngineOptions
from llorch.wire.events import Count
from llorch.wire.models import Download
from llorch.wire.protocol import FIRST

Backend = Literal["cpu", "cuda", "metal"]
Engine = Literal["llamacpp", "torch", "ctransformers", "openai"]
WorkerState = Literal["starting", "ready", "busy", "draining", "stopped", "failed"]
ModelKind = Literal["model", "adapter", "projector"]
PoolState = Literal["online", "draining", "offline"]
Id = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$(?!\n)",
        description="up to 64 letters, digits, dots, underscores and hyphens",
    ),
]
ModelRef = Annotated[str, Meta(min_length=1, max_length=1024)]


class Occupant(msgspec.Struct, frozen=True, kw_only=True):
    """A process on a device that is not a worker of its pool; drivers do not always tell how much it holds."""

    pid: int
    name: str = ""
    memory_bytes: int | UnsetType = UNSET


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that computes, as measured a moment ago. A CPU's memory is the host's (or its cgroup's) RAM.

    `reserve_bytes` are left to other programs. `others` are processes that are not this pool's, those with most memory
    first, as far as a driver tells of them; `others_bytes` is what they hold of the memory told of here. `suspect` says
    why this pool doubts that memory has come back.
    """

    id: str
    uuid: str
    name: str
    backend: Backend
    memory_total_bytes: int
    memory_used_bytes: int
    memory_free_bytes: int
    memory_allocated_bytes: int = 0
    utilization_percent: float | UnsetType = UNSET
    temperature_c: float | UnsetType = UNSET
    power_w: float | UnsetType = UNSET
    cores: int | UnsetType = UNSET
    reserve_bytes: int = 0
    others: list[Occupant] = msgspec.field(default_factory=list)
    others_bytes: int = 0
    suspect: str | UnsetType = UNSET


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model file on a pool's disk, from its metadata; or what is only a part of one, as its `kind` says.

    `max_token_bytes` is the longest text that one token stands for. It and `context_length` are 0 where the file does
    not say.

    `capabilities` are what it can do, see `Capability`. `template_knows` is what its chat template can tell it beside
    what is said: of `tools`, of `thinking`; empty is also not said.

    `memory_bytes` is what a worker takes there that has the pool's own number of slots and context (`memory_slots`,
    `memory_ctx`); `kv_cell_bytes` the part of it that each token of context takes. 0 is not known.

    A model of a server takes no memory, or `memory_bytes` of `device` alone; it is there since `added_ms`.

    `backends` are what the engine for it computes on there; empty is not said.
    """

    model_ref: str
    size_bytes: int
    architecture: str
    quantization: str
    context_length: int
    vocab_size: int
    max_token_bytes: int
    capabilities: list[str] = msgspec.field(default_factory=lambda: ["text-gen"])
    aliases: list[str] = msgspec.field(default_factory=list)
    parameters: int | UnsetType = UNSET
    weights_bytes: int = 0
    kv_cell_bytes: int = 0
    kind: ModelKind = "model"
    memory_bytes: int = 0
    memory_slots: int = 0
    memory_ctx: int = 0
    model_id: str = ""
    added_ms: int = 0
    device: str = ""
    backends: list[Backend] = msgspec.field(default_factory=list)
    template_knows: list[str] = msgspec.field(default_factory=list)


class ModelList(msgspec.Struct, frozen=True):
    """The models of a pool that can be used, by reference."""

    models: list[Model]


class Worker(EngineOptions, frozen=True, kw_only=True):
    """A worker as its pool knows it; `progress` is the percentage loaded, `error` why it failed.

    `load_ms` is how long it took to load its model, once its process was up; 0 is not known. `shares` are the bytes of
    each device that it is on, where its model is laid over several; else it is on `device` alone.

    `adopted` tells that it was started before the pool was, by an earlier process of it. `protocol` is the version of
    what it understands.
    """

    worker_id: str
    model_ref: str
    status: WorkerState
    backend: Backend
    engine: Engine
    device: str
    slots: int
    slots_busy: int
    context_length: int
    memory_bytes: int
    started_ms: Count
    uri: str | UnsetType = UNSET
    progress: float = 0.0
    ready_ms: Count | UnsetType = UNSET
    load_ms: Count = 0
    exit_code: int | UnsetType = UNSET
    error: str | UnsetType = UNSET
    error_code: str | UnsetType = UNSET
    pid: int | UnsetType = UNSET
    adopted: bool = False
    protocol: int = FIRST
    shares: dict[str, int] = msgspec.field(default_factory=dict)


class WorkerReport(Worker, frozen=True, kw_only=True):
    """A worker as told to the orchestrator: with the token that its endpoints ask for."""

    token: str = ""


class Register(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /v2/pools/register`. `instance` is what only a pool with the same data directory can know.

    `protocol` is the version of what the workers understand that it starts.
    """

    pool_id: Id
    endpoint: Annotated[
        str, Meta(pattern=r"^https?://[^\s/]+/?$(?!\n)", max_length=256, description="a URL such as http://host:9200")
    ]
    version: Annotated[str, Meta(max_length=64)]
    devices: list[Device] = msgspec.field(default_factory=list)
    models: list[Model] = msgspec.field(default_factory=list)
    workers: list[WorkerReport] = msgspec.field(default_factory=list)
    downloads: list[Download] = msgspec.field(default_factory=list)
    takeover: bool = False
    instance: Annotated[str, Meta(max_length=64)] = ""
    protocol: int = FIRST


class JoinOrchestrator(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v2/orchestrator` of a pool: where the orchestrator is that it shall report to."""

    url: Annotated[
        str, Meta(pattern=r"^https?://[^\s/]+/?$(?!\n)", max_length=256, description="a URL such as http://host:8080")
    ]


class Registered(msgspec.Struct, frozen=True):
    """The answer to a registration: send a heartbeat at least this often."""

    pool_id: str
    heartbeat_interval_ms: int


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /v2/pools/{id}/heartbeat`: everything that can change. `seq` only ever grows."""

    seq: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    time_ms: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    devices: list[Device]
    models: list[Model]
    workers: list[WorkerReport]
    downloads: list[Download] = msgspec.field(default_factory=list)
    draining: bool = False


class HeartbeatReply(msgspec.Struct, frozen=True):
    """The last sequence number the orchestrator has taken."""

    seq: int


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """A pool as the orchestrator knows it.

    `trouble` is why it gets no work though it is there and nobody has asked for that, `remedy` what to do about it;
    empty where there is none.
    """

    pool_id: str
    endpoint: str
    version: str
    status: PoolState
    last_seen_ms: int
    devices: list[Device]
    models: list[Model]
    workers: list[Worker]
    downloads: list[Download] = msgspec.field(default_factory=list)
    trouble: str = ""
    remedy: str = ""


class PoolList(msgspec.Struct, frozen=True):
    """All pools, by id."""

    pools: list[Pool]


class SpawnWorker(EngineOptions, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """`POST …/workers/spawn`: start a worker for a resolved model reference.

    What nobody asked for is not written, so that a pool of an older version does not refuse what it does not know.
    """

    model_ref: ModelRef
    backend: Backend | UnsetType = UNSET
    device: Annotated[str, Meta(min_length=1, max_length=128, description="A device id or UUID")] | UnsetType = UNSET
    engine: Engine | UnsetType = UNSET
    slots: Annotated[int, Meta(ge=1, le=256)] | UnsetType = UNSET
    ctx: Annotated[int, Meta(ge=16, le=2**24, description="Context of one slot, in tokens")] | UnsetType = UNSET
    port: Annotated[int, Meta(ge=0, le=65535)] | UnsetType = UNSET


class Spawned(msgspec.Struct, frozen=True):
    """The answer to a spawn: preflight has passed, the process runs."""

    worker_id: str
    status: WorkerState


class WorkerList(msgspec.Struct, frozen=True):
    """All workers of a pool, oldest first."""

    workers: list[Worker]


class WorkerLogs(msgspec.Struct, frozen=True):
    """The last lines a worker logged."""

    worker_id: str
    lines: list[str]


class Disk(msgspec.Struct, frozen=True):
    """The file system that holds the models."""

    total_bytes: int
    free_bytes: int


class PoolStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v2/status` of a pool."""

    pool_id: str
    version: str
    uptime_s: float
    draining: bool
    devices: list[Device]
    workers: list[Worker]
    models: list[Model]
    disk: Disk
    downloads: list[Download] = msgspec.field(default_factory=list)
    orchestrator: str | UnsetType = UNSET
    registered: bool = False
    protocol: int = FIRST
