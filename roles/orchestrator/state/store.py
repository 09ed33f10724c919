"""Every SQL statement of the orchestrator. One operation is one transaction, run by the single writer.

A transition happens only from a state that the table in `llorch.job` allows; an operation tells by None or False
that it could not, and then nothing has changed. Statements are built from our own column and state names alone; every
value is a parameter.
"""
# ruff: noqa: S608

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Self

from llorch.errors import InvalidConfiguration
from llorch.job import FINAL, JobId, Move, State, after, sources
from roles.orchestrator.state.rows import AttemptRow, Ending, Filter, JobRow, NewJob
from roles.orchestrator.state.writer import Writer

MIGRATIONS = ("schema.sql",)
"""File i brings the database from version i to i + 1."""

_COLUMNS = ", ".join(field.name for field in fields(JobRow))
_NEW = [field.name for field in fields(NewJob)]
_INSERT = (
    f"INSERT INTO jobs (state, {', '.join(_NEW)}) VALUES ('queued', {', '.join(':' + name for name in _NEW)}) "
    "ON CONFLICT (owner, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING"
)


def _from(move: Move) -> str:
    """The states *move* can happen from, as SQL. Only names of our own table get here."""
    return "(" + ", ".join(f"'{state}'" for state in sources(move)) + ")"


def _ending(move: Move) -> str:
    """The states from which *move* is the end: a cancel ends a queued job, but not yet one with a worker."""
    return "(" + ", ".join(f"'{state}'" for state in sources(move) if after(state, move) in FINAL) + ")"


class Store:
    """The jobs on disk. Open it with `async with`; run `writer.run()` in a task meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer = Writer(path)

    async def __aenter__(self) -> Self:
        """Open the database (mode 0600), bring it to the current version.

        Raises:
            InvalidConfiguration: The directory cannot be written, or the file is not a sound database of ours.
        """
        _prepare(self.path)
        await self.writer.__aenter__()
        try:
            await self.writer.read(partial(_migrate, path=self.path))
        except sqlite3.DatabaseError as error:
            await self.writer.__aexit__()
            raise InvalidConfiguration(
                f"{self.path} is not a sound database ({error}); nothing was changed; restore a backup of it, "
                "or move it away to start with an empty queue"
            ) from None
        except BaseException:
            await self.writer.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the database."""
        await self.writer.__aexit__()

    def enqueue(self, job: NewJob) -> asyncio.Future[bool]:
        """Put a job on disk; the result is False when its idempotency key is already there."""

        def operation(db: sqlite3.Connection) -> bool:
            values = {name: getattr(job, name) for name in _NEW} | {"seed": str(job.seed)}
            return db.execute(_INSERT, values).rowcount == 1

        return self.writer.submit(operation)

    def claim(
        self, job_id: JobId, *, attempt: int, worker_id: str, pool_id: str, now_ms: int
    ) -> asyncio.Future[bytes | None]:
        """Hand a queued job to a worker; the result is its request, or None when it is not queued any more.

        It need not be waited for by who has the request already: a crash before it is on disk leaves the job queued.
        """

        def operation(db: sqlite3.Connection) -> bytes | None:
            row = db.execute(
                f"UPDATE jobs SET state = 'dispatched', attempt = ?, worker_id = ?, pool_id = ?, "
                f"dispatched_ms = coalesce(dispatched_ms, ?) WHERE id = ? AND state IN {_from(Move.CLAIM)} "
                "RETURNING seq, request",
                (attempt, worker_id, pool_id, now_ms, job_id),
            ).fetchone()
            if row is None:
                return None
            db.execute(
                "INSERT INTO attempts (job_seq, number, worker_id, pool_id, dispatched_ms) VALUES (?, ?, ?, ?, ?)",
                (row[0], attempt, worker_id, pool_id, now_ms),
            )
            request: bytes = row[1]
            return request

        return self.writer.submit(operation)

    def start(self, job_id: JobId, *, engine: str, tokens_in: int, event_serial: int, now_ms: int) -> None:
        """Note, with the next commit, that a worker has begun; a job being cancelled stays so."""

        def operation(db: sqlite3.Connection) -> None:
            db.execute(
                f"UPDATE jobs SET state = 'running', engine = ?, tokens_in = coalesce(tokens_in, ?), "
                f"started_ms = coalesce(started_ms, ?), started_event = coalesce(started_event, ?) "
                f"WHERE id = ? AND state IN {_from(Move.START)}",
                (engine, tokens_in, now_ms, event_serial, job_id),
            )

        _ = self.writer.submit(operation)

    def append(self, seq: int, *, first: int, count: int, events: bytes, done: Callable[[], None]) -> None:
        """Add token events to a job's output, with the next commit; *done* is called when they are on disk."""

        def operation(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR IGNORE INTO output VALUES (?, ?, ?, ?)", (seq, first, count, events))

        self.writer.submit(operation).add_done_callback(partial(_when_written, done=done))

    async def requeue(self, job_id: JobId, *, outcome: str, not_before_ms: int, now_ms: int) -> bool:
        """End an attempt and put its job back into the queue; False when it was cancelled meanwhile."""

        def operation(db: sqlite3.Connection) -> bool:
            row = db.execute(
                f"UPDATE jobs SET state = 'queued', not_before_ms = ?, worker_id = NULL, pool_id = NULL "
                f"WHERE id = ? AND state IN {_from(Move.REQUEUE)} RETURNING seq, attempt",
                (not_before_ms, job_id),
            ).fetchone()
            if row is not None:
                _end_attempt(db, row[0], row[1], outcome, now_ms)
            return row is not None

        return await self.writer.write(operation)

    async def settle(self, job_id: JobId, move: Move, ending: Ending) -> State | None:
        """End a job in ONE transaction; None when *move* cannot happen from where it is.

        The request is erased with it: a final job keeps no prompt.
        """
        target = next(state for source in sources(move) if (state := after(source, move)) in FINAL)

        def operation(db: sqlite3.Connection) -> State | None:
            row = db.execute(
                f"UPDATE jobs SET state = ?, request = NULL, finished_ms = ?, final_event = ?, "
                f"tokens_in = coalesce(?, tokens_in), tokens_out = ?, pieces = ?, decode_ms = ?, stop_reason = ?, "
                f"first_token_ms = coalesce(first_token_ms, ?), output_sha256 = ?, error_code = ?, "
                f"error_message = ?, error_retriable = ? "
                f"WHERE id = ? AND state IN {_ending(move)} RETURNING seq, attempt",
                (
                    target,
                    ending.finished_ms,
                    ending.event_serial,
                    ending.tokens_in,
                    ending.tokens_out,
                    ending.pieces,
                    ending.decode_ms,
                    ending.stop_reason,
                    ending.first_token_ms,
                    ending.output_sha256,
                    ending.error_code,
                    ending.error_message,
                    ending.error_retriable,
                    job_id,
                ),
            ).fetchone()
            if row is None:
                return None
            _end_attempt(db, row[0], row[1], ending.error_code or target, ending.finished_ms)
            return target

        return await self.writer.write(operation)

    async def cancelling(self, job_id: JobId) -> bool:
        """Note that a job with a worker is to end; False when it has none."""

        def operation(db: sqlite3.Connection) -> bool:
            statement = "UPDATE jobs SET state = 'cancelling' WHERE id = ? AND state IN ('dispatched', 'running')"
            return db.execute(statement, (job_id,)).rowcount == 1

        return await self.writer.write(operation)

    async def get(self, job_id: str) -> JobRow | None:
        """Return one job."""
        return await self._one("id = ?", job_id)

    async def by_key(self, owner: str, key: str) -> JobRow | None:
        """Return the job that was submitted under an idempotency key."""
        return await self._one("owner = ? AND idempotency_key = ?", owner, key)

    async def attempts(self, seq: int) -> list[AttemptRow]:
        """Return a job's attempts, oldest first."""
        names = [field.name for field in fields(AttemptRow)]
        statement = f"SELECT {', '.join(names)} FROM attempts WHERE job_seq = ? ORDER BY number"
        rows = await self.writer.read(lambda db: db.execute(statement, (seq,)).fetchall())
        return [AttemptRow(**dict(zip(names, row, strict=True))) for row in rows]

    async def page(self, wanted: Filter) -> list[JobRow]:
        """Return the newest jobs that match, at most `limit`."""
        conditions = {
            "seq < ?": wanted.before_seq,
            "state = ?": wanted.state,
            "model = ?": wanted.model,
            "priority = ?": wanted.priority,
            "session_id = ?": wanted.session_id,
            "owner = ?": wanted.owner,
        }
        given = {sql: value for sql, value in conditions.items() if value is not None}
        where = " AND ".join(given) or "true"
        return await self._many(f"{where} ORDER BY seq DESC LIMIT ?", *given.values(), wanted.limit)

    async def unfinished(self) -> list[JobRow]:
        """Return every job that is not final, in order of submission."""
        final = ", ".join(f"'{state}'" for state in FINAL)
        return await self._many(f"state NOT IN ({final}) ORDER BY seq")

    async def last_seq(self) -> int:
        """Return the highest sequence number in use; 0 when there is none."""
        row = await self.writer.read(lambda db: db.execute("SELECT coalesce(max(seq), 0) FROM jobs").fetchone())
        seq: int = row[0]
        return seq

    async def output(self, seq: int, *, start: int, limit: int = 16) -> list[tuple[int, int, bytes]]:
        """Return stored token events as (first, count, events), from the chunk that holds index *start* on."""
        statement = (
            "SELECT first, count, events FROM output WHERE job_seq = ? AND first + count > ? ORDER BY first LIMIT ?"
        )
        return await self.writer.read(lambda db: db.execute(statement, (seq, start, limit)).fetchall())

    async def pieces(self, seq: int) -> int:
        """Return how many token events of a job are stored."""
        statement = "SELECT coalesce(max(first + count), 0) FROM output WHERE job_seq = ?"
        row = await self.writer.read(lambda db: db.execute(statement, (seq,)).fetchone())
        count: int = row[0]
        return count

    async def erase_outputs(self, *, finished_before_ms: int) -> int:
        """Erase the output of jobs that ended before then; return how many rows went."""
        statement = "DELETE FROM output WHERE job_seq IN (SELECT seq FROM jobs WHERE finished_ms < ?)"
        return await self.writer.write(lambda db: db.execute(statement, (finished_before_ms,)).rowcount)

    async def purge(self, *, finished_before_ms: int) -> int:
        """Delete jobs that ended before then; return how many."""
        statement = "DELETE FROM jobs WHERE finished_ms < ?"
        return await self.writer.write(lambda db: db.execute(statement, (finished_before_ms,)).rowcount)

    async def _one(self, where: str, *values: object) -> JobRow | None:
        rows = await self._many(where, *values)
        return rows[0] if rows else None

    async def _many(self, where: str, *values: object) -> list[JobRow]:
        statement = f"SELECT {_COLUMNS} FROM jobs WHERE {where}"  # only our own texts get here
        rows = await self.writer.read(lambda db: db.execute(statement, values).fetchall())
        return [_row(row) for row in rows]


def _when_written(written: asyncio.Future[None], done: Callable[[], None]) -> None:
    if not written.cancelled() and written.exception() is None:
        done()


def _row(values: tuple[object, ...]) -> JobRow:
    named = dict(zip((field.name for field in fields(JobRow)), values, strict=True))
    named["state"] = State(str(named["state"]))
    named["seed"] = int(str(named["seed"]))
    if named["error_retriable"] is not None:
        named["error_retriable"] = bool(named["error_retriable"])
    return JobRow(**named)  # type: ignore[arg-type]  # the table is STRICT: columns have the types they say


def _end_attempt(db: sqlite3.Connection, seq: int, number: int, outcome: str, now_ms: int) -> None:
    db.execute(
        "UPDATE attempts SET ended_ms = ?, outcome = ? WHERE job_seq = ? AND number = ?",
        (now_ms, outcome, seq, number),
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


def _migrate(db: sqlite3.Connection, *, path: Path) -> None:
    """Check that the file is ours before anything is written to it, then bring it to the current version."""
    [version] = db.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise InvalidConfiguration(
            f"{path} has version {version}, this llorch knows up to {len(MIGRATIONS)}; run a newer llorch"
        )
    if not version and db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        raise sqlite3.DatabaseError("it belongs to another program")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA secure_delete = ON")
    db.execute("PRAGMA busy_timeout = 5000")
    for number in range(version, len(MIGRATIONS)):
        script = resources.files("roles.orchestrator.state").joinpath(MIGRATIONS[number]).read_text("utf-8")
        db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number + 1}; COMMIT;")
