"""SQL about the token events of jobs: runs of them, each behind the last, until retention erases them."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Sequence
from functools import partial

from llorch.job import JobId
from roles.orchestrator.state.rows import Chunk, Generated
from roles.orchestrator.state.writer import Writer

MAX_READ_BYTES = 1024 * 1024
"""No more is read at once, but for one chunk."""
MAX_ERASED_BYTES = 1024 * 1024
"""No more is erased in one transaction, but for one chunk: each page is overwritten, and submissions wait meanwhile."""
ROW_BYTES = 1024
"""What erasing a chunk costs besides its bytes, in bytes."""
LOOKED_AT = 500
"""Jobs that one transaction looks at."""


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


async def erase(writer: Writer, seqs: Sequence[int]) -> set[int]:
    """Erase the output of jobs that have ended, so little at once that nobody waits for it; return which had any.

    Raises:
        BusyError: The database cannot be written; what was erased until then is gone.
    """
    gone: set[int] = set()
    start = 0
    while start < len(seqs):
        found, done = await writer.write(partial(erase_some, seqs=seqs[start : start + LOOKED_AT]), patient=False)
        gone |= found
        start += done
    return gone


def erase_some(db: sqlite3.Connection, seqs: Sequence[int]) -> tuple[set[int], int]:
    """Erase up to `MAX_ERASED_BYTES` of the output of jobs; return which had any, and how many have none left.

    Each is erased from its end, so that who reads one meanwhile gets its beginning and no gap.
    """
    statement = (
        "SELECT first, length(events) + coalesce(length(ids), 0) FROM output WHERE job_seq = ? ORDER BY first DESC"
    )
    gone: set[int] = set()
    left = MAX_ERASED_BYTES
    for done, seq in enumerate(seqs):
        for first, size in db.execute(statement, (seq,)).fetchall():
            if left <= 0:
                return gone, done
            db.execute("DELETE FROM output WHERE job_seq = ? AND first = ?", (seq, first))
            left -= size + ROW_BYTES
            gone.add(seq)
    return gone, len(seqs)
