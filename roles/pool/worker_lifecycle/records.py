"""What is known of a worker, and how that changes with what is seen of it. Pure.

starting ─▶ ready ⇄ busy ─▶ draining ─▶ stopped
    └──────────┴──────┴─────────┴────▶ failed
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit, urlunsplit

from msgspec import UNSET

from llorch.wire import protocol
from llorch.wire.engine_options import EngineOptions, files
from llorch.wire.pools import Worker, WorkerReport, WorkerState
from llorch.wire.workers import Ready, WorkerHealth
from roles.pool.worker_lifecycle.preflight import Commitment, Plan

LIVE: frozenset[WorkerState] = frozenset({"starting", "ready", "busy", "draining"})
MAX_MISSES = 3
PROGRESS_STEP = 10.0
MAX_ERROR_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Record:
    """A worker. Times are Unix milliseconds; 0 is not yet.

    `was_ready` tells a worker that was lost from one that never came; `condemned` is why it is being killed. `adopted`
    tells that an earlier process of the pool started it; `left_alone`, that its process may still run but cannot be
    told for sure to be it.
    """

    worker_id: str
    model_ref: str
    plan: Plan
    started_ms: int
    weights_bytes: int
    token: str = field(repr=False)
    status: WorkerState = "starting"
    uri: str = ""
    progress: float = 0.0
    slots: int = 0
    slots_busy: int = 0
    context_length: int = 0
    memory_bytes: int = 0
    ready_ms: int = 0
    load_ms: int = 0
    ended_ms: int = 0
    misses: int = 0
    pid: int | None = None
    exit_code: int | None = None
    error: str = ""
    error_code: str = ""
    condemned: tuple[str, str] | None = None
    adopted: bool = False
    left_alone: bool = False
    protocol: int = protocol.FIRST

    @property
    def live(self) -> bool:
        """Whether it holds memory."""
        return self.status in LIVE

    @property
    def refs(self) -> list[str]:
        """All that it has loaded."""
        return [self.model_ref, *files(self.plan.options)]

    @property
    def was_ready(self) -> bool:
        """Whether it has ever been ready."""
        return self.ready_ms > 0

    @property
    def held_bytes(self) -> Mapping[str, int]:
        """What it holds, or will hold, of each device that it is on."""
        shares = self.plan.shares
        if not shares:
            return {self.plan.device: self.memory_bytes}
        return {share.device: share.memory_bytes * self.memory_bytes // self.plan.memory_bytes for share in shares}

    def commitments(self, *, pending: bool) -> list[Commitment]:
        """Return the memory it holds or will hold."""
        return [Commitment(device, size, pending=pending) for device, size in self.held_bytes.items()]


def ready(record: Record, body: Ready, *, now_ms: int) -> Record:
    """It called back: its model is loaded."""
    return _ready(record, body, uri=body.uri, now_ms=now_ms)


def loaded(record: Record, health: WorkerHealth, *, uri: str, now_ms: int) -> Record:
    """It said, when asked, that its model is loaded; its callback may be on its way, or went to a pool that is gone."""
    return _ready(record, health, uri=uri, now_ms=now_ms)


def measured(record: Record, held_bytes: int) -> Record:
    """Its device's driver told what it holds there; 0 is that the driver does not tell."""
    return replace(record, memory_bytes=held_bytes) if record.live and held_bytes > 0 else record


def _ready(record: Record, facts: Ready | WorkerHealth, *, uri: str, now_ms: int) -> Record:
    # What is resident is not what a GPU holds, also where that is the host's RAM: a Mac's reads the mapped file itself.
    own = facts.memory_bytes if record.plan.backend == "cpu" else 0
    return replace(
        record,
        status="ready",
        uri=uri,
        progress=100.0,
        slots=facts.slots,
        context_length=facts.context_length,
        memory_bytes=max(own, 0) or record.memory_bytes,
        ready_ms=now_ms,
        load_ms=max(facts.load_ms, 0),
        protocol=facts.protocol,
    )


def misunderstood(record: Record) -> Record:
    """It has its model, and speaks another version than this pool: nobody could use it, and it has no job yet."""
    how = protocol.differs(record.protocol, whose="this pool")
    return condemned(
        record, "ENGINE_FAILED", f"it {how}: the program was replaced while the pool ran; restart the pool"
    )


def healthy(record: Record, health: WorkerHealth) -> Record:
    """It answered a health check."""
    if record.status == "starting":
        return replace(record, progress=max(record.progress, min(health.progress, 100.0)))
    status = record.status
    if status in {"ready", "busy"}:
        status = "busy" if health.slots_busy > 0 else "ready"
    return replace(record, status=status, slots_busy=health.slots_busy, misses=0)


def missed(record: Record) -> Record:
    """It did not answer a health check; after `MAX_MISSES` it is condemned."""
    misses = record.misses + 1
    if misses < MAX_MISSES:
        return replace(record, misses=misses)
    return condemned(replace(record, misses=misses), "WORKER_LOST", f"it did not answer {misses} health checks")


def condemned(record: Record, code: str, reason: str) -> Record:
    """It is going to be killed, and this is why; the first reason stays."""
    return record if record.condemned else replace(record, condemned=(code, reason))


def adopted(record: Record, pid: int) -> Record:
    """It was started by an earlier process of this pool, and still runs; one of another version takes no more jobs."""
    found = replace(record, pid=pid, adopted=True, misses=0)
    return replace(found, status="draining") if finishes(found) else found


def finishes(record: Record) -> bool:
    """Tell whether a worker that was taken over finishes its jobs, however long that takes, and then ends."""
    return record.was_ready and protocol.foreign(record.protocol)


def left_alone(record: Record, reason: str, *, now_ms: int) -> Record:
    """It may still run, but that process cannot be told for sure to be it."""
    return replace(
        record, status="failed", left_alone=True, error_code="WORKER_LOST", error=reason, slots_busy=0, ended_ms=now_ms
    )


def not_there(record: Record) -> Record:
    """The process that was left alone has ended."""
    return replace(record, left_alone=False)


def exited(record: Record, code: int | None, *, last_line: str, now_ms: int) -> Record:
    """Its process has ended; *code* is None when nobody could be told how."""
    ended = replace(record, exit_code=code, ended_ms=now_ms, slots_busy=0)
    if record.condemned:
        error_code, reason = record.condemned
        return replace(ended, status="failed", error_code=error_code, error=reason)
    if record.status == "draining" or (record.was_ready and code == 0):
        return replace(ended, status="stopped")
    if code is None:
        how = "exit status unknown: the pool that started it had ended before"
    else:
        how = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
    last = reason_of(last_line)
    return replace(
        ended,
        status="failed",
        error_code="WORKER_LOST" if record.was_ready else "ENGINE_FAILED",
        error=f"{last} ({how})" if last else how,
    )


def reason_of(line: str) -> str:
    """Return what a worker's last log line says: the words of a structured line, else the line itself."""
    try:
        found = json.loads(line)
    except ValueError:
        return line.strip()[:MAX_ERROR_CHARACTERS]
    if not isinstance(found, dict):
        return line.strip()[:MAX_ERROR_CHARACTERS]
    words = next((found[key] for key in ("message", "error", "reason", "event") if found.get(key)), "")
    return str(words)[:MAX_ERROR_CHARACTERS]


def end_reason(before: Record, after: Record) -> str:
    """Return why a worker ended, as one of a few words."""
    if after.status == "stopped":
        return "requested" if before.status == "draining" else "exited"
    if not before.was_ready:
        return "startup_timeout" if after.error_code == "STARTUP_TIMEOUT" else "start_failed"
    return "unhealthy" if before.condemned else "crashed"


def lasting(before: Record, after: Record) -> bool:
    """Tell whether a change has to be known after a restart of the pool."""
    kept = ("status", "uri", "pid", "condemned", "memory_bytes")
    return any(getattr(before, name) != getattr(after, name) for name in kept)


def noteworthy(before: Record, after: Record) -> bool:
    """Tell whether the orchestrator should hear of a change at once, rather than with the next heartbeat."""
    if before.status != after.status or before.uri != after.uri or before.memory_bytes != after.memory_bytes:
        return True
    return before.progress // PROGRESS_STEP != after.progress // PROGRESS_STEP


def view(record: Record, *, host: str = "") -> Worker:
    """Return a worker as anybody may see it.

    Args:
        record: The worker.
        host: What replaces the host of its URI, which is the address that this machine uses.
    """
    plan = record.plan
    return Worker(
        worker_id=record.worker_id,
        model_ref=record.model_ref,
        status=record.status,
        backend=plan.backend,
        engine=plan.engine,
        device=plan.device,
        slots=record.slots or plan.slots,
        slots_busy=record.slots_busy,
        context_length=record.context_length or plan.ctx,
        memory_bytes=record.memory_bytes,
        started_ms=record.started_ms,
        uri=seen_from_outside(record.uri, host) if record.uri else UNSET,
        progress=record.progress,
        ready_ms=record.ready_ms or UNSET,
        load_ms=record.load_ms,
        exit_code=UNSET if record.exit_code is None else record.exit_code,
        error=record.error or UNSET,
        error_code=record.error_code or UNSET,
        pid=UNSET if record.pid is None else record.pid,
        adopted=record.adopted,
        protocol=record.protocol,
        shares=dict(record.held_bytes) if plan.shares else {},
        **{name: getattr(plan.options, name) for name in EngineOptions.__struct_fields__},
    )


def report(record: Record, *, host: str = "") -> WorkerReport:
    """Return a worker as the orchestrator is told of it: with its token."""
    seen = view(record, host=host)
    return WorkerReport(**{name: getattr(seen, name) for name in seen.__struct_fields__}, token=record.token)


def seen_from_outside(uri: str, host: str) -> str:
    """Return *uri* with its host replaced by *host*; unchanged where there is none."""
    if not host:
        return uri
    parts = urlsplit(uri)
    port = f":{parts.port}" if parts.port else ""
    shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return urlunsplit((parts.scheme, f"{shown}{port}", parts.path, "", ""))
