"""SQL about files and batches. One operation is one transaction, run by the single writer."""
# ruff: noqa: S608

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial

from llorch.job import FINAL
from llorch.wire.batches import BatchStatus, Purpose
from roles.orchestrator.state.writer import Reader, Writer

STRETCH = 500
"""Rows that one transaction adds or erases at most."""
ANSWERS = 64
"""Answers that are read at once: one can be long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """A file as the database knows it."""

    id: str
    filename: str
    purpose: Purpose
    bytes: int
    created_ms: int
    kept_from_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """A batch as it is on disk."""

    seq: int
    id: str
    status: BatchStatus
    endpoint: str
    input_file_id: str
    metadata: str | None
    owner: str
    correlation_id: str
    created_ms: int
    expires_ms: int
    in_progress_ms: int | None
    finalizing_ms: int | None
    cancelling_ms: int | None
    ended_ms: int | None
    total: int
    completed: int
    failed: int
    errors: str | None
    output_file_id: str | None
    error_file_id: str | None


@dataclass(frozen=True, slots=True)
class LineRow:
    """A request of a batch: where it is, and its answer once there is one."""

    number: int
    custom_id: str
    start: int
    outcome: str | None = None
    answer: bytes | None = None


_FILE = [field.name for field in fields(FileRow)]
_BATCH = [field.name for field in fields(BatchRow)]
_UNFINISHED = "SELECT id FROM jobs WHERE owner = ? AND idempotency_key >= ? AND idempotency_key < ? AND state NOT IN "
_UNFINISHED += "(" + ", ".join(f"'{state}'" for state in FINAL) + ")"


class BatchTables:
    """Files and batches on disk, in an open database."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def add_file(self, row: FileRow) -> None:
        """Note a file that is in the folder."""
        await self._writer.write(partial(_add_file, row=row), patient=False)

    async def file(self, file_id: str) -> FileRow | None:
        """Return a file."""
        found = await self._files("id = ?", file_id)
        return found[0] if found else None

    async def files(self, *, after: str | None, purpose: str | None, limit: int, newest: bool) -> list[FileRow]:
        """Return files in the order in which they came, or the other way round, from behind *after*."""
        order, sign = ("DESC", "<") if newest else ("ASC", ">")
        where = [f"seq {sign} (SELECT seq FROM files WHERE id = ?)"] if after is not None else []
        where += ["purpose = ?"] if purpose is not None else []
        given = [value for value in (after, purpose) if value is not None]
        return await self._files(f"{' AND '.join(where) or 'true'} ORDER BY seq {order} LIMIT ?", *given, limit)

    async def stale(self, *, before_ms: int) -> list[FileRow]:
        """Return files that have been kept long enough and that no batch in work needs."""
        needed = "SELECT input_file_id FROM batches WHERE ended_ms IS NULL"
        return await self._files(f"kept_from_ms < ? AND id NOT IN ({needed}) LIMIT ?", before_ms, STRETCH)

    async def forget_file(self, file_id: str) -> bool:
        """Forget a file; False when a batch in work needs it, or it is not there."""
        statement = (
            "DELETE FROM files WHERE id = ? AND NOT EXISTS "
            "(SELECT 1 FROM batches WHERE input_file_id = files.id AND ended_ms IS NULL)"
        )
        return await self._writer.write(lambda db: db.execute(statement, (file_id,)).rowcount == 1)

    async def names(self) -> set[str]:
        """Return the ids of all files."""
        statement = "SELECT id FROM files"
        return {row[0] for row in await self._reader.read(lambda db: db.execute(statement).fetchall())}

    async def add_batch(self, row: BatchRow) -> bool:
        """Put a batch on disk, its `seq` is drawn; False when its input file is not there any more."""
        names = [name for name in _BATCH if name != "seq"]
        statement = (
            f"INSERT INTO batches ({', '.join(names)}) SELECT {', '.join(':' + name for name in names)} "
            "WHERE EXISTS (SELECT 1 FROM files WHERE id = :input_file_id)"
        )
        values = {name: getattr(row, name) for name in names}
        return await self._writer.write(lambda db: db.execute(statement, values).rowcount == 1, patient=False)

    async def batch(self, batch_id: str) -> BatchRow | None:
        """Return a batch."""
        found = await self._batches("id = ?", batch_id)
        return found[0] if found else None

    async def batches(self, *, after: str | None, limit: int) -> list[BatchRow]:
        """Return batches, newest first, from behind *after*."""
        where = "seq < (SELECT seq FROM batches WHERE id = ?)" if after is not None else "true"
        given = [after] if after is not None else []
        return await self._batches(f"{where} ORDER BY seq DESC LIMIT ?", *given, limit)

    async def in_work(self) -> list[BatchRow]:
        """Return the batches that have not ended, oldest first."""
        return await self._batches("ended_ms IS NULL ORDER BY seq")

    async def begin_lines(self, seq: int) -> None:
        """Forget the lines of a batch whose file is read (again) from its beginning."""
        await self._writer.write(lambda db: db.execute("DELETE FROM batch_lines WHERE batch_seq = ?", (seq,)).rowcount)

    async def add_lines(self, seq: int, lines: Sequence[LineRow]) -> LineRow | None:
        """Add requests to a batch; return the first whose custom_id another one has."""
        statement = (
            "INSERT INTO batch_lines (batch_seq, number, custom_id, start) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (batch_seq, custom_id) DO NOTHING"
        )

        def operation(db: sqlite3.Connection) -> LineRow | None:
            for line in lines:
                if not db.execute(statement, (seq, line.number, line.custom_id, line.start)).rowcount:
                    return line
            return None

        return await self._writer.write(operation)

    async def settled(self) -> None:
        """Return when everything that was asked for is on disk, also what nobody waits for any more."""
        await self._writer.flush()

    async def lines(self, seq: int, *, after: int, limit: int = ANSWERS, pending: bool = False) -> list[LineRow]:
        """Return requests of a batch in order, from behind line *after*; with *pending* those without an answer."""
        statement = (
            "SELECT number, custom_id, start, outcome, answer FROM batch_lines WHERE batch_seq = ? AND number > ? "
            f"{'AND outcome IS NULL' if pending else ''} ORDER BY number LIMIT ?"
        )
        rows = await self._reader.read(lambda db: db.execute(statement, (seq, after, limit)).fetchall())
        return [LineRow(*row) for row in rows]

    async def answer(self, seq: int, line: LineRow) -> None:
        """Keep a request's answer, unless it has one, and count it."""

        def operation(db: sqlite3.Connection) -> None:
            statement = (
                "UPDATE batch_lines SET outcome = ?, answer = ? WHERE batch_seq = ? AND number = ? AND outcome IS NULL"
            )
            if db.execute(statement, (line.outcome, line.answer, seq, line.number)).rowcount:
                column = "completed" if line.outcome == "completed" else "failed"
                db.execute(f"UPDATE batches SET {column} = {column} + 1 WHERE seq = ?", (seq,))

        await self._writer.write(operation)

    async def advance(self, seq: int, source: BatchStatus, target: BatchStatus, *, now_ms: int, total: int = 0) -> bool:
        """Move a batch from one state to the next; False when it is in another by now."""
        column = {"in_progress": "in_progress_ms", "finalizing": "finalizing_ms"}[target]
        statement = (
            f"UPDATE batches SET status = ?, {column} = ?, total = CASE WHEN ? THEN ? ELSE total END "
            "WHERE seq = ? AND status = ?"
        )
        values = (target, now_ms, total, total, seq, source)
        return await self._writer.write(lambda db: db.execute(statement, values).rowcount == 1)

    async def cancel(self, batch_id: str, *, now_ms: int) -> None:
        """Begin to cancel a batch that has not ended."""
        statement = (
            "UPDATE batches SET status = 'cancelling', cancelling_ms = ? WHERE id = ? AND status IN "
            "('validating', 'in_progress')"
        )
        await self._writer.write(lambda db: db.execute(statement, (now_ms, batch_id)).rowcount)

    async def end(
        self, batch: BatchRow, status: BatchStatus, *, now_ms: int, files: Sequence[FileRow], errors: str | None = None
    ) -> None:
        """End a batch in one transaction with the files that hold its answers; its input is kept from now on."""
        kinds = {file.id.rpartition("-")[2]: file.id for file in files}

        def operation(db: sqlite3.Connection) -> None:
            for file in files:
                _add_file(db, file)
            db.execute(
                "UPDATE batches SET status = ?, ended_ms = ?, errors = ?, output_file_id = ?, error_file_id = ? "
                "WHERE seq = ? AND ended_ms IS NULL",
                (status, now_ms, errors, kinds.get("output"), kinds.get("error"), batch.seq),
            )
            db.execute("UPDATE files SET kept_from_ms = ? WHERE id = ?", (now_ms, batch.input_file_id))

        await self._writer.write(operation)

    async def unfinished_jobs(self, batch: BatchRow) -> list[str]:
        """Return the jobs of a batch that have not ended."""
        values = (batch.owner, f"{batch.id}/", f"{batch.id}0")  # "0" comes behind "/"
        rows = await self._reader.read(lambda db: db.execute(_UNFINISHED, values).fetchall())
        return [row[0] for row in rows]

    async def forget_lines(self) -> None:
        """Erase the lines of batches that have ended: their answers are in files."""
        statement = (
            "DELETE FROM batch_lines WHERE rowid IN (SELECT batch_lines.rowid FROM batches JOIN batch_lines "
            "ON batch_seq = seq WHERE ended_ms IS NOT NULL LIMIT ?)"
        )
        while await self._writer.write(lambda db: db.execute(statement, (STRETCH,)).rowcount):
            pass

    async def purge(self, *, ended_before_ms: int) -> None:
        """Forget batches that ended before then."""
        statement = "DELETE FROM batches WHERE ended_ms < ?"
        await self._writer.write(lambda db: db.execute(statement, (ended_before_ms,)).rowcount)

    async def _files(self, where: str, *values: object) -> list[FileRow]:
        statement = f"SELECT {', '.join(_FILE)} FROM files WHERE {where}"  # only our own texts get here
        rows = await self._reader.read(lambda db: db.execute(statement, values).fetchall())
        return [FileRow(**dict(zip(_FILE, row, strict=True))) for row in rows]

    async def _batches(self, where: str, *values: object) -> list[BatchRow]:
        statement = f"SELECT {', '.join(_BATCH)} FROM batches WHERE {where}"  # only our own texts get here
        rows = await self._reader.read(lambda db: db.execute(statement, values).fetchall())
        return [BatchRow(**dict(zip(_BATCH, row, strict=True))) for row in rows]


def _add_file(db: sqlite3.Connection, row: FileRow) -> None:
    names = ", ".join(_FILE)
    marks = ", ".join(":" + name for name in _FILE)
    values = {name: getattr(row, name) for name in _FILE}
    db.execute(f"INSERT OR IGNORE INTO files ({names}) VALUES ({marks})", values)
