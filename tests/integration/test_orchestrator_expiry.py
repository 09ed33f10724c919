"""Many jobs whose time is over while they wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from roles.orchestrator.app import DATABASE
from roles.orchestrator.queue import dispatcher
from roles.orchestrator.queue.dispatcher import SETTLE_TOGETHER
from tests.support.orchestrating import QUIET, Clock, orchestrator
from tests.support.storing import new_job, opened

JOBS = SETTLE_TOGETHER * 5 // 2
LIMIT_MS = 1_000_000


async def test_jobs_whose_time_is_over_are_told_without_a_second_between_every_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    now_ms = clock()
    async with opened(tmp_path / DATABASE) as store:
        jobs = (new_job(seq, submitted_ms=now_ms, deadline_ms=now_ms + LIMIT_MS) for seq in range(1, JOBS + 1))
        for written in [store.enqueue(job) for job in jobs]:
            await written
    monkeypatch.setattr(dispatcher, "TICK_S", 1_000_000.0)  # nothing is done because a second is over
    async with orchestrator(tmp_path, clock=clock, **QUIET) as system:
        waiting = len(system.core.dispatcher.queue)
        system.advance(LIMIT_MS)
        last = await system.reached(f"job-{JOBS}", "failed")
        left = len(system.core.dispatcher.queue)

    assert (waiting, left) == (JOBS, 0)
    assert last.error is not None
    assert getattr(last.error, "code", "") == "QUEUE_TIMEOUT"
