"""How much memory a worker will take, from what a model's file says. Pure.

Counted are the weights once, the KV cache, the buffers that the engine computes in, and a tenth for the rest. Weights
are mapped from their file: the system calls such pages free, and they are not; where an engine keeps another layout of
them beside it, the mapped ones are not used any more and the system may take them back, so they count once.

The formulas are those of llama.cpp (src/llama-kv-cache.cpp, src/llama-context.cpp), as it computes on a CPU with flash
attention; the factors of the compute buffers were found by measuring, see `test_pool_worker_lifecycle_estimate.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from roles.pool.model_cache.gguf import Metadata

KV_BYTES = 2
"""Bytes of one number in the KV cache (f16)."""
CELLS = 256
"""The KV cache of a slot is a multiple of this."""
BATCH = 128
"""Tokens that are computed at once, unless it is said."""
NUMBER_BYTES = 4
STREAMS_WIDE, STREAMS_INNER = 5, 3
"""How many vectors of the model's width, and of its feed-forward width, are held for each token of a batch."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes, by what takes them."""

    weights_bytes: int
    kv_bytes: int
    compute_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it and a tenth more."""
        return (self.weights_bytes + self.kv_bytes + self.compute_bytes) * 11 // 10


def estimate(metadata: Metadata, *, slots: int, ctx: int, batch: int = BATCH) -> Estimate:
    """Return the memory that a worker will take.

    Args:
        metadata: What the model's file says.
        slots: Jobs at once.
        ctx: Context of one slot in tokens.
        batch: Tokens computed at once.
    """
    return Estimate(
        metadata.weights_bytes,
        kv_bytes(metadata, slots=slots, ctx=ctx, batch=batch),
        compute_bytes(metadata, slots=slots, ctx=ctx, batch=batch),
    )


def kv_bytes(metadata: Metadata, *, slots: int, ctx: int, batch: int) -> int:
    """Return the KV cache: one key and one value for each layer, key/value head and cell of each slot.

    A layer with a sliding window looks back no further, and so has cells for the window and the batch behind it.
    """
    all_cells = _cells(ctx)
    few_cells = min(all_cells, _cells(metadata.sliding_window + batch))
    sliding = metadata.sliding or (False,) * len(metadata.kv_heads)
    cells = sum(
        heads * (few_cells if short else all_cells) for heads, short in zip(metadata.kv_heads, sliding, strict=False)
    )
    return cells * slots * (metadata.key_length + metadata.value_length) * KV_BYTES


def compute_bytes(metadata: Metadata, *, slots: int, ctx: int, batch: int) -> int:
    """Return the buffers for one batch: its vectors, the mask of what each token may look at, and the scores."""
    inner = metadata.feed_forward_length or 4 * metadata.embedding_length
    vectors = batch * NUMBER_BYTES * (STREAMS_WIDE * metadata.embedding_length + STREAMS_INNER * inner)
    mask = _cells(ctx) * batch * KV_BYTES
    scores = slots * metadata.vocab_size * NUMBER_BYTES
    return vectors + mask + scores


def _cells(ctx: int) -> int:
    return -(-ctx // CELLS) * CELLS
