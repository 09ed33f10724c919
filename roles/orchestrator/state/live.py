"""The statement behind the overview of the queue: the jobs that are busy, wait first, or ended lately. Only reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, fields

from llorch.job import JobId, State
from llorch.wire.embedding import Capability
from llorch.wire.tasks import Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRow:
    """What the overview needs of a job's row."""

    id: JobId
    state: State
    model: str
    priority: Priority
    session_id: str | None
    submitted_ms: int
    started_ms: int | None
    finished_ms: int | None
    attempt: int
    worker_id: str | None
    pool_id: str | None
    max_tokens: int
    tokens_out: int | None
    error_code: str | None
    kind: Capability


_NAMES = [field.name for field in fields(LiveRow)]
_SELECT = f"SELECT {', '.join(_NAMES)} FROM jobs "  # noqa: S608 - our own column names
_BUSY = _SELECT + "WHERE state IN ('dispatched', 'running', 'cancelling') ORDER BY seq LIMIT ?"
_ONE = _SELECT + "WHERE id = ?"
_ENDED = _SELECT + "WHERE finished_ms >= ? ORDER BY finished_ms DESC LIMIT ?"


def live(
    db: sqlite3.Connection, *, waiting: Sequence[JobId], finished_since_ms: int | None, limit: int
) -> list[LiveRow]:
    """Return busy jobs, the *waiting* ones as given, and those that ended since then, newest first.

    At most *limit* of each; a job that moves meanwhile is there once.
    """
    rows = db.execute(_BUSY, (limit,)).fetchall()
    rows += [row for job_id in waiting if (row := db.execute(_ONE, (job_id,)).fetchone()) is not None]
    if finished_since_ms is not None:
        rows += db.execute(_ENDED, (finished_since_ms, limit)).fetchall()
    return list({row[0]: _live(row) for row in rows}.values())


def busy(db: sqlite3.Connection) -> int:
    """Return how many jobs have a worker."""
    statement = "SELECT count(*) FROM jobs WHERE state IN ('dispatched', 'running', 'cancelling')"
    count: int = db.execute(statement).fetchone()[0]
    return count


def _live(values: tuple[object, ...]) -> LiveRow:
    named = dict(zip(_NAMES, values, strict=True))
    return LiveRow(**named | {"state": State(str(named["state"]))})  # type: ignore[arg-type]  # the table is STRICT
