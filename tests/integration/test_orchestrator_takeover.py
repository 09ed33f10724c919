"""A pool that comes back at another address: its successor is taken in at once, an impostor is not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from llorch.errors import RemoteError
from llorch.wire.pools import PoolList
from tests.support.orchestrating import QUIET, ScriptedWorker, orchestrator, scripted, text
from tests.support.scripts import Call, well_behaved


async def endpoints(system: object) -> dict[str, str]:
    """Return where the orchestrator takes its pools to be."""
    found = await system.client.send("GET", "/v2/pools", PoolList)  # type: ignore[attr-defined]
    return {pool.pool_id: pool.endpoint for pool in found.pools}


async def test_a_pool_with_the_secret_of_the_one_before_is_taken_in_at_once_and_its_jobs_go_on(
    tmp_path: Path,
) -> None:
    go_on = asyncio.Event()

    async def paused(call: Call) -> None:
        await go_on.wait()
        await well_behaved(call)

    here = ScriptedWorker(script=paused)
    async with scripted(here), scripted(ScriptedWorker()) as there, orchestrator(tmp_path, **QUIET) as system:
        await system.register(here, instance="the same")
        job = await system.submit()
        await system.reached(job.job_id, "dispatched")

        await system.register(here, endpoint=there.url, instance="the same")  # the old address answers still
        moved = await endpoints(system)
        go_on.set()
        done = await system.reached(job.job_id, "completed")
        pieces = text(await system.events(job.job_id))

    assert moved == {"pool": there.url}
    assert (done.attempts, len(here.asked)) == (1, 1)
    assert pieces


@pytest.mark.parametrize("instance", ["", "another"])
async def test_a_pool_that_only_claims_the_id_is_refused_while_the_one_before_answers(
    tmp_path: Path, instance: str
) -> None:
    async with scripted(ScriptedWorker()) as here, orchestrator(tmp_path, **QUIET) as system:
        await system.register(here, instance="")
        async with scripted(ScriptedWorker()) as there:
            with pytest.raises(RemoteError) as refused:
                await system.register(there, instance=instance)
        kept = await endpoints(system)

    assert (refused.value.code, refused.value.details) == ("CONFLICT", {"endpoint": here.url})
    assert kept == {"pool": here.url}


async def test_a_pool_takes_over_where_nobody_answers_any_more(tmp_path: Path) -> None:
    async with orchestrator(tmp_path, **QUIET) as system:
        async with scripted(ScriptedWorker()) as here:
            await system.register(here, instance="one")
        async with scripted(ScriptedWorker(worker_id="worker-2")) as there:
            await system.register(there, instance="another")
            job = await system.submit()
            done = await system.reached(job.job_id, "completed")

        assert await endpoints(system) == {"pool": there.url}
    assert done.worker_id == "worker-2"


async def test_a_pool_that_was_restarted_after_its_clock_was_set_back_is_heard_and_no_heartbeat_twice(
    tmp_path: Path,
) -> None:
    async with scripted(ScriptedWorker()) as worker, orchestrator(tmp_path, **QUIET) as system:
        await system.register(worker)
        await system.beat(worker.report(), seq=2_000_000)
        with pytest.raises(RemoteError) as replayed:
            await system.beat(worker.report(), seq=2_000_000)

        await system.register(worker)
        await system.beat(worker.report(slots_busy=1), seq=1_000_000)
        with pytest.raises(RemoteError) as stale:
            await system.beat(worker.report(), seq=999_999)

    assert [refused.value.code for refused in (replayed, stale)] == ["CONFLICT", "CONFLICT"]
