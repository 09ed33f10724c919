"""What a worker that counts a prompt says of it before the job is accepted."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from llorch.errors import EngineFailed, LlorchError, NotReady, RemoteError
from roles.orchestrator.answers import room
from tests.support.orchestrating import REF, ScriptedWorker, both


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
