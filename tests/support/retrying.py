"""Waits for the next attempt of a job, and tells how the earlier ones ended."""

from __future__ import annotations

from llorch.wire.tasks import Task
from tests.support.orchestrating import BACK_OFF_MS, System


async def again(system: System, job_id: str, *, after: int) -> Task:
    """Wait until attempt number *after* has failed, then let the time to the next one pass."""
    waiting = await system.until(job_id, lambda task: task.status == "queued" and task.attempts == after)
    system.advance(BACK_OFF_MS)
    return waiting


def outcomes(task: Task) -> list[object]:
    """Return how each attempt ended."""
    assert isinstance(task.attempt_log, list)
    return [attempt.outcome for attempt in task.attempt_log]
