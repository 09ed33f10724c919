"""The orchestrator's database file: its lock, its version, its two connections. Holds no statement about jobs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from contextlib import AsyncExitStack
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Self

from llorch.errors import InvalidConfiguration
from roles.orchestrator.state.writer import Reader, Writer, trouble_of

MIGRATIONS = ("schema.sql", *(f"schema_{version}.sql" for version in range(2, 9)))

"""File i brings the database from version i to i + 1."""
CHECKED_BYTES = 64 * 1024 * 1024
"""Up to this size every page is looked at before the database is used: 0.1 s."""


class Database:
    """One file, for one orchestrator. Open it with `async with`; run `writer.run()` in a task meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer = Writer(path)
        self.reader = Reader(path)
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open the database (mode 0600), bring it to the current version.

        Raises:
            InvalidConfiguration: The directory cannot be written, another orchestrator uses it, or the file is not a
                sound database of ours. Nothing was changed then.
        """
        async with AsyncExitStack() as opening:
            _prepare(self.path)
            opening.callback(os.close, lock(self.path))
            await opening.enter_async_context(self.writer)
            try:
                await self.writer.read(partial(_migrate, path=self.path))
                await opening.enter_async_context(self.reader)
            except sqlite3.DatabaseError as error:
                raise unusable(self.path, error) from None
            self._open = opening.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it and let another process have it."""
        await self._open.aclose()


def unusable(path: Path, error: sqlite3.DatabaseError | OSError) -> InvalidConfiguration:
    """Return the refusal to work with a database, in one line: what, why, what to do."""
    trouble = trouble_of(error) if isinstance(error, sqlite3.OperationalError) else None
    if trouble is not None:
        return InvalidConfiguration(f"{path} cannot be used: {trouble.message}")
    return InvalidConfiguration(
        f"{path} is not a sound database ({error}); nothing was changed; look at it with: llorch dev doctor; "
        "then restore a copy made by: llorch dev backup; or move it away to start with an empty queue"
    )


def _prepare(path: Path) -> None:
    """Make the directory (0700) and the file (0600) before SQLite would make them for everyone to read."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise InvalidConfiguration(
            f"the data directory {path.parent} cannot be written: {error.strerror}; choose another with --data-dir"
        ) from None


async def erase_log(writer: Writer) -> None:
    """Do `empty_log` between two transactions.

    Raises:
        BusyError: The database cannot be written now.
    """
    try:
        await writer.read(empty_log)
    except sqlite3.OperationalError as error:
        trouble = trouble_of(error)
        if trouble is None:
            raise
        raise trouble from error


def empty_log(db: sqlite3.Connection) -> None:
    """Move what the write-ahead log holds into the database and empty it: what was erased still stands in it.

    Somebody who reads an older state, such as a backup, is not waited for: it is emptied the next time.
    """
    [patience_ms] = db.execute("PRAGMA busy_timeout").fetchone()
    db.execute("PRAGMA busy_timeout = 0")
    try:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        db.execute(f"PRAGMA busy_timeout = {patience_ms:d}")


def lock(path: Path) -> int:
    """Take the data directory for this process; the lock goes with the returned descriptor, or with the process.

    Raises:
        InvalidConfiguration: An orchestrator has it.
    """
    number = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        with contextlib.closing(os.fdopen(number)) as holder:
            pid = holder.read(32).strip() or "unknown"
        raise InvalidConfiguration(
            f"the data directory {path.parent} is used by another orchestrator (process {pid}); stop that one, "
            "or choose another with --data-dir"
        ) from None
    os.truncate(number, 0)
    os.pwrite(number, f"{os.getpid()}\n".encode(), 0)
    return number


def _migrate(db: sqlite3.Connection, *, path: Path) -> None:
    """Check that the file is ours and whole before anything is written to it, then bring it to the current version."""
    [version] = db.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise InvalidConfiguration(
            f"{path} has version {version}, this llorch knows up to {len(MIGRATIONS)}; run a newer llorch"
        )
    if not version and db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        raise sqlite3.DatabaseError("it belongs to another program")
    _check(db, path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("SELECT 1 FROM sqlite_schema").fetchone()  # until it is read again, a changed mode allows no checkpoint
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA fullfsync = ON")  # macOS alone knows it: without it, a flush ends in the disk's own memory
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA secure_delete = ON")
    db.execute("PRAGMA busy_timeout = 5000")
    for number in range(version, len(MIGRATIONS)):
        script = resources.files("roles.orchestrator.state").joinpath(MIGRATIONS[number]).read_text("utf-8")
        db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number + 1}; COMMIT;")


def _check(db: sqlite3.Connection, path: Path) -> None:
    """Look for damage: every page of a small database, the length of a large one that has no log beside it."""
    size = path.stat().st_size
    wal = path.with_name(path.name + "-wal")
    if size <= CHECKED_BYTES:
        [found] = db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(str(found).replace("\n", " "))
    [pages] = db.execute("PRAGMA page_count").fetchone()
    [page_bytes] = db.execute("PRAGMA page_size").fetchone()
    if pages * page_bytes > size and not (wal.exists() and wal.stat().st_size):
        raise sqlite3.DatabaseError(f"it is cut off: {size} bytes where {pages * page_bytes} should be")
