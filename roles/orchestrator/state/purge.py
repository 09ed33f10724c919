"""Erasing jobs that have ended, at an operator's wish: a few at a time, so that nobody waits for it.

Strategy: read a stretch of the jobs that ended long enough ago, in the order they ended; erase the wanted ones of it
in transactions that take milliseconds, their texts first; go on behind it. In between, the writer serves everybody.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from llorch.wire.operations import FinalState, Purge, Purged
from roles.orchestrator.state import output
from roles.orchestrator.state.database import erase_log
from roles.orchestrator.state.writer import Writer

STRETCH = 1_000
AT_ONCE = 50
CALL_S = 10.0
_ENDED = (
    "SELECT finished_ms, seq, state, EXISTS (SELECT 1 FROM output WHERE job_seq = seq) FROM jobs "
    "WHERE finished_ms < ? AND (finished_ms, seq) > (?, ?) ORDER BY finished_ms, seq LIMIT ?"
)
_JOB = "DELETE FROM jobs WHERE seq = ? AND state IN ('completed', 'failed', 'cancelled')"


class Ended(NamedTuple):
    """A job that has ended; `kept` says that its text is still there."""

    finished_ms: int
    seq: int
    state: FinalState
    kept: bool


async def purge(writer: Writer, wanted: Purge, *, now_ms: int) -> Purged:
    """Erase what is wanted, or count it; after `CALL_S` seconds say that there is more.

    Raises:
        BusyError: The database cannot be written; what was erased until then is gone.
    """
    give_up = asyncio.get_running_loop().time() + CALL_S
    before_ms = now_ms - wanted.older_than_ms
    gone: list[Ended] = []
    counts: Counter[FinalState] = Counter()
    outputs, more, behind = 0, False, (-1, -1)
    while not more and (stretch := await writer.read(partial(ended, before_ms=before_ms, behind=behind))):
        behind = stretch[-1].finished_ms, stretch[-1].seq
        gone = [job for job in stretch if job.state in wanted.statuses and (job.kept or not wanted.outputs_only)]
        if not wanted.dry_run:
            gone = await _erase(writer, gone, outputs_only=wanted.outputs_only)
            more = asyncio.get_running_loop().time() >= give_up
        counts.update(job.state for job in gone)
        outputs += sum(job.kept for job in gone)
    if counts and not wanted.dry_run:
        await erase_log(writer)
    return Purged(jobs=dict(counts), outputs=outputs, more=more)


def ended(db: sqlite3.Connection, *, before_ms: int, behind: tuple[int, int]) -> list[Ended]:
    """Return the next jobs that ended before then, oldest end first."""
    rows = db.execute(_ENDED, (before_ms, *behind, STRETCH)).fetchall()
    return [Ended(finished_ms, seq, state, bool(kept)) for finished_ms, seq, state, kept in rows]


async def _erase(writer: Writer, jobs: Sequence[Ended], *, outputs_only: bool) -> list[Ended]:
    """Erase jobs or their texts, a few in a transaction; return those that were still there."""
    erased = await output.erase(writer, [job.seq for job in jobs if job.kept])
    if outputs_only:
        return [job for job in jobs if job.seq in erased]

    def forget(db: sqlite3.Connection, some: Sequence[Ended]) -> list[Ended]:
        return [job for job in some if db.execute(_JOB, (job.seq,)).rowcount]

    gone: list[Ended] = []
    for start in range(0, len(jobs), AT_ONCE):
        gone += await writer.write(partial(forget, some=jobs[start : start + AT_ONCE]), patient=False)
    return gone
