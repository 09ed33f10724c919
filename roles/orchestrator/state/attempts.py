"""The rows of attempts: what is written when a job goes to a worker, and when that is over. Part of the store's SQL."""

from __future__ import annotations

import sqlite3
from dataclasses import astuple

from roles.orchestrator.scheduler.startup import Startup
from roles.orchestrator.state.rows import Whereabouts

_NOT_TOLD = (None,) * 4


def begin(db: sqlite3.Connection, seq: int, place: Whereabouts, *, startup: Startup | None, now_ms: int) -> None:
    """Write down where a job goes, and how its worker came to be if that was while it waited."""
    db.execute(
        "INSERT INTO attempts (job_seq, dispatched_ms, asked_ms, fetched_ms, loading_ms, ready_ms, "
        "number, worker_id, pool_id, worker_url, worker_token, tokens_before) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (seq, now_ms, *(astuple(startup) if startup else _NOT_TOLD), *astuple(place)),
    )


def end(db: sqlite3.Connection, seq: int, number: int, *, outcome: str, now_ms: int) -> None:
    """Write down how an attempt ended; where its worker was is forgotten."""
    db.execute(
        "UPDATE attempts SET ended_ms = ?, outcome = ?, worker_url = NULL, worker_token = NULL "
        "WHERE job_seq = ? AND number = ? AND ended_ms IS NULL",
        (now_ms, outcome, seq, number),
    )
