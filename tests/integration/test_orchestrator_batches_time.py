"""Batches that have more time than a job, and several at once, on a real orchestrator with a scripted worker."""

from __future__ import annotations

import asyncio
from pathlib import Path

from llorch.wire.tasks import MAX_TIMEOUT_MS, TaskPage
from roles.orchestrator.batches.lines import WINDOW
from tests.support.batching import begun, ended, jsonl, library, request, results
from tests.support.orchestrating import QUIET, ScriptedWorker, orchestrator, scripted
from tests.support.scripts import Call, well_behaved


async def test_a_line_whose_job_waited_for_most_of_its_time_is_asked_again_when_the_rest_was_too_short(
    tmp_path: Path,
) -> None:
    go = asyncio.Event()

    async def busy_then_slow(call: Call) -> None:
        if len(worker.asked) == 1:
            await go.wait()
        if len(worker.asked) == 2:
            await call.started()
            await call.cancelled.wait()
            await call.fail("CANCELLED", retriable=False)
        else:
            await well_behaved(call)

    worker = ScriptedWorker(slots=1, script=busy_then_slow)
    async with scripted(worker), orchestrator(tmp_path, **QUIET) as system, library(system) as ai:
        await system.register(worker)
        batch = await begun(ai, jsonl([request(1), request(2)]))
        async with asyncio.timeout(30):
            while not worker.asked or len((await system.client.send("GET", "/v2/tasks", TaskPage)).tasks) < 2:
                await asyncio.sleep(0.02)
        system.advance(MAX_TIMEOUT_MS - 2_500)
        go.set()
        done = await ended(ai, batch)
        good = await results(ai, done.output_file_id)
        page = await system.client.send("GET", "/v2/tasks", TaskPage)

    assert sorted(good) == ["line 1", "line 2"]
    assert done.error_file_id is None
    assert sorted(task.status for task in page.tasks) == ["completed", "completed", "failed"]


async def test_a_batch_behind_a_long_one_has_a_job_before_any_line_of_that_is_answered(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def held(call: Call) -> None:
        await go.wait()
        await well_behaved(call)

    worker = ScriptedWorker(slots=1, script=held)
    async with scripted(worker), orchestrator(tmp_path, **QUIET) as system, library(system) as ai:
        await system.register(worker)
        long = await begun(ai, jsonl([request(number) for number in range(WINDOW + 20)]))
        async with asyncio.timeout(30):
            while len(system.core.dispatcher.queue) < WINDOW - 1:
                await asyncio.sleep(0.02)
        short = await begun(ai, jsonl([request(1)]))
        async with asyncio.timeout(30):
            while not (await system.client.send("GET", "/v2/tasks", TaskPage, params={"session_id": short.id})).tasks:
                await asyncio.sleep(0.02)
        counts = (await ai.batches.retrieve(long.id)).request_counts
        go.set()
        done = await ended(ai, short)

    assert counts is not None
    assert counts.completed == 0
    assert done.request_counts is not None
    assert done.request_counts.completed == 1
