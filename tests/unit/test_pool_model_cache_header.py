"""Numbers and strings in a row, read from a file that may lie about its lengths."""

from __future__ import annotations

import io
import struct

import pytest

from llorch.errors import ModelInvalid
from roles.pool.model_cache.header import MAX_HEADER_BYTES, Header, refuse


class Endless(io.RawIOBase):
    """A file of zeros that counts what was read of it."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        self.given += size
        return bytes(size)


def test_only_as_much_is_read_as_is_asked_for() -> None:
    file = Endless()
    header = Header(file, 2**40)  # type: ignore[arg-type]  # it reads, which is all that is asked

    assert header.u32() == header.u64() == 0
    assert file.given == 2**20


def test_a_header_without_end_is_refused_before_it_fills_the_memory() -> None:
    file = Endless()
    header = Header(file, 2**40)  # type: ignore[arg-type]  # the same

    with pytest.raises(ModelInvalid, match="longer than"):
        header.skip_strings(2**30)
    assert file.given <= 2 * MAX_HEADER_BYTES


def test_strings_are_skipped_by_their_lengths_alone() -> None:
    data = b"".join(struct.pack("<Q", length) + b"x" * length for length in (3, 0, 7)) + struct.pack("<I", 42)
    header = Header(io.BytesIO(data), len(data))

    header.skip_strings(3)

    assert header.u32() == 42


def test_a_refusal_says_what_is_wrong() -> None:
    with pytest.raises(ModelInvalid, match="not a usable GGUF model file: it is green"):
        refuse("it is green")
