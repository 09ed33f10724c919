"""SQLite connections in threads of their own: one that commits what many ask for at once, one that only reads.

Strategy (group commit): a transaction with `synchronous=FULL` costs one flush of the disk, however much is in it.
So writes queue up while the last transaction is being flushed, and the next one takes them all. Each caller
waits for the commit that holds its write: when `write` returns, the write is on disk.

A disk that is full or read-only is trouble, not the end. What tells of things that have happened already (a job's
text, its end) is *patient*: it stays in line and is tried again until there is space. What can be refused is, at once.

Holds no SQL of its own but transactions.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote

import aiosqlite

from llorch import log
from llorch.errors import BusyError, DiskFull, StorageUnavailable

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]
MAX_BATCH = 512
RETRY_S = 0.5
ITS_OWN = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    ValueError,
    OverflowError,
)
"""What an operation fails with that asks for what cannot be, such as a number beyond 64 bits or half a character."""

_log = log.get("orchestrator.database")


class _Waiting(NamedTuple):
    operation: Operation[Any]
    future: asyncio.Future[Any]
    patient: bool

    def result(self, value: object) -> None:
        if not self.future.done():
            self.future.set_result(value)

    def failed(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class _Connection(aiosqlite.Connection):
    """aiosqlite's thread, made to run a whole function in one hop instead of one statement."""

    async def run(self, operation: Operation[T]) -> T:
        """Run *operation* in the connection's thread."""
        result: T = await self._execute(operation, self._conn)  # type: ignore[no-untyped-call]  # aiosqlite's own door
        return result


class Writer:
    """The single writer of a database. `run` is its loop; `submit` and `write` are how others use it."""

    def __init__(self, path: Path) -> None:
        self._db = _Connection(lambda: sqlite3.connect(path, isolation_level=None), iter_chunk_size=64)
        self._waiting: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.trouble: BusyError | None = None
        """Why patient writes are stuck; None while all is well."""

    async def __aenter__(self) -> Self:
        """Open the connection."""
        _ = await self._db
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it; what `run` has not written by then is refused."""
        for waiting in self._waiting:
            waiting.future.cancel()
        await self._db.close()

    async def run(self) -> None:
        """Commit what is asked for, until cancelled. A broken database ends it, and with it the process."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                self._idle.clear()
                stuck = await self._commit(batch)
                if stuck:
                    self._waiting[:0] = stuck
                    await asyncio.sleep(RETRY_S)
            self._idle.set()

    def submit(self, operation: Operation[T], *, patient: bool = True) -> asyncio.Future[T]:
        """Queue *operation*; the future has its result once that is on disk, and may be left unread.

        Operations happen in the order they were submitted. The future fails with one of `ITS_OWN` when a constraint
        forbids it or a value cannot be kept, and, unless *patient*, with `DiskFull` or `StorageUnavailable` when it
        cannot be written now; nothing of the operation has happened then. A patient one waits until it can.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_seen)
        if self.trouble is not None and not patient:
            future.set_exception(self.trouble)
        else:
            self._waiting.append(_Waiting(operation, future, patient))
            self._wake.set()
        return future

    async def write(self, operation: Operation[T], *, patient: bool = True) -> T:
        """Run *operation* inside a transaction; return its result once that is on disk; fails as `submit` tells."""
        return await self.submit(operation, patient=patient)

    async def flush(self) -> None:
        """Return when everything asked for so far is on disk."""
        while self._waiting or not self._idle.is_set():
            await self.write(lambda _db: None)

    async def read(self, operation: Operation[T]) -> T:
        """Run *operation* between transactions, outside of any."""
        return await self._db.run(operation)

    async def _commit(self, batch: list[_Waiting]) -> list[_Waiting]:
        """Write a batch; return what is stuck."""
        try:
            results = await self._db.run(partial(together, operations=[waiting.operation for waiting in batch]))
        except (*ITS_OWN, sqlite3.OperationalError):
            return await self._commit_singly(batch)
        for waiting, result in zip(batch, results, strict=True):
            waiting.result(result)
        self._well()
        return []

    async def _commit_singly(self, batch: list[_Waiting]) -> list[_Waiting]:
        """Give each its own transaction, so that the one that cannot be done fails alone."""
        for number, waiting in enumerate(batch):
            try:
                [result] = await self._db.run(partial(together, operations=[waiting.operation]))
            except ITS_OWN as error:
                _log.warning("write_refused", reason=f"{type(error).__name__}: {error}")
                waiting.failed(error)
            except sqlite3.OperationalError as error:
                trouble = trouble_of(error)
                if trouble is None:
                    raise
                if waiting.patient:
                    return self._stuck(batch[number:], trouble)
                waiting.failed(trouble)
            else:
                waiting.result(result)
        self._well()
        return []

    def _stuck(self, batch: list[_Waiting], trouble: BusyError) -> list[_Waiting]:
        """Refuse what can be refused; return the rest, which stays in line."""
        if self.trouble is None:
            _log.error("database_cannot_be_written", code=trouble.code, reason=trouble.message)
        self.trouble = trouble
        for waiting in [*batch, *self._waiting]:
            if not waiting.patient:
                waiting.failed(trouble)
        self._waiting = [waiting for waiting in self._waiting if waiting.patient]
        return [waiting for waiting in batch if waiting.patient]

    def _well(self) -> None:
        if self.trouble is not None:
            self.trouble = None
            _log.info("database_can_be_written_again")


class Reader:
    """A connection that only reads, so that a long look at many jobs holds up no write."""

    def __init__(self, path: Path) -> None:
        address = f"file:{quote(str(path))}?mode=ro"
        self._db = _Connection(lambda: sqlite3.connect(address, uri=True, isolation_level=None), iter_chunk_size=64)

    async def __aenter__(self) -> Self:
        """Open the connection; the database must be there."""
        _ = await self._db
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self._db.close()

    async def read(self, operation: Operation[T]) -> T:
        """Run a reading *operation*; it sees every write that has returned."""
        return await self._db.run(operation)


def trouble_of(error: sqlite3.OperationalError) -> BusyError | None:
    """Return what keeps the database from being written for now; None for any other failure."""
    code = error.sqlite_errorcode & 0xFF
    if code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
        return DiskFull("the disk that holds the queue is full or fails; nothing was accepted; make space on it")
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}:
        return StorageUnavailable("the disk that holds the queue is read-only; nothing was accepted")
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StorageUnavailable("another process holds the queue's database locked; nothing was accepted")
    return None


def together(db: sqlite3.Connection, operations: list[Operation[T]]) -> list[T]:
    """Run *operations* in one transaction; all of them happen, or none."""
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
