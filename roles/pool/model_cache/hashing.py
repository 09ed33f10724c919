"""Compares the files of models with the hashes that they must have: one model after the other, however many ask.

To read a model takes minutes. It has a thread of its own, so that the threads that everything else of a pool shares are
never all taken by it, and so that several models do not take the disk from each other.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llorch.errors import Draining
from llorch.wire.models import FileCheck, FileFacts
from roles.pool.model_cache import files

What = tuple[tuple[Path, ...], tuple[FileFacts, ...]]


class Hashing:
    """The thread that reads, and who waits for it. A model that is being read, or waits for that, is read once."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hashing")
        self._closing = threading.Event()
        self._asked: dict[What, asyncio.Future[list[FileCheck]]] = {}

    async def checks(self, paths: Sequence[Path], facts: Sequence[FileFacts]) -> list[FileCheck]:
        """Return what became of each file; the reading goes on without whoever no longer waits.

        Raises:
            Draining: The pool ends meanwhile.
        """
        key = (tuple(paths), tuple(facts))
        asked = self._asked.get(key)
        if asked is None:
            loop = asyncio.get_running_loop()
            asked = self._asked[key] = loop.run_in_executor(self._thread, self._read, *key)
            asked.add_done_callback(lambda read: self._done(key, read))
        return await asyncio.shield(asked)

    def close(self) -> None:
        """Leave what is being read, and what waits."""
        self._closing.set()
        self._thread.shutdown(wait=False)

    def _read(self, paths: Sequence[Path], facts: Sequence[FileFacts]) -> list[FileCheck]:
        return [files.check(path, fact, tell=self._go_on) for path, fact in zip(paths, facts, strict=True)]

    def _go_on(self, _more: int) -> None:
        if self._closing.is_set():
            raise Draining("the pool ends; ask for the verification again when it is back")

    def _done(self, key: What, read: asyncio.Future[list[FileCheck]]) -> None:
        del self._asked[key]
        if not read.cancelled():
            read.exception()  # perhaps nobody waits who would hear of it
