"""A disk that takes nothing for longer than a worker may be silent: the worker is not blamed for it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from llorch.job import JobId
from roles.orchestrator.app import DATABASE
from roles.orchestrator.stream import MAX_UNSTORED_TOKENS
from tests.support.orchestrating import QUIET, ScriptedWorker, both
from tests.support.scripts import Call, well_behaved

STALL_S = 2.0


async def test_an_attempt_that_waits_for_the_disk_is_not_taken_for_stalled(tmp_path: Path) -> None:
    held, full = asyncio.Event(), asyncio.Event()

    async def long(call: Call) -> None:
        await held.wait()
        await call.started()
        await call.raw(b"".join(call.encoded("a ", [1]) for _ in range(2 * MAX_UNSTORED_TOKENS)))
        await call.end()

    async def silent(call: Call) -> None:
        await full.wait()
        await call.started()
        await call.cancelled.wait()

    async def play(call: Call) -> None:
        first = call.body.attempt == 1
        await (well_behaved if not first else long if call.body.prompt == "long" else silent)(call)

    worker = ScriptedWorker(play)
    async with both(tmp_path, worker, stall_timeout_s=STALL_S, **QUIET) as system, asyncio.timeout(30):
        job = await system.submit(prompt="long")
        other = await system.submit(prompt="silent")
        while len(worker.asked) < 2:
            await asyncio.sleep(0)
        with closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as another_program:
            another_program.execute("BEGIN IMMEDIATE")
            held.set()
            while (stream := system.core.relay.find(JobId(job.job_id))) is None or not stream.congested:
                await asyncio.sleep(0)
            full.set()
            while other.job_id not in worker.cancels:  # one that began later was silent for too long
                await asyncio.sleep(0)
        done = await system.reached(job.job_id, "completed")

    assert worker.cancels == [other.job_id]
    assert (done.attempts, done.tokens_out) == (1, 2 * MAX_UNSTORED_TOKENS)
