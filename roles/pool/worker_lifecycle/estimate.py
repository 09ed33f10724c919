"""How much memory a worker will take, from what a model's file says. Pure.

Counted are the weights once, the KV cache, the buffers that the engine computes in, and a tenth for the rest. Weights
are mapped from their file: the system calls such pages free, and they are not; where an engine keeps another layout of
them beside it, the mapped ones are not used any more and the system may take them back, so they count once.

For torch and ctransformers, what the interpreter and the library take is counted too; torch's weights are copied.

The formulas for GGUF are those of llama.cpp (src/llama-kv-cache.cpp, src/llama-context.cpp), as it computes on a CPU
with flash attention; the factors of the compute buffers were found by measuring, see
`test_pool_worker_lifecycle_estimate.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from llorch.abilities import LAST, batch_of, pooled
from llorch.wire.engine_options import KV_BLOCKS, KvType
from llorch.wire.pools import Engine
from roles.pool.model_cache.gguf import Metadata
from roles.pool.worker_lifecycle.extras import NO_EXTRAS, Extras

MASK_BYTES = 2
"""Bytes of one entry of the mask (f16)."""
CELLS = 256
"""The KV cache of a slot is a multiple of this."""
BATCH = 128
"""Tokens that are computed at once, unless it is said."""
NUMBER_BYTES = 4
STREAMS_WIDE, STREAMS_INNER = 5, 3
"""How many vectors of the model's width, and of its feed-forward width, are held for each token of a batch."""
ENCODER_WIDE, ENCODER_INNER = 1, 3
"""The same for encoders, whose feed-forward part has a gate; that of `BERT` has none, and so one less."""
BERT = "bert"

PICTURE_BATCH = 512
"""The least that is computed at once where pictures are read; as the engine process has it."""
PATCH_STREAMS = 4
"""How many vectors of its encoder's width are held for each patch of an image, beside one of its inner width."""
TORCH_RUNTIME_BYTES = 230 * 1024 * 1024
"""What a process with torch takes before it has a model, as measured on a CPU."""
TORCH_CELLS = 64
CTRANSFORMERS_RUNTIME_BYTES = 58 * 1024 * 1024
"""What a process with ctransformers takes before it has a model."""
TORCH_NUMBER_BYTES = 2


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes, by what takes them."""

    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    runtime_bytes: int = 0

    def __add__(self, other: Estimate) -> Estimate:
        """Return what both take together."""
        return Estimate(
            self.weights_bytes + other.weights_bytes,
            self.kv_bytes + other.kv_bytes,
            self.compute_bytes + other.compute_bytes,
            self.runtime_bytes + other.runtime_bytes,
        )

    @property
    def total_bytes(self) -> int:
        """All of it and a tenth more."""
        return (self.weights_bytes + self.kv_bytes + self.compute_bytes + self.runtime_bytes) * 11 // 10


def estimate(
    metadata: Metadata,
    *,
    slots: int,
    ctx: int,
    batch: int = BATCH,
    extras: Extras = NO_EXTRAS,
    engine: Engine = "llamacpp",
) -> Estimate:
    """Return the memory that a worker will take.

    Args:
        metadata: What the model's file says.
        slots: Jobs at once.
        ctx: Context of one slot in tokens.
        batch: Tokens computed at once.
        extras: What it has beside the model.
        engine: What computes; a folder of safetensors is always torch's.
    """
    if metadata.form == "safetensors":
        return _of_torch(metadata, slots=slots, ctx=ctx, batch=batch)
    if engine == "ctransformers":
        return _of_ctransformers(metadata, ctx=ctx, batch=batch)
    kv_type = extras.options.kv_type
    batch = max(batch, PICTURE_BATCH) if extras.projector is not None else batch
    pooling = pooled(metadata.pooling, extras.options)
    read = batch_of(pooling, ctx=ctx, batch=batch)
    found = _model(metadata, slots=slots, ctx=ctx, batch=read, kv_type=kv_type)
    if pooling not in {0, LAST} and not metadata.is_encoder:
        found += Estimate(0, 0, _mask(ctx, slots - 1, read))
    if extras.draft is not None:
        found += _model(extras.draft.metadata, slots=slots, ctx=ctx, batch=batch, kv_type=kv_type)
    for adapter in extras.lora:
        found += Estimate(adapter.metadata.weights_bytes, 0, 0)
    if extras.projector is not None:
        found += Estimate(extras.projector.metadata.weights_bytes, 0, projecting_bytes(extras.projector.metadata))
    return found


def _model(metadata: Metadata, *, slots: int, ctx: int, batch: int, kv_type: KvType) -> Estimate:
    return Estimate(
        metadata.weights_bytes,
        kv_bytes(metadata, slots=slots, ctx=ctx, batch=batch, kv_type=kv_type),
        compute_bytes(metadata, slots=slots, ctx=ctx, batch=batch),
    )


def kv_bytes(metadata: Metadata, *, slots: int, ctx: int, batch: int, kv_type: KvType = "f16") -> int:
    """Return the KV cache: one key and one value for each layer, key/value head and cell of each slot.

    A layer with a sliding window looks back no further, and so has cells for the window and the batch behind it. An
    encoder has none.
    """
    if metadata.is_encoder:
        return 0
    all_cells = _cells(ctx)
    few_cells = min(all_cells, _cells(metadata.sliding_window + batch))
    sliding = metadata.sliding or (False,) * len(metadata.kv_heads)
    cells = sum(
        heads * (few_cells if short else all_cells) for heads, short in zip(metadata.kv_heads, sliding, strict=False)
    )
    block, block_bytes = KV_BLOCKS[kv_type]
    return cells * slots * (metadata.key_length + metadata.value_length) * block_bytes // block


def compute_bytes(metadata: Metadata, *, slots: int, ctx: int, batch: int) -> int:
    """Return the buffers for one batch: its vectors, the mask of what each token may look at, and the scores."""
    inner = metadata.feed_forward_length or 4 * metadata.embedding_length
    wide, inner_streams = STREAMS_WIDE, STREAMS_INNER
    if metadata.is_encoder:
        wide, inner_streams = ENCODER_WIDE, ENCODER_INNER - (metadata.architecture == BERT)
    vectors = batch * NUMBER_BYTES * (wide * metadata.embedding_length + inner_streams * inner)
    scores = slots * metadata.vocab_size * NUMBER_BYTES
    return vectors + _mask(ctx, 1, batch) + scores


def projecting_bytes(projector: Metadata) -> int:
    """Return the buffers for one image: the vectors of its patches."""
    return (
        projector.patches * NUMBER_BYTES * (PATCH_STREAMS * projector.embedding_length + projector.feed_forward_length)
    )


def _of_torch(metadata: Metadata, *, slots: int, ctx: int, batch: int) -> Estimate:
    """Return what the engine torch takes; see `torch_model.py` of the worker's engines."""
    cells = (ctx // TORCH_CELLS + 1) * TORCH_CELLS
    inner = metadata.feed_forward_length or 4 * metadata.embedding_length
    vectors = batch * TORCH_NUMBER_BYTES * (STREAMS_WIDE * metadata.embedding_length + STREAMS_INNER * inner)
    looks = batch * cells * metadata.head_count
    scores = slots * metadata.vocab_size * NUMBER_BYTES
    return Estimate(
        metadata.weights_bytes,
        cells * slots * metadata.kv_cell_bytes,
        vectors + looks + scores,
        TORCH_RUNTIME_BYTES,
    )


def _of_ctransformers(metadata: Metadata, *, ctx: int, batch: int) -> Estimate:
    """Return what the engine ctransformers takes; see `ctransformers_model.py` of the worker's engines.

    Only of a llama is the KV cache as large as it is told.
    """
    cells = ctx if metadata.architecture == "llama" else metadata.context_length
    batch = min(batch, BATCH)
    inner = metadata.feed_forward_length or 4 * metadata.embedding_length
    vectors = batch * NUMBER_BYTES * (STREAMS_WIDE * metadata.embedding_length + STREAMS_INNER * inner)
    looks = batch * cells * metadata.head_count * NUMBER_BYTES
    scores = metadata.vocab_size * NUMBER_BYTES
    return Estimate(
        metadata.weights_bytes, cells * metadata.kv_cell_bytes, vectors + looks + scores, CTRANSFORMERS_RUNTIME_BYTES
    )


def _mask(ctx: int, slots: int, batch: int) -> int:
    """Return the mask of what each token of a batch may look at: all slots' cells, where they share one cache."""
    return _cells(ctx) * slots * batch * MASK_BYTES


def _cells(ctx: int) -> int:
    return -(-ctx // CELLS) * CELLS
