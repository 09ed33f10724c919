"""SQL about the token events of jobs: runs of them, each behind the last, until retention erases them."""

from __future__ import annotations

import sqlite3
from array import array

from llorch.job import JobId
from roles.orchestrator.state.rows import Chunk, Generated

MAX_READ_BYTES = 1024 * 1024
"""No more is read at once, but for one chunk."""


def add(db: sqlite3.Connection, seq: int, chunk: Chunk) -> None:
    """Add token events to a job's output, unless they are there."""
    db.execute(
        "INSERT OR IGNORE INTO output (job_seq, first, count, events, ids, held) VALUES (?, ?, ?, ?, ?, ?)",
        (seq, chunk.first, chunk.count, chunk.events, chunk.ids, chunk.held),
    )


def end(db: sqlite3.Connection, seq: int, job_id: JobId) -> int | None:
    """Return how many token events of a job are stored; None when it has ended or *seq* is another job's."""
    row = db.execute(
        "SELECT coalesce((SELECT max(first + count) FROM output WHERE job_seq = seq), 0) FROM jobs "
        "WHERE seq = ? AND id = ? AND state NOT IN ('completed', 'failed', 'cancelled')",
        (seq, job_id),
    ).fetchone()
    return None if row is None else int(row[0])


def chunks(db: sqlite3.Connection, seq: int, *, start: int, limit: int) -> list[tuple[int, int, bytes]]:
    """Return token events as (first, count, events), from the chunk that holds index *start* on; at most *limit*."""
    statement = "SELECT first, count, events FROM output WHERE job_seq = ? AND first + count > ? ORDER BY first LIMIT ?"
    found: list[tuple[int, int, bytes]] = []
    size = 0
    for row in db.execute(statement, (seq, start, limit)):
        found.append(row)
        size += len(row[2])
        if size >= MAX_READ_BYTES:
            break
    return found


def generated(db: sqlite3.Connection, seq: int) -> Generated:
    """Return what the stored output of a job was made of."""
    statement = "SELECT first + count, ids, held FROM output WHERE job_seq = ? ORDER BY first"
    rows = db.execute(statement, (seq,)).fetchall()
    if not rows:
        return Generated(pieces=0, ids=array("i"), held="")
    known = all(ids is not None for _, ids, _ in rows)
    return Generated(
        pieces=rows[-1][0],
        ids=array("i", b"".join(ids for _, ids, _ in rows)) if known else None,
        held=rows[-1][2],
    )
