"""The header of a GGUF file as numbers and strings in a row. Reads one binary file; knows nothing of models.

Strategy: a file may be hostile. Nothing is allocated from a length found in it; every length is checked against the
size of the file first, and a header is at most `MAX_HEADER_BYTES`. Strings are skipped by their length alone, because
a vocabulary has hundreds of thousands of them. The file is read, not mapped: a mapped file that somebody shortens
kills the process.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, NoReturn

from llorch.errors import ModelInvalid

MAX_HEADER_BYTES = 64 * 1024 * 1024
_CHUNK = 1024 * 1024
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class Header:
    """The beginning of a file, read piece by piece as far as it is asked for, and a position in it."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self.size = size
        self.data = bytearray()
        self.position = 0

    def fill(self, end: int) -> None:
        """Have at least *end* bytes, or raise."""
        if end > self.size:
            raise ModelInvalid(f"the model file is truncated: it ends after {self.size} bytes, inside its header")
        if end > MAX_HEADER_BYTES:
            refuse(f"its header is longer than {MAX_HEADER_BYTES} bytes")
        while len(self.data) < end:
            piece = self._file.read(min(max(_CHUNK, len(self.data)), self.size - len(self.data)))
            if not piece:
                raise ModelInvalid("the model file is truncated: it became shorter while it was read")
            self.data += piece

    def number(self, form: struct.Struct) -> int | float:
        """Read one number."""
        end = self.position + form.size
        if end > len(self.data):
            self.fill(end)
        (value,) = form.unpack_from(self.data, self.position)
        self.position = end
        found: int | float = value
        return found

    def u32(self) -> int:
        """Read an unsigned 32-bit number."""
        return int(self.number(_U32))

    def u64(self) -> int:
        """Read an unsigned 64-bit number."""
        return int(self.number(_U64))

    def text(self, limit: int) -> bytes:
        """Read a string of at most *limit* bytes."""
        length = self.u64()
        if length > limit:
            refuse(f"a text of {length} bytes stands where at most {limit} are allowed")
        end = self.position + length
        self.fill(end)
        found = bytes(self.data[self.position : end])
        self.position = end
        return found

    def skip(self, length: int) -> None:
        """Go past *length* bytes."""
        self.fill(self.position + length)
        self.position += length

    def skip_strings(self, count: int) -> None:
        """Go past *count* strings; the loop is tight because there can be a million of them."""
        self._fits(count, 8)
        data, position, left = self.data, self.position, count
        length_at = _U64.unpack_from
        while left:
            try:
                for left in range(left, 0, -1):  # noqa: B007, B020 - where it stops is where it goes on
                    position += 8 + length_at(data, position)[0]
                left = 0
            except (struct.error, OverflowError):  # past what has been read so far
                self.fill(position + 8)
        self.fill(position)
        self.position = position

    def skip_numbers(self, count: int, width: int) -> None:
        """Go past *count* numbers of *width* bytes."""
        self._fits(count, width)
        self.skip(count * width)

    def _fits(self, count: int, width: int) -> None:
        if count > (self.size - self.position) // width:
            raise ModelInvalid(f"the model file is truncated: it has no room for an array of {count} elements")


def refuse(problem: str) -> NoReturn:
    """Raise `ModelInvalid`, saying what is wrong with the file."""
    raise ModelInvalid(f"this is not a usable GGUF model file: {problem}")
