"""How much memory a worker of a model takes, from what a pool says of the files. Pure; the pool's preflight decides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llorch.policy import ModelPolicy
from llorch.wire.engine_options import KV_BLOCKS, PLAIN, files
from llorch.wire.pools import Model
from roles.orchestrator.scheduler.identity import Means


def need(model: Model, policy: ModelPolicy, others: Sequence[Model] = (), *, means: Means) -> int:
    """Return the bytes that a worker takes with the options that are asked for; 0 if the pool is silent.

    The pool tells what its own defaults take; other slots, another context or another type of numbers change the KV
    cache alone, and the tenth that is added to it. Files that it does not have yet are not counted.

    Args:
        model: What the worker serves.
        policy: What is asked for.
        others: All files of that pool.
        means: Tells whether one of them is what is asked for by another name.
    """
    if not model.memory_bytes:
        return 0
    total = _alone(model, policy)
    for ref in files(policy):
        extra = _find(ref, others, means=means)
        if extra is not None and ref == policy.draft:
            total += _alone(extra, policy)
        elif extra is not None:
            total += extra.weights_bytes * 11 // 10
    return max(1, total)


def _alone(model: Model, policy: ModelPolicy) -> int:
    slots = policy.slots or model.memory_slots
    ctx = min(policy.ctx, model.context_length or policy.ctx) if policy.ctx else model.memory_ctx
    block, block_bytes = KV_BLOCKS[policy.kv_type]
    plain, plain_bytes = KV_BLOCKS[PLAIN.kv_type]
    cell = model.kv_cell_bytes * block_bytes * plain // (block * plain_bytes)
    cache = slots * ctx * cell - model.memory_slots * model.memory_ctx * model.kv_cell_bytes
    return model.memory_bytes + cache * 11 // 10


def _find(name: str, models: Iterable[Model], *, means: Means) -> Model | None:
    return next((model for model in models if means(name, model.model_ref)), None)
