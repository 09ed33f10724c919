"""What is told of a file's tensors, from their list alone."""

from __future__ import annotations

import io
import struct

import pytest

from llorch.errors import ModelIncompatible, ModelInvalid
from roles.pool.model_cache.header import Header
from roles.pool.model_cache.tensors import measure

F32, Q8_0, UNKNOWN = 0, 8, 9_999


def listed(*tensors: tuple[list[int], int, int], size: int = 10_000) -> tuple[Header, int]:
    data = b"".join(
        struct.pack("<Q", 1)
        + b"t"
        + struct.pack("<I", len(dimensions))
        + struct.pack(f"<{len(dimensions)}Q", *dimensions)
        + struct.pack("<IQ", kind, offset)
        for dimensions, kind, offset in tensors
    )
    return Header(io.BytesIO(data.ljust(size, b"\0")), size), len(tensors)


def test_numbers_and_bytes_are_counted_by_type() -> None:
    header, count = listed(([32, 3], F32, 0), ([64], Q8_0, 384))

    assert measure(header, count, alignment=32) == (96 + 64, 384 + 68)


def test_a_file_that_ends_inside_a_tensor_is_truncated() -> None:
    header, count = listed(([1024], F32, 0), size=2_000)

    with pytest.raises(ModelInvalid, match="truncated"):
        measure(header, count, alignment=32)


@pytest.mark.parametrize("tensor", [([33], Q8_0, 0), ([32], F32, 7), ([], F32, 0)])
def test_a_tensor_that_cannot_be_is_refused(tensor: tuple[list[int], int, int]) -> None:
    header, count = listed(tensor)

    with pytest.raises(ModelInvalid):
        measure(header, count, alignment=32)


def test_an_unknown_type_is_told() -> None:
    header, count = listed(([32], UNKNOWN, 0))

    with pytest.raises(ModelIncompatible, match="9999"):
        measure(header, count, alignment=32)
