"""Pictures on their way through the orchestrator: to whom they may go, and what becomes of them when a worker dies."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from llorch.errors import RemoteError
from llorch.policy import ModelPolicy
from llorch.wire.tasks import Accepted
from tests.support.beside import data_url, png
from tests.support.orchestrating import BACK_OFF_MS, QUIET, REF, ScriptedWorker, orchestrator, scripted, text
from tests.support.scripts import dying, in_turn, second_half

PROJECTOR = "file:/models/projector.gguf"
PICTURE = {"type": "image_url", "image_url": {"url": data_url(png(1, 2, 3))}}
MESSAGES: Any = [{"role": "user", "content": [{"type": "text", "text": "what is this?"}, PICTURE]}]


async def test_the_next_worker_gets_the_pictures_and_the_text_so_far(tmp_path: Path) -> None:
    worker = ScriptedWorker(in_turn(dying, second_half))
    policies = {REF: ModelPolicy(projector=PROJECTOR)}
    async with (
        scripted(worker),
        orchestrator(tmp_path, policies=policies, **QUIET) as system,
        asyncio.TaskGroup() as group,
    ):
        await system.register(worker, workers=[worker.report(projector=PROJECTOR)])
        job = await system.client.send("POST", "/v2/tasks", Accepted, body={"model": REF, "messages": MESSAGES})
        live = group.create_task(system.events(job.job_id))
        await system.until(job.job_id, lambda task: task.status == "queued" and task.attempts == 1)
        system.advance(BACK_OFF_MS)
        events = await live

    first, second = worker.asked
    assert text(events) == ["one ", "two ", "[2:one two ]"]
    assert isinstance(first.messages, list)
    assert first.messages == second.messages
    assert first.messages[0].images == [data_url(png(1, 2, 3))]
    assert (second.continue_text, second.continue_ids) == ("one two ", [])


async def test_a_model_whose_projector_is_not_configured_is_a_400_before_anything_is_queued(tmp_path: Path) -> None:
    worker = ScriptedWorker()
    async with scripted(worker), orchestrator(tmp_path, **QUIET) as system:
        await system.register(worker, workers=[worker.report(projector=PROJECTOR)])
        with pytest.raises(RemoteError) as refused:
            await system.client.send("POST", "/v2/tasks", Accepted, body={"model": REF, "messages": MESSAGES})
        waiting = len(system.core.dispatcher.queue)

    problem = "the model has no projector, and reads text alone"
    assert (refused.value.status, waiting, worker.asked) == (400, 0, [])
    assert refused.value.details == {"fields": [{"field": "messages[0].content[1]", "problem": problem}]}


async def test_more_pictures_than_are_allowed_are_refused_with_their_number(tmp_path: Path) -> None:
    many = [{"role": "user", "content": [PICTURE] * 17}]
    async with orchestrator(tmp_path, policies={REF: ModelPolicy(projector=PROJECTOR)}) as system:
        with pytest.raises(RemoteError, match="17 pictures are more than 16"):
            await system.client.send("POST", "/v2/tasks", Accepted, body={"model": REF, "messages": many})
