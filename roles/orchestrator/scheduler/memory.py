"""How much memory a worker of a model takes, from what a pool says of the file. Pure; the pool's preflight decides."""

from __future__ import annotations

from llorch.policy import ModelPolicy
from llorch.wire.pools import Model


def need(model: Model, policy: ModelPolicy) -> int:
    """Return the bytes that a worker takes with the slots and the context that are asked for; 0 if the pool is silent.

    The pool tells what its own defaults take; other slots or another context change the KV cache alone, and the tenth
    that is added to it.
    """
    if not model.memory_bytes:
        return 0
    slots = policy.slots or model.memory_slots
    ctx = min(policy.ctx, model.context_length or policy.ctx) if policy.ctx else model.memory_ctx
    tokens = slots * ctx - model.memory_slots * model.memory_ctx
    return max(1, model.memory_bytes + tokens * model.kv_cell_bytes * 11 // 10)
