"""Text that readers have and the database has not yet, in a file beside it: what a killed process leaves.

Strategy: the database gets text in batches, because each of its commits flushes the disk. So that no reader has seen a
token that a killed orchestrator could forget, each token event is first appended here, without a flush: what the
kernel has been given outlives the process, though not a power cut. The file is short: every now and then a new one is
begun, and the old one goes when the database has all that is in it. The next process brings what it finds into the
database before it does anything else.

A record is its length and its CRC-32, four bytes each, little-endian, then MessagePack. A record that was cut
off ends the file.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import time
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec

from llorch import log
from llorch.job import JobId
from roles.orchestrator.state import output
from roles.orchestrator.state.rows import Chunk
from roles.orchestrator.state.writer import Writer, together

MAX_BYTES = 4 * 1024 * 1024
MAX_AGE_S = 60.0
_HEAD = struct.Struct("<II")
_log = log.get("orchestrator.text_log")


class Record(msgspec.Struct, array_like=True, frozen=True):
    """Token events of a job that readers got in one piece."""

    seq: int
    job_id: JobId
    chunk: Chunk


class TextLog:
    """The files beside one database; only the process that holds its lock may use them."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._number = 0
        self._file = -1
        self._begun_s = 0.0
        self._size = 0
        self._failing = False
        self.found: frozenset[int] = frozenset()
        """Sequence numbers of the jobs to which `restore` has given text."""

    def add(self, seq: int, job_id: JobId, chunk: Chunk) -> None:
        """Append token events. A disk that takes none costs the protection, not the text: that is told once."""
        body = msgspec.msgpack.encode(Record(seq, job_id, chunk))
        data = _HEAD.pack(len(body), zlib.crc32(body)) + body
        try:
            if self._file < 0:
                self._begin()
            written = os.write(self._file, data)
            if written < len(data):
                os.truncate(self._file, self._size)
                raise OSError("no space left for all of it")
        except OSError as error:
            if not self._failing:
                self._failing = True
                _log.error("text_cannot_be_kept", reason=error.strerror or str(error))
            return
        self._size += len(data)
        self._failing = False

    @property
    def long(self) -> bool:
        """Whether it is time for a new file."""
        return self._size >= MAX_BYTES or (self._size > 0 and time.monotonic() - self._begun_s >= MAX_AGE_S)

    def rotate(self) -> list[Path]:
        """Begin a new file with the next text; return the old ones, for `erase` once the database has their text."""
        if self._file >= 0:
            os.close(self._file)
            self._file, self._size = -1, 0
        return self._files()

    async def restore(self, writer: Writer) -> None:
        """Bring what an earlier process left into the database, whose `writer` does not run yet, and erase it.

        Raises:
            sqlite3.DatabaseError: The database cannot be written; what was left stays.
            OSError: What was left cannot be read.
        """
        left = self._files()
        if left:
            [self.found] = await writer.read(partial(together, operations=[partial(_merge, files=left)]))
            erase(left)

    def _begin(self) -> None:
        self._number += 1
        path = self._database.with_name(f"{self._database.name}-text-{self._number}")
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._begun_s = time.monotonic()

    def _files(self) -> list[Path]:
        """Return all files that there are, oldest first."""
        found = self._database.parent.glob(f"{self._database.name}-text-*")
        numbered = [(int(number), path) for path in found if (number := path.name.rpartition("-")[2]).isdecimal()]
        return [path for _, path in sorted(numbered)]


def erase(files: list[Path]) -> None:
    """Overwrite files with zeros and delete them, as the database does with what it erases; what fails, stays."""
    try:
        for path in files:
            with path.open("r+b", buffering=0) as file:
                file.write(bytes(os.fstat(file.fileno()).st_size))
            path.unlink()
    except OSError as error:
        _log.warning("text_log_stays", reason=error.strerror or str(error))


def records(data: bytes) -> Iterator[Record]:
    """Yield the records of a file up to the first that is not whole. Pure."""
    start = 0
    while len(data) - start >= _HEAD.size:
        length, crc = _HEAD.unpack_from(data, start)
        start += _HEAD.size
        body = data[start : start + length]
        start += length
        if len(body) < length or zlib.crc32(body) != crc:
            return
        try:
            yield msgspec.msgpack.decode(body, type=Record)
        except msgspec.DecodeError:
            return


def _merge(db: sqlite3.Connection, *, files: list[Path]) -> frozenset[int]:
    """Add to each job's output what directly follows what is there."""
    ends: dict[int, int | None] = {}
    given: set[int] = set()
    for path in files:
        for record in records(path.read_bytes()):
            seq, chunk = record.seq, record.chunk
            if seq not in ends:
                ends[seq] = output.end(db, seq, record.job_id)
            if chunk.first == ends[seq]:
                output.add(db, seq, chunk)
                ends[seq] = chunk.first + chunk.count
                given.add(seq)
    return frozenset(given)
