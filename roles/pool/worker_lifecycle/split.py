"""How a model that fits no device alone is laid over several of one host. Pure.

llama.cpp (`split_mode layer`) lays whole layers in order on the devices in order, in the proportion that it is told,
and the output behind the last layer; the embeddings of the tokens stay with the host. With as many parts as there are
layers and the output, its rounding cannot differ from what is counted here. Each device has compute buffers of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from roles.pool.model_cache.gguf import Metadata
from roles.pool.worker_lifecycle.estimate import Estimate


@dataclass(frozen=True, slots=True)
class Share:
    """What one device gets: so many of the parts, and what they take there."""

    device: str
    layers: int
    memory_bytes: int


def split(metadata: Metadata, needed: Estimate, free_bytes: Mapping[str, int]) -> tuple[Share, ...]:
    """Lay a model over as few devices as it takes, those with most memory; return nothing where all are too few.

    Args:
        metadata: What the model's file says.
        needed: What a worker takes on one device.
        free_bytes: What the devices in question can give, in the engine's order.
    """
    if metadata.block_count == 0 or metadata.parameters == 0:
        return ()
    output = metadata.vocab_size * metadata.embedding_length * needed.weights_bytes // metadata.parameters
    output = min(output, needed.weights_bytes)
    layer_bytes = _with_a_tenth(-(-(needed.weights_bytes - output + needed.kv_bytes) // metadata.block_count))
    sizes = _Sizes(metadata.block_count, layer_bytes, _with_a_tenth(output), _with_a_tenth(needed.compute_bytes))
    by_room = sorted(free_bytes, key=lambda device: -free_bytes[device])
    for count in range(2, len(by_room) + 1):
        chosen = [device for device in free_bytes if device in by_room[:count]]
        if shares := _over(chosen, [free_bytes[device] for device in chosen], sizes):
            return shares
    return ()


@dataclass(frozen=True, slots=True)
class _Sizes:
    layers: int
    layer_bytes: int
    output_bytes: int
    compute_bytes: int


def _over(devices: Sequence[str], free_bytes: Sequence[int], sizes: _Sizes) -> tuple[Share, ...]:
    """Share the layers out by the room there is, so that no device is filled to the brim before the others are."""
    room = [free - sizes.compute_bytes for free in free_bytes]
    room[-1] -= sizes.output_bytes
    most = [max(0, size // sizes.layer_bytes) for size in room]
    if sum(most) < sizes.layers or 0 in most[:-1] or room[-1] < 0:
        return ()
    given = [sizes.layers * layers // sum(most) for layers in most]
    while sum(given) < sizes.layers:
        spare = [has - gets for has, gets in zip(most, given, strict=True)]
        given[spare.index(max(spare))] += 1
    taken = [layers * sizes.layer_bytes + sizes.compute_bytes for layers in given]
    given[-1] += 1
    taken[-1] += sizes.output_bytes
    return tuple(Share(*share) for share in zip(devices, given, taken, strict=True))


def _with_a_tenth(size: int) -> int:
    return size * 11 // 10
