"""The files of batches on disk: received, read in stretches, written whole or not at all. Knows no database.

Everything here blocks, and is run in threads.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from llorch.errors import BusyError, DiskFull, StorageUnavailable
from llorch.flush import flush

UNFINISHED = ".part"
STRETCH_LINES = 500
STRETCH_BYTES = 4 * 1024 * 1024


class Line(NamedTuple):
    """A line of a file; `text` is cut off one byte behind the longest that is allowed."""

    number: int
    start: int
    end: int
    text: bytes


class Folder:
    """One folder (mode 0700) with files (mode 0600) that are named by their ids."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> None:
        """Make the folder if it is not there."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def create(self, file_id: str) -> BinaryIO:
        """Begin a file; it is none until it is kept.

        Raises:
            BusyError: The disk is full or read-only.
        """
        try:
            number = os.open(self._unfinished(file_id), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise trouble(error) from None
        return os.fdopen(number, "wb")

    def keep(self, file_id: str, file: BinaryIO) -> int:
        """Make a begun file one that survives a crash; return its size in bytes; raises as `create` does."""
        try:
            file.flush()
            flush(file.fileno())
            size = file.tell()
            file.close()
            self._unfinished(file_id).rename(self.file(file_id))
            number = os.open(self.path, os.O_RDONLY)
            try:
                flush(number)
            finally:
                os.close(number)
        except OSError as error:
            raise trouble(error) from None
        return size

    def drop(self, file_id: str, file: BinaryIO) -> None:
        """Forget a begun file."""
        with contextlib.suppress(OSError):  # what could not be written goes with it
            file.close()
        self._unfinished(file_id).unlink(missing_ok=True)
        self.file(file_id).unlink(missing_ok=True)

    def remove(self, file_id: str) -> None:
        """Delete a file."""
        self.file(file_id).unlink(missing_ok=True)

    def tidy(self, known: Iterable[str]) -> None:
        """Delete what is not *known*: what a crash left between a file and the note of it."""
        names = set(known)
        for path in self.path.iterdir():
            if path.name not in names:
                path.unlink(missing_ok=True)

    def file(self, file_id: str) -> Path:
        """Return where a file is."""
        return self.path / file_id

    def stretch(self, file_id: str, *, start: int, number: int, longest: int) -> list[Line]:
        """Return the next lines of a file, some hundred or some megabytes of them; none behind its end.

        Args:
            file_id: Which.
            start: Where to begin, in bytes.
            number: The number of the line that begins there.
            longest: Bytes that a line may have.
        """
        found: list[Line] = []
        with self.file(file_id).open("rb") as file:
            file.seek(start)
            while len(found) < STRETCH_LINES and file.tell() - start < STRETCH_BYTES:
                position = file.tell()
                text = file.readline(longest + 2)
                if not text:
                    break
                found.append(Line(number + len(found), position, file.tell(), text.rstrip(b"\r\n")))
                if not text.endswith(b"\n") and len(text) > longest:
                    break  # who reads on is in the middle of a line that is refused anyway
        return found

    def lines(self, file_id: str, starts: Sequence[int], *, longest: int) -> list[bytes]:
        """Return the lines that begin at the given places."""
        with self.file(file_id).open("rb") as file:
            found = []
            for start in starts:
                file.seek(start)
                found.append(file.readline(longest + 2).rstrip(b"\r\n"))
            return found

    def _unfinished(self, file_id: str) -> Path:
        return self.path / f"{file_id}{UNFINISHED}"


def write(file: BinaryIO, data: bytes) -> None:
    """Add to a begun file; raises as `Folder.create` does."""
    try:
        file.write(data)
    except OSError as error:
        raise trouble(error) from None


def trouble(error: OSError) -> BusyError:
    """Return what keeps a file from being written."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFull("the disk that holds the files is full; nothing was kept; make space on it")
    return StorageUnavailable(f"the folder of the files cannot be written: {error.strerror}; nothing was kept")
