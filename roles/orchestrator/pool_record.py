"""One pool, as its orchestrator knows it. Types and what people are shown of them; no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

from llorch.client import Client
from llorch.wire.models import Download
from llorch.wire.pools import Device, Model, Pool, PoolState, Worker, WorkerReport
from llorch.wire.protocol import FIRST, differs, foreign, remedy
from roles.orchestrator.scheduler.facts import Facts

ORCHESTRATOR = "the orchestrator"


@dataclass(slots=True)
class PoolRecord:
    """One pool and what it said last; `ending` is that it shuts down."""

    pool_id: str
    endpoint: str
    version: str
    last_seen_ms: int
    client: Client
    instance: str = ""
    seq: int = -1
    state: PoolState = "online"
    ending: bool = False
    protocol: int = FIRST
    devices: list[Device] = field(default_factory=list)
    models: dict[str, Model] = field(default_factory=dict)
    served: list[str] = field(default_factory=list)
    """Those of its models that are a server's."""
    workers: dict[str, WorkerReport] = field(default_factory=dict)
    downloads: list[Download] = field(default_factory=list)

    @property
    def trouble(self) -> str:
        """Why nobody here can use its workers; empty where that is not so."""
        return f"it {differs(self.protocol, whose=ORCHESTRATOR)}" if foreign(self.protocol) else ""

    @property
    def remedy(self) -> str:
        """What to do about that."""
        return remedy(self.protocol, pool_id=self.pool_id, whose=ORCHESTRATOR) if self.trouble else ""

    @property
    def servable(self) -> list[Model]:
        """The files that are a model by themselves."""
        return [model for model in self.models.values() if model.kind == "model"]

    def facts(self) -> Facts:
        """Return what the scheduler is told of it."""
        return Facts(
            devices=self.devices,
            models=list(self.models.values()),
            workers=list(self.workers.values()),
            downloads=self.downloads,
        )


def public(pool: PoolRecord) -> Pool:
    """Return a pool as people see it: without the workers' tokens."""
    names = Worker.__struct_fields__
    return Pool(
        pool_id=pool.pool_id,
        endpoint=pool.endpoint,
        version=pool.version,
        status=pool.state,
        last_seen_ms=pool.last_seen_ms,
        devices=pool.devices,
        models=list(pool.models.values()),
        workers=[Worker(**{name: getattr(worker, name) for name in names}) for worker in pool.workers.values()],
        downloads=pool.downloads,
        trouble=pool.trouble,
        remedy=pool.remedy,
    )
