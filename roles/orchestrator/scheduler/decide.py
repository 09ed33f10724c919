"""From one snapshot to a list of decisions: the same snapshot, the same decisions. Pure.

The rules, for each model that jobs wait for:
  1. A ready worker has a free slot: dispatch, least loaded first, then most free memory.
  2. A worker has the model, busy or starting: wait for it.
  3. No pool is online: wait for one.
  4. A pool may be asked to start a worker: the one that has the file, then most free memory.
  5. Every pool has refused for good: reject the jobs with the most telling refusal.
  6. Else wait until a pool may be asked again.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from llorch.job import JobId
from roles.orchestrator.scheduler.snapshot import ModelView, PoolView, Snapshot

WaitReason = Literal["slot", "loading", "pool", "backoff"]


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Give a job to a worker."""

    job_id: JobId
    worker_id: str


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Ask a pool for a worker; it chooses the device."""

    pool_id: str
    model_ref: str


@dataclass(frozen=True, slots=True)
class Reject:
    """End every job that waits for this model: no pool can ever run it."""

    model_ref: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done for a model now, and this is why."""

    model_ref: str
    reason: WaitReason
    text: str


Decision = Dispatch | StartWorker | Reject | Wait


def decide(snapshot: Snapshot) -> list[Decision]:
    """Return what to do now. O(m + j log w) for m models, j dispatched jobs, w workers in the snapshot."""
    return [decision for model in snapshot.models for decision in _for_model(model, snapshot.now_ms)]


def _for_model(model: ModelView, now_ms: int) -> Iterator[Decision]:
    if model.workers:
        yield from _dispatches(model)
        return
    if model.busy_workers or model.starting:
        yield _patience(model)
        return
    if not model.pools:
        yield Wait(model.model_ref, "pool", "no pool is online; start one with: llorch serve pool")
        return
    askable = [pool for pool in model.pools if _may_ask(pool, now_ms)]
    if askable:
        best = min(askable, key=lambda pool: (not pool.has_file, -pool.memory_free_bytes, pool.pool_id))
        yield StartWorker(best.pool_id, model.model_ref)
        return
    refusals = [pool.refusal for pool in model.pools if pool.refusal is not None]
    telling = min(refusals, key=lambda refusal: (refusal.code == "MODEL_NOT_FOUND", refusal.message))
    if all(refusal.permanent for refusal in refusals):
        yield Reject(model.model_ref, telling.code, telling.message)
    else:
        waiting = next(refusal for refusal in refusals if not refusal.permanent)
        yield Wait(model.model_ref, "backoff", waiting.message)


def _dispatches(model: ModelView) -> Iterator[Decision]:
    """Rule 1: each job to the worker that has then the fewest leases a slot."""
    load = [
        (worker.leases / (worker.leases + worker.free_slots), -worker.memory_free_bytes, worker.worker_id, worker)
        for worker in model.workers
    ]
    heapq.heapify(load)
    free = {worker.worker_id: worker.free_slots for worker in model.workers}
    for job_id in model.heads:
        if not load:
            return
        _, memory, worker_id, worker = heapq.heappop(load)
        yield Dispatch(job_id, worker_id)
        free[worker_id] -= 1
        slots = worker.leases + worker.free_slots
        if free[worker_id]:
            heapq.heappush(load, ((slots - free[worker_id]) / slots, memory, worker_id, worker))


def _patience(model: ModelView) -> Wait:
    if model.busy_workers:
        return Wait(model.model_ref, "slot", "every slot of the workers that have the model is busy")
    return Wait(model.model_ref, "loading", "a worker is loading the model")


def _may_ask(pool: PoolView, now_ms: int) -> bool:
    if pool.refusal is None:
        return True
    return not pool.refusal.permanent and pool.refusal.retry_at_ms <= now_ms
