"""A store that is open, with its writer running, and jobs to put into it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from llorch.job import JobId
from roles.orchestrator.state.rows import NewJob
from roles.orchestrator.state.store import Store


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Store]:
    """Open a store and run its writer for the length of the block."""
    async with Store(path) as store, asyncio.TaskGroup() as tasks:
        writer = tasks.create_task(store.writer.run())
        yield store
        await store.writer.flush()
        writer.cancel()


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
