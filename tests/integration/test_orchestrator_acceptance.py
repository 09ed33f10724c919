"""What a worker that counts a prompt says of it before the job is accepted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from llorch.edge import reply
from llorch.errors import EngineFailed, LlorchError, NotReady, RemoteError
from llorch.wire.workers import TokenCount
from roles.orchestrator.answers import room
from tests.support.orchestrating import QUIET, REF, ScriptedWorker, System, both
from tests.support.scripts import until_cancelled

CAPACITY = 3


class Together(ScriptedWorker):
    """A worker that tells how long prompts are once it is asked for twice as many as may wait."""

    waiting = 0

    def __init__(self) -> None:
        super().__init__(until_cancelled, slots=1)
        self.all_there = asyncio.Event()

    async def count(self, request: web.Request) -> web.StreamResponse:
        """POST /count."""
        self.waiting += 1
        if self.waiting == 2 * CAPACITY:
            self.all_there.set()
        await self.all_there.wait()
        return reply(TokenCount(50, 4096))


@pytest.mark.parametrize("trouble", [EngineFailed("the engine has died"), NotReady("not loaded yet")])
async def test_a_worker_in_trouble_keeps_no_job_from_being_accepted(trouble: LlorchError, tmp_path: Path) -> None:
    async with both(tmp_path, ScriptedWorker(busy=trouble)) as system:
        job = await system.submit(prompt="word " * 2_000)

    assert job.status == "queued"


async def test_a_prompt_that_a_worker_counts_as_too_long_is_refused_with_its_count(tmp_path: Path) -> None:
    async with both(tmp_path, ScriptedWorker()) as system:
        with pytest.raises(RemoteError, match="5000 tokens long, the context of the model is 4096"):
            await system.submit(prompt="word " * 2_000)


async def test_an_answer_may_be_as_long_as_it_gets_where_a_file_does_not_say_the_context(tmp_path: Path) -> None:
    worker = ScriptedWorker()
    async with both(tmp_path, worker) as system:
        known = room(system.core, REF)
        model = msgspec.structs.replace(worker.registration().models[0], context_length=0)
        await system.register(worker, models=[model])
        unknown = room(system.core, REF)

    assert (known, unknown) == (4096, None)


async def test_the_queue_takes_no_more_than_its_capacity_while_prompts_are_counted(tmp_path: Path) -> None:
    async with both(tmp_path, Together(), queue_capacity=CAPACITY, **QUIET) as system:
        first = await system.submit(prompt="short")
        await system.reached(first.job_id, "running")
        async with asyncio.TaskGroup() as tasks:
            told = [tasks.create_task(outcome(system)) for _ in range(2 * CAPACITY)]
        await system.core.cancel(first.job_id)

    assert sorted(task.result() for task in told) == ["QUEUE_FULL"] * CAPACITY + ["queued"] * CAPACITY


async def outcome(system: System) -> str:
    """Submit a job whose prompt is to be counted; return what becomes of it."""
    try:
        return (await system.submit(prompt="word " * 1_000)).status
    except RemoteError as error:
        return error.code
