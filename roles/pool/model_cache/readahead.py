"""Reads a model's files before a worker needs them, so that its load does not wait for the disk. Changes nothing.

What is read lands in the system's page cache, which gives it up again before anything else: at worst it was in vain.
One thread reads, one model at a time, and never more than a part of the memory that is available: what is read must not
push out what was read before it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from llorch import log

STEP_BYTES = 4 * 1024 * 1024
SHARE = 2
"""At most half of the memory that is available is filled."""
_log = log.get("pool.readahead")


def most(size_bytes: int, available_bytes: int) -> int:
    """Return how many bytes of a model are worth reading: all, or none where there is no room for all of them. Pure."""
    return size_bytes if size_bytes <= available_bytes // SHARE else 0


class ReadAhead:
    """The one reader of a pool.

    Args:
        tasks: Owns the task that waits for the thread.
    """

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._task: asyncio.Task[None] | None = None
        self._stop = threading.Event()

    def begin(self, model_ref: str, paths: Sequence[Path]) -> bool:
        """Begin to read; tell whether it does: not while it reads for another."""
        if self._stop.is_set() or (self._task is not None and not self._task.done()):
            return False
        self._task = self._tasks.create_task(self._run(model_ref, paths), name=f"read ahead {model_ref}")
        return True

    async def close(self) -> None:
        """Read no further."""
        self._stop.set()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self, model_ref: str, paths: Sequence[Path]) -> None:
        began = time.monotonic()
        try:
            count = await asyncio.to_thread(self._read, paths)
        except OSError as error:
            _log.info("not_read_ahead", model_ref=model_ref, reason=error.strerror)
            return
        _log.info("read_ahead", model_ref=model_ref, bytes=count, ms=round((time.monotonic() - began) * 1000))

    def _read(self, paths: Sequence[Path]) -> int:
        buffer, count = bytearray(STEP_BYTES), 0
        for path in paths:
            with path.open("rb", buffering=0) as file:
                while not self._stop.is_set() and (got := file.readinto(buffer)):
                    count += got
        return count
