"""A store that is open, with its writer running, and jobs to put into it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from llorch.job import JobId, State
from roles.orchestrator.state.rows import JobRow, NewJob, Whereabouts
from roles.orchestrator.state.store import Store


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Store]:
    """Open a store and run its writer for the length of the block."""
    async with Store(path) as store, asyncio.TaskGroup() as tasks:
        writer = tasks.create_task(store.writer.run())
        yield store
        await store.writer.flush()
        writer.cancel()


def place(attempt: int, *, worker_id: str = "w") -> Whereabouts:
    """Return where an attempt runs."""
    return Whereabouts(attempt, worker_id, "p", "http://127.0.0.1:9", "the worker's own token", 0)


def new_job(seq: int, **changes: Any) -> NewJob:  # noqa: ANN401 - fields of several types
    """Return a job as admission makes it."""
    fields: dict[str, Any] = {
        "seq": seq,
        "id": JobId(f"job-{seq}"),
        "model": "m",
        "model_ref": "file:/m.gguf",
        "request": b'{"prompt":"secret words"}',
        "prompt_sha256": "aa",
        "priority": "interactive",
        "session_id": None,
        "owner": "",
        "correlation_id": "c",
        "on_disconnect": "continue",
        "seed": 7,
        "max_tokens": 4,
        "tag": seq,
        "idempotency_key": None,
        "request_sha256": "bb",
        "submitted_ms": 1_000 + seq,
        "deadline_ms": 9_000,
    }
    return NewJob(**fields | changes)


def row(**changes: Any) -> JobRow:  # noqa: ANN401 - fields of several types
    """Return a job as it is on disk: one that waits, unless *changes* say otherwise."""
    empty: dict[str, Any] = dict.fromkeys(field.name for field in fields(JobRow))
    known: dict[str, Any] = {
        "seq": 1,
        "id": JobId("j"),
        "state": State.QUEUED,
        "model": "haiku",
        "model_ref": "file:/builtin/haiku.gguf",
        "prompt_sha256": "aa",
        "priority": "interactive",
        "owner": "",
        "correlation_id": "c-1",
        "on_disconnect": "continue",
        "seed": 7,
        "kind": "text-gen",
        "max_tokens": 5,
        "tag": 3,
        "request_sha256": "bb",
        "submitted_ms": 1_000,
        "deadline_ms": 301_000,
        "not_before_ms": 0,
        "attempt": 0,
        "pieces": 0,
    }
    return JobRow(**empty | known | changes)
