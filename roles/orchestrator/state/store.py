"""The jobs on disk. One operation is one transaction, run by the single writer.

A transition happens only from a state that the table in `llorch.job` allows; an operation tells by None or False
that it could not, and then nothing has changed. Statements are built from our own column and state names alone; every
value is a parameter.
"""
# ruff: noqa: S608

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Self

from llorch.job import FINAL, JobId, Move, State, after, sources
from roles.orchestrator.scheduler.serving import MOST_KEPT
from roles.orchestrator.scheduler.startup import Startup
from roles.orchestrator.state import attempts, output
from roles.orchestrator.state.database import Database, erase_log, unusable
from roles.orchestrator.state.rows import AttemptRow, Chunk, Ending, Filter, Generated, JobRow, NewJob, Whereabouts
from roles.orchestrator.state.text_log import TextLog

AT_ONCE = 50
"""Jobs that one transaction deletes at most."""

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
        self._database = Database(path)
        self.texts = TextLog(path)
        self.writer = self._database.writer
        self.reader = self._database.reader

    async def __aenter__(self) -> Self:
        """Open the database; raises InvalidConfiguration where `Database` does."""
        await self._database.__aenter__()
        try:
            await self.texts.restore(self.writer)
        except (sqlite3.DatabaseError, OSError) as error:
            await self._database.__aexit__()
            raise unusable(self._database.path, error) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the database."""
        await self._database.__aexit__()

    def enqueue(self, job: NewJob) -> asyncio.Future[bool]:
        """Put a job on disk; the result is False when its idempotency key is already there."""

        def operation(db: sqlite3.Connection) -> bool:
            values = {name: getattr(job, name) for name in _NEW} | {"seed": str(job.seed)}
            return db.execute(_INSERT, values).rowcount == 1

        return self.writer.submit(operation, patient=False)

    def claim(
        self, job_id: JobId, place: Whereabouts, *, now_ms: int, startup: Startup | None = None
    ) -> asyncio.Future[bytes | None]:
        """Hand a queued job to a worker; the result is its request, or None when it is not queued any more.

        It need not be waited for by who has the request already: a crash before it is on disk leaves the job queued.
        """

        def operation(db: sqlite3.Connection) -> bytes | None:
            row = db.execute(
                f"UPDATE jobs SET state = 'dispatched', attempt = ?, worker_id = ?, pool_id = ?, "
                f"dispatched_ms = coalesce(dispatched_ms, ?) WHERE id = ? AND state IN {_from(Move.CLAIM)} "
                "RETURNING seq, request",
                (place.attempt, place.worker_id, place.pool_id, now_ms, job_id),
            ).fetchone()
            if row is None:
                return None
            attempts.begin(db, row[0], place, startup=startup, now_ms=now_ms)
            request: bytes = row[1]
            return request

        return self.writer.submit(operation)

    def start(
        self, job_id: JobId, *, engine: str | None, tokens_in: int | None, event_serial: int, now_ms: int
    ) -> None:
        """Note, with the next commit, that a worker has begun; a job being cancelled stays so."""

        def operation(db: sqlite3.Connection) -> None:
            db.execute(
                f"UPDATE jobs SET state = 'running', engine = coalesce(?, engine), tokens_in = coalesce(tokens_in, ?), "
                f"started_ms = coalesce(started_ms, ?), started_event = coalesce(started_event, ?) "
                f"WHERE id = ? AND state IN {_from(Move.START)}",
                (engine, tokens_in, now_ms, event_serial, job_id),
            )

        _ = self.writer.submit(operation)

    def told(self, seq: int, attempt: int, event: bytes) -> None:
        """Keep, with the next commit, the `started` event of an attempt as readers get it."""
        statement = "UPDATE attempts SET started = ? WHERE job_seq = ? AND number = ?"
        _ = self.writer.submit(lambda db: db.execute(statement, (event, seq, attempt)).rowcount)

    def first_token(self, job_id: JobId, *, now_ms: int) -> None:
        """Note, with the next commit, when a job's first token came."""
        statement = "UPDATE jobs SET first_token_ms = coalesce(first_token_ms, ?) WHERE id = ?"
        _ = self.writer.submit(lambda db: db.execute(statement, (now_ms, job_id)).rowcount)

    def keep_worker(self, worker_id: str, keep_alive_s: float) -> None:
        """Note, with the next commit, how long a worker is kept once it is idle; of the last `MOST_KEPT` workers."""

        def operation(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT OR REPLACE INTO kept_workers (worker_id, keep_alive_s) VALUES (?, ?)", (worker_id, keep_alive_s)
            )
            last = "SELECT seq FROM kept_workers ORDER BY seq DESC LIMIT ?"
            db.execute(f"DELETE FROM kept_workers WHERE seq NOT IN ({last})", (MOST_KEPT,))

        _ = self.writer.submit(operation)

    async def kept_workers(self) -> list[tuple[str, float]]:
        """Return what `keep_worker` has noted of the last `MOST_KEPT`, oldest first."""
        statement = "SELECT worker_id, keep_alive_s FROM kept_workers ORDER BY seq"
        return await self.reader.read(lambda db: db.execute(statement).fetchall())

    def append(self, seq: int, chunk: Chunk, *, done: Callable[[], None]) -> None:
        """Add token events to a job's output, with the next commit; *done* is called when they are on disk."""
        written = self.writer.submit(lambda db: output.add(db, seq, chunk))
        written.add_done_callback(partial(_when_written, done=done))

    async def requeue(self, job_id: JobId, *, outcome: str, not_before_ms: int, now_ms: int) -> bool:
        """End an attempt and put its job back into the queue; False when it was cancelled meanwhile."""

        def operation(db: sqlite3.Connection) -> bool:
            row = db.execute(
                f"UPDATE jobs SET state = 'queued', not_before_ms = ?, worker_id = NULL, pool_id = NULL "
                f"WHERE id = ? AND state IN {_from(Move.REQUEUE)} RETURNING seq, attempt",
                (not_before_ms, job_id),
            ).fetchone()
            if row is not None:
                attempts.end(db, row[0], row[1], outcome=outcome, now_ms=now_ms)
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
                f"tokens_in = coalesce(?, tokens_in), tokens_cached = ?, tokens_out = ?, pieces = ?, decode_ms = ?, "
                f"stop_reason = ?, "
                f"first_token_ms = coalesce(first_token_ms, ?), output_sha256 = ?, error_code = ?, "
                f"error_message = ?, error_retriable = ?, error_details = ? "
                f"WHERE id = ? AND state IN {_ending(move)} RETURNING seq, attempt",
                (
                    target,
                    ending.finished_ms,
                    ending.event_serial,
                    ending.tokens_in,
                    ending.tokens_cached,
                    ending.tokens_out,
                    ending.pieces,
                    ending.decode_ms,
                    ending.stop_reason,
                    ending.first_token_ms,
                    ending.output_sha256,
                    ending.error_code,
                    ending.error_message,
                    ending.error_retriable,
                    ending.error_details,
                    job_id,
                ),
            ).fetchone()
            if row is None:
                return None
            attempts.end(db, row[0], row[1], outcome=ending.error_code or target, now_ms=ending.finished_ms)
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

    async def whereabouts(self, seq: int) -> Whereabouts | None:
        """Return where a job's last attempt runs; None when it has ended."""
        statement = (
            "SELECT number, worker_id, pool_id, worker_url, worker_token, tokens_before FROM attempts "
            "WHERE job_seq = ? AND worker_url IS NOT NULL ORDER BY number DESC LIMIT 1"
        )
        row = await self.reader.read(lambda db: db.execute(statement, (seq,)).fetchone())
        return None if row is None else Whereabouts(*row)

    async def attempts(self, seq: int) -> list[AttemptRow]:
        """Return a job's attempts, oldest first."""
        names = [field.name for field in fields(AttemptRow)]
        statement = f"SELECT {', '.join(names)} FROM attempts WHERE job_seq = ? ORDER BY number"
        rows = await self.reader.read(lambda db: db.execute(statement, (seq,)).fetchall())
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

    async def unfinished(self, *, after_seq: int, limit: int) -> list[JobRow]:
        """Return jobs that are not final, in order of submission, from behind *after_seq*.

        Raises:
            InvalidConfiguration: The database is damaged.
        """
        final = ", ".join(f"'{state}'" for state in FINAL)
        try:
            return await self._many(f"state NOT IN ({final}) AND seq > ? ORDER BY seq LIMIT ?", after_seq, limit)
        except sqlite3.DatabaseError as error:
            raise unusable(self._database.path, error) from None

    async def last_seq(self) -> int:
        """Return the highest sequence number in use; 0 when there is none."""
        row = await self.reader.read(lambda db: db.execute("SELECT coalesce(max(seq), 0) FROM jobs").fetchone())
        seq: int = row[0]
        return seq

    async def output(self, seq: int, *, start: int, limit: int = 16) -> list[tuple[int, int, bytes]]:
        """Return stored token events as (first, count, events), from the chunk that holds index *start* on."""
        return await self.reader.read(lambda db: output.chunks(db, seq, start=start, limit=limit))

    async def generated(self, seq: int) -> Generated:
        """Return what the stored output of a job was made of."""
        return await self.reader.read(lambda db: output.generated(db, seq))

    async def erase_outputs(self, *, finished_from_ms: int, finished_before_ms: int) -> int:
        """Erase the output of jobs that ended in that time; return of how many there was any."""
        statement = (
            "SELECT seq FROM jobs WHERE finished_ms >= ? AND finished_ms < ? AND "
            "EXISTS (SELECT 1 FROM output WHERE job_seq = seq)"
        )
        values = (finished_from_ms, finished_before_ms)
        found = await self.reader.read(lambda db: db.execute(statement, values).fetchall())
        return len(await output.erase(self.writer, [seq for (seq,) in found]))

    async def purge(self, *, finished_before_ms: int) -> int:
        """Delete jobs that ended before then; return how many."""
        statement = "SELECT seq FROM jobs WHERE finished_ms < ?"
        found = await self.reader.read(lambda db: db.execute(statement, (finished_before_ms,)).fetchall())
        seqs = [seq for (seq,) in found]
        await output.erase(self.writer, seqs)
        for start in range(0, len(seqs), AT_ONCE):
            await self.writer.write(partial(_forget, seqs=seqs[start : start + AT_ONCE]), patient=False)
        return len(seqs)

    async def checkpoint(self) -> None:
        """Move what the write-ahead log holds into the database and empty it; fails as `erase_log` tells."""
        await erase_log(self.writer)

    async def _one(self, where: str, *values: object) -> JobRow | None:
        rows = await self._many(where, *values)
        return rows[0] if rows else None

    async def _many(self, where: str, *values: object) -> list[JobRow]:
        statement = f"SELECT {_COLUMNS} FROM jobs WHERE {where}"  # only our own texts get here
        rows = await self.reader.read(lambda db: db.execute(statement, values).fetchall())
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


def _forget(db: sqlite3.Connection, *, seqs: list[int]) -> None:
    db.executemany("DELETE FROM jobs WHERE seq = ?", [(seq,) for seq in seqs])
