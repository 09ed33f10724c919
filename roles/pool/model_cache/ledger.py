"""Records that outlive the process: one JSON file each, replaced whole, so that a kill leaves the old one or the new.

Every call blocks; calls come from threads, several at once. Who owns a ledger's records says so; a ledger only stores
them, and of two writers of one record the last one stays.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
from msgspec.structs import replace

from llorch import log
from llorch.errors import DiskFull
from llorch.flush import flush
from llorch.wire.models import Download, FileFacts

S = TypeVar("S", bound=msgspec.Struct)
SUFFIX = ".json"
_log = log.get("pool.ledger")


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's file cannot say: what its parts must be, since when it is here, and what became of it.

    `registered` is a file of the user's own that is listed because they said so.
    """

    model_ref: str
    files: list[FileFacts] = msgspec.field(default_factory=list)
    added_ms: int = 0
    last_used_ms: int = 0
    verified_ms: int = 0
    corrupt: bool = False
    pinned: bool = False
    registered: bool = False


class DownloadRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A download that has not ended, or that failed and may go on: what a new process must know of it.

    Attributes:
        before: The names that were in the model's folder before anything was fetched; None while nothing is.
        brought: The names that an earlier try of it has put there, which failed.
        failed: What was told of it, where it has failed and what it brought waits to be asked for again.
    """

    model_ref: str
    sources: list[str]
    evict: bool
    created_ms: int
    files: list[FileFacts] = msgspec.field(default_factory=list)
    before: list[str] | None = None
    brought: list[str] = msgspec.field(default_factory=list)
    failed: Download | None = None

    def own(self, there: Collection[str]) -> set[str]:
        """Return those names in the model's folder that the download has put there, and nobody else."""
        if self.before is None:
            return set(there).intersection(self.brought)
        names = {*self.brought, *(Path(file.path).name for file in self.files)}
        return names.intersection(there).difference(self.before)

    def begun(self, there: Collection[str]) -> DownloadRecord:
        """Return it with the names that are there now, if those are not noted already."""
        if self.before is not None:
            return self
        return replace(self, before=sorted(set(there).difference(self.brought)))

    def kept(self, own: Collection[str], failed: Download) -> DownloadRecord:
        """Return it as it waits to be asked for again, with what it has put there."""
        return replace(self, before=None, brought=sorted(own), failed=failed)


class Ledger(Generic[S]):
    """A folder of records of one kind, by id.

    Args:
        folder: Made when the first record is written.
        kind: The type of the records.
    """

    def __init__(self, folder: Path, kind: type[S]) -> None:
        self._folder = folder
        self._kind = kind
        self._number = itertools.count()  # so that no two writers share a file; few, as a killed one is left there

    def read(self) -> dict[str, S]:
        """Return every record. One that cannot be read is left where it is, and logged."""
        found: dict[str, S] = {}
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            try:
                found[path.name.removesuffix(SUFFIX)] = msgspec.json.decode(path.read_bytes(), type=self._kind)
            except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
                _log.warning("record_unreadable", record=path.name, reason=str(error))
        return found

    def write(self, key: str, record: S) -> None:
        """Have a record on the disk itself when this returns.

        Raises:
            DiskFull: It could not be written; the one before, if any, is as it was.
        """
        path = self._folder / f"{key}{SUFFIX}"
        new = path.with_suffix(f".{next(self._number)}.new")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with new.open("wb") as file:
                file.write(msgspec.json.encode(record))
                file.flush()
                flush(file.fileno())
            new.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            raise DiskFull(f"the pool's data directory cannot be written: {error.strerror}") from None

    def remove(self, key: str) -> None:
        """Remove a record, if there is one."""
        with contextlib.suppress(OSError):
            (self._folder / f"{key}{SUFFIX}").unlink(missing_ok=True)
