"""What a scheduling decision is made from: one frozen picture of demand and supply. Types only."""

from __future__ import annotations

from dataclasses import dataclass, field

from llorch.job import JobId


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """A ready worker with at least one free slot."""

    worker_id: str
    pool_id: str
    free_slots: int
    leases: int
    memory_free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a pool did not start a worker for a model, and from when it may be asked again."""

    code: str
    message: str
    retry_at_ms: int
    permanent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """An online pool, seen by one model."""

    pool_id: str
    has_file: bool
    memory_free_bytes: int
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """One model that jobs wait for.

    `heads` are the first jobs in order, at most as many as `workers` have free slots. `busy_workers` have the model
    and no free slot; `starting` are on their way.
    """

    model_ref: str
    waiting: int
    heads: tuple[JobId, ...] = ()
    workers: tuple[WorkerView, ...] = ()
    busy_workers: int = 0
    starting: int = 0
    pools: tuple[PoolView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything a decision depends on; models in the order in which they are to be served."""

    now_ms: int
    models: tuple[ModelView, ...] = field(default=())
