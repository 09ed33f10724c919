"""What a pool has to know of its workers after it was killed: one small file a worker, for the owner alone.

Files are replaced whole, so that each is either the older or the newer state. One thread does all of it, in the order
in which it was asked, so that nothing old replaces something new and the event loop never waits for a disk. A file
that cannot be written costs no worker: the pool only could not take it over, and then it ends by itself.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from llorch import log
from roles.pool.worker_lifecycle.records import Record

MAX_BYTES = 1024 * 1024
_log = log.get("pool.ledger")


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as it is written down: before its process starts, and when something that lasts has changed.

    `birth` is the `identity.birth` of the process `record.pid`; neither is known before it has started.
    """

    record: Record
    model_path: str
    birth: str = ""


class Ledger:
    """The files in *folder*, which exists. Their one writer.

    Args:
        folder: Nothing else is in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._decoder = msgspec.json.Decoder(Saved)

    def save(self, saved: Saved) -> None:
        """Have a worker written down."""
        self._thread.submit(self._write, saved)

    def forget(self, worker_id: str) -> None:
        """Have a worker struck out."""
        self._thread.submit(self._remove, worker_id)

    async def settled(self) -> None:
        """Return when all is done that was asked for so far."""
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: None)

    async def read(self) -> list[Saved]:
        """Return all that is written down; what cannot be read stays where it is, and is logged."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read)

    async def close(self) -> None:
        """Do what was asked for, and nothing after it."""
        await asyncio.to_thread(self._thread.shutdown)

    def _file(self, worker_id: str) -> Path:
        return self._folder / f"{worker_id}.json"

    def _write(self, saved: Saved) -> None:
        file = self._file(saved.record.worker_id)
        new = file.with_suffix(".new")
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as target:
                target.write(msgspec.json.encode(saved))
            new.replace(file)
        except OSError as error:
            _log.warning("worker_not_written_down", worker_id=saved.record.worker_id, reason=error.strerror)

    def _remove(self, worker_id: str) -> None:
        try:
            self._file(worker_id).unlink(missing_ok=True)
        except OSError as error:
            _log.warning("worker_not_struck_out", worker_id=worker_id, reason=error.strerror)

    def _read(self) -> list[Saved]:
        found = []
        for file in sorted(self._folder.glob("*.json")):
            try:
                with file.open("rb") as source:
                    saved = self._decoder.decode(source.read(MAX_BYTES))
            except (OSError, msgspec.DecodeError) as error:
                _log.warning("worker_record_unreadable", file=file.name, reason=str(error)[:200])
                continue
            if saved.record.worker_id == file.stem:
                found.append(saved)
        return sorted(found, key=lambda saved: saved.record.started_ms)
