"""A file that is not whole yet: grown at its end, locked by its one writer, synced before it is trusted."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from llorch.errors import Conflict, DiskFull, HubUnreachable, LlorchError
from llorch.flush import flush

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

LOCK = "lock"
ELSEWHERE = "fetched_elsewhere"
"""In an error's details: what it is that is waited for is no failure."""
ELSEWHERE_S = 5


class TooLong(Exception):
    """More has come than the file has."""


class Partial(io.FileIO):
    """A partial file, opened at its end; tells how long it is, and does not mistake the disk's errors for the hub's."""

    def __init__(self, path: Path, size: int, tell: Callable[[int], None]) -> None:
        super().__init__(path, "r+" if path.exists() else "x+")
        self._size = size
        self._tell_length = tell
        if self.seek(0, os.SEEK_END) > size:
            self.restart()

    def write(self, data: ReadableBuffer) -> int:
        """Write all of *data*, or raise `DiskFull`, another error that is not an `OSError`, or `TooLong`."""
        view = memoryview(data).cast("B")
        try:
            written = 0
            while written < len(view):
                written += super().write(view[written:]) or 0
        except OSError as error:
            raise disk_error(error) from None
        if self.tell() > self._size:
            raise TooLong
        self._tell_length(self.tell())
        return written

    def restart(self) -> None:
        """Begin again with nothing."""
        self.seek(0)
        self.truncate()

    def finish(self) -> None:
        """Have it all on the disk itself."""
        try:
            flush(self.fileno())
        except OSError as error:
            raise disk_error(error) from None


@contextlib.contextmanager
def locked(partial: Path) -> Iterator[None]:
    """Be the only process that writes into a folder of partial files, which is made when it is missing.

    Raises:
        HubUnreachable: Another process is; it may have finished later.
    """
    partial.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (partial / LOCK).open("w") as lock:
        if not _ours(lock, partial):
            raise HubUnreachable(
                "another process is fetching this model into the same folder",
                retry_after_s=ELSEWHERE_S,
                details={ELSEWHERE: True},
            )
        yield


def empty(partial: Path) -> None:
    """Delete a folder of partial files, if it is there and no process writes into it."""
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        with contextlib.suppress(FileNotFoundError):  # without a lock nobody writes; a full disk would have none made
            lock = stack.enter_context((partial / LOCK).open("r"))
            if not _ours(lock, partial):
                return
        for path in partial.iterdir():
            path.unlink(missing_ok=True)
        partial.rmdir()


def _ours(lock: io.TextIOWrapper, partial: Path) -> bool:
    """Take the lock, if nobody has it and it is still the folder's."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(lock.fileno()), (partial / LOCK).stat())
    except (BlockingIOError, FileNotFoundError):
        return False


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Raise our errors for those of the disk."""
    try:
        yield
    except OSError as error:
        raise disk_error(error) from None


def disk_error(error: OSError) -> LlorchError:
    """Return ours for an error of the disk. Pure."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFull("the disk became full; free some space and ask again")
    return Conflict(f"the models' folder cannot be written: {error.strerror or error}")


def sync(folder: Path) -> None:
    """Have a rename on the disk itself."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        flush(handle)
    finally:
        os.close(handle)
