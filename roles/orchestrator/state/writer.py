"""One SQLite connection that commits what many ask for at once; holds no SQL of its own but transactions.

Strategy (group commit): a transaction with `synchronous=FULL` costs one flush of the disk, however much is in it.
So writes queue up while the last transaction is being flushed, and the next one takes them all. Each caller
waits for the commit that holds its write: when `write` returns, the write is on disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import aiosqlite

from llorch.errors import DiskFull

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]
MAX_BATCH = 512

_Waiting = tuple[Operation[Any], "asyncio.Future[Any]"]


class _Connection(aiosqlite.Connection):
    """aiosqlite's thread, made to run a whole function in one hop instead of one statement."""

    async def run(self, operation: Operation[T]) -> T:
        """Run *operation* in the connection's thread."""
        result: T = await self._execute(operation, self._conn)  # type: ignore[no-untyped-call]  # aiosqlite's own door
        return result


class Writer:
    """The single writer of a database. `run` is its loop; `write` and `read` are how others use it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = _Connection(lambda: sqlite3.connect(path, isolation_level=None), iter_chunk_size=64)
        self._waiting: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def __aenter__(self) -> Self:
        """Open the connection."""
        _ = await self._db
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it; what `run` has not written by then is refused."""
        for _operation, future in self._waiting:
            future.cancel()
        await self._db.close()

    async def run(self) -> None:
        """Commit what is asked for, until cancelled. A broken database ends it, and with it the process."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                self._idle.clear()
                await self._commit(batch)
            self._idle.set()

    def submit(self, operation: Operation[T]) -> asyncio.Future[T]:
        """Queue *operation*; the future has its result once that is on disk, and may be left unread.

        The future fails with `DiskFull` when there is no space and with `sqlite3.IntegrityError` when a constraint
        forbids it; nothing of the operation has happened then. Operations happen in the order they were submitted.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_seen)
        self._waiting.append((operation, future))
        self._wake.set()
        return future

    async def write(self, operation: Operation[T]) -> T:
        """Run *operation* inside a transaction; return its result once that is on disk; fails as `submit` tells."""
        return await self.submit(operation)

    async def flush(self) -> None:
        """Return when everything asked for so far is on disk."""
        while self._waiting or not self._idle.is_set():
            await self.write(lambda _db: None)

    async def read(self, operation: Operation[T]) -> T:
        """Run a reading *operation* between transactions."""
        return await self._db.run(operation)

    async def _commit(self, batch: list[_Waiting]) -> None:
        try:
            results = await self._db.run(partial(_together, operations=[operation for operation, _ in batch]))
        except (sqlite3.IntegrityError, sqlite3.OperationalError):
            await self._commit_singly(batch)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)

    async def _commit_singly(self, batch: list[_Waiting]) -> None:
        """Give each its own transaction, so that the one that cannot be done fails alone."""
        for operation, future in batch:
            try:
                [result] = await self._db.run(partial(_together, operations=[operation]))
            except sqlite3.IntegrityError as error:
                if not future.done():
                    future.set_exception(error)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
                    raise
                if not future.done():
                    future.set_exception(DiskFull("the disk that holds the queue is full; nothing was accepted"))
            else:
                if not future.done():
                    future.set_result(result)


def _together(db: sqlite3.Connection, operations: list[Operation[object]]) -> list[object]:
    db.execute("BEGIN IMMEDIATE")
    try:
        results = [operation(db) for operation in operations]
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return results


def _seen(future: asyncio.Future[T]) -> None:
    """Look at a failure, so that one nobody waits for is not complained about when it is forgotten."""
    if not future.cancelled():
        future.exception()
