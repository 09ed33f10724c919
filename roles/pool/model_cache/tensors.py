"""The tensors of a GGUF file: how many numbers they hold, and whether the file holds all of them. Reads their list."""

from __future__ import annotations

from llorch.errors import ModelIncompatible, ModelInvalid
from roles.pool.model_cache.header import Header, refuse
from roles.pool.model_cache.quantisation import BLOCKS


def measure(header: Header, count: int, *, alignment: int) -> tuple[int, int]:
    """Return the number of parameters and of bytes of all tensors, which must end inside the file.

    Raises:
        ModelInvalid: They do not, or one does not begin where it must.
        ModelIncompatible: One has a type that is not known here.
    """
    parameters = weights = end = 0
    for _ in range(count):
        header.skip(header.u64())
        dimensions = header.u32()
        if not 1 <= dimensions <= 4:
            refuse(f"a tensor has {dimensions} dimensions")
        row, *more = [header.u64() for _ in range(dimensions)]
        kind, offset = header.u32(), header.u64()
        if kind not in BLOCKS:
            raise ModelIncompatible(f"the model file holds tensors of the type {kind}, which is not known here")
        block, block_bytes = BLOCKS[kind]
        rows = 1
        for dimension in more:
            rows *= dimension
        if row % block or offset % alignment:
            refuse("a tensor does not begin or end where it must")
        length = row // block * block_bytes * rows
        parameters += row * rows
        weights += length
        end = max(end, offset + length)
    start = -(-header.position // alignment) * alignment
    if count and start + end > header.size:
        raise ModelInvalid(
            f"the model file is truncated: it has {header.size} bytes, its tensors need {start + end}; "
            "download or copy it again"
        )
    return parameters, weights
