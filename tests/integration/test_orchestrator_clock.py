"""A wall clock that is set back while jobs wait for their next attempt, at run time and between two orchestrators."""

from __future__ import annotations

from pathlib import Path

from tests.support.orchestrating import BACK_OFF_MS, QUIET, Clock, ScriptedWorker, both, orchestrator, scripted
from tests.support.scripts import Call, in_turn, well_behaved

HOUR_MS = 3_600_000


async def failing(call: Call) -> None:
    """Fail so that another attempt may help."""
    await call.started()
    await call.fail("ENGINE_FAILED", retriable=True)


async def test_a_clock_that_is_set_back_holds_up_no_retry(tmp_path: Path) -> None:
    async with both(tmp_path, ScriptedWorker(in_turn(failing, well_behaved)), **QUIET) as system:
        job = await system.submit()
        await system.until(job.job_id, lambda task: task.status == "queued" and task.attempts == 1)
        system.advance(-HOUR_MS)
        done = await system.reached(job.job_id, "completed")

    assert done.attempts == 2


async def test_a_clock_that_was_set_back_before_a_restart_holds_up_no_retry(tmp_path: Path) -> None:
    ahead = Clock()
    ahead.ahead_ms = HOUR_MS
    async with scripted(ScriptedWorker(in_turn(failing, well_behaved))) as worker:
        async with orchestrator(tmp_path, clock=ahead, **QUIET) as system:
            await system.register(worker)
            job = await system.submit()
            await system.until(job.job_id, lambda task: task.status == "queued" and task.attempts == 1)
        async with orchestrator(tmp_path, **QUIET) as system:
            system.advance(BACK_OFF_MS)
            await system.register(worker)
            done = await system.reached(job.job_id, "completed")

    assert done.attempts == 2
