"""What readers are told of a job that needed several attempts is the same whenever they read, restarts included."""

from __future__ import annotations

from pathlib import Path

from llorch.sse import Event
from tests.support.orchestrating import ScriptedWorker, orchestrator, scripted
from tests.support.scripts import Call, in_turn, until_cancelled, well_behaved

LASTING = {"started", "token", "end", "error"}


async def two_then_fail(call: Call) -> None:
    await call.started()
    await call.token("a ")
    await call.token("b ")
    await call.fail("ENGINE_FAILED", retriable=True)


def lasting(stream: list[Event]) -> list[Event]:
    """Leave out what is only of the moment."""
    return [event for event in stream if event.kind in LASTING]


async def test_a_late_reader_is_told_of_every_attempt_as_those_were_who_saw_it(tmp_path: Path) -> None:
    worker = ScriptedWorker(in_turn(two_then_fail, well_behaved))
    async with scripted(worker), orchestrator(tmp_path) as system:
        job = await system.submit(max_tokens=4)
        await system.register(worker)
        live = await system.events(job.job_id)
        late = await system.events(job.job_id)
    async with orchestrator(tmp_path) as system:
        later = await system.events(job.job_id)

    assert [event.kind for event in lasting(live)] == ["started", "token", "token", "started", "token", "token", "end"]
    assert late == lasting(live)
    assert later == lasting(live)


async def test_a_restarted_orchestrator_tells_of_the_attempts_that_were(tmp_path: Path) -> None:
    worker = ScriptedWorker(in_turn(two_then_fail, until_cancelled))
    async with scripted(worker), orchestrator(tmp_path, drain_s=0) as system:
        job = await system.submit(max_tokens=4)
        await system.register(worker)
        before: list[Event] = []
        async for event in system.client.events(f"/v2/tasks/{job.job_id}/events"):
            before.append(event)
            if event.id == "3.0":
                break
        await system.core.drain(0)
    worker.script = well_behaved
    async with scripted(worker), orchestrator(tmp_path) as system:
        await system.register(worker)
        again = await system.events(job.job_id)

    assert lasting(again)[: len(lasting(before))] == lasting(before)
    assert [event.kind for event in again].count("started") == 3
