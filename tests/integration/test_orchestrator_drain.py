"""A pool that an operator drains: no new jobs and workers, running jobs finish, until that is taken back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from llorch.errors import RemoteError
from llorch.wire.pools import Pool, PoolList
from llorch.wire.protocol import PROTOCOL
from tests.integration.test_orchestrator_placement import explained
from tests.support.orchestrating import REF, ScriptedWorker, System, both, orchestrator, scripted
from tests.support.scripts import until_cancelled


async def drain(system: System, pool_id: str = "pool") -> Pool:
    """Drain a pool."""
    return await system.client.send("POST", f"/v2/pools/{pool_id}/drain", Pool)


async def resume(system: System, pool_id: str = "pool") -> None:
    """Take that back."""
    async with system.client.request("DELETE", f"/v2/pools/{pool_id}/drain"):
        pass


async def states(system: System) -> dict[str, str]:
    """Return the state of every pool."""
    return {pool.pool_id: pool.status for pool in (await system.client.send("GET", "/v2/pools", PoolList)).pools}


async def test_a_drained_pool_finishes_what_runs_and_begins_nothing(tmp_path: Path) -> None:
    worker = ScriptedWorker(until_cancelled)
    async with both(tmp_path, worker) as system:
        first = await system.submit()
        await system.reached(first.job_id, "running")
        told = await drain(system)
        second = await system.submit()
        async with asyncio.timeout(20):
            while "draining" not in (why := await explained(system.client, second.job_id)).text:
                pass
        still = (await system.show(first.job_id)).status
        await system.client.send("DELETE", f"/v2/tasks/{first.job_id}", dict[str, object])
        await system.reached(first.job_id, "cancelled")
        waiting, asked = (await system.show(second.job_id)).status, len(worker.asked)
        with pytest.raises(RemoteError) as refused:
            await system.client.send("POST", "/v2/pools/pool/workers/spawn", Pool, body={"model_ref": REF})
        await resume(system)
        await system.reached(second.job_id, "running")
        after = await states(system)

    assert (told.status, still, waiting, asked) == ("draining", "running", "queued", 1)
    assert "because no pool is online; pool pool has it and is offline or draining; " in why.text
    assert (refused.value.code, worker.spawns) == ("DRAINING", [])
    assert after == {"pool": "online"}


async def test_a_drain_outlasts_a_restart_of_either_side(tmp_path: Path) -> None:
    async with scripted(ScriptedWorker()) as worker:
        async with orchestrator(tmp_path) as system:
            await system.register(worker)
            await drain(system)
            async with system.client.request("DELETE", "/v2/pools/pool"):
                pass
            await system.register(worker)
            again = await states(system)
        async with orchestrator(tmp_path) as system:
            await system.register(worker)
            job = await system.submit()
            anew = await states(system)
            await resume(system)
            await resume(system)
            done = await system.reached(job.job_id, "completed")
        async with orchestrator(tmp_path) as system:
            await system.register(worker)
            undone = await states(system)

    assert again == anew == {"pool": "draining"}
    assert done.pool_id == "pool"
    assert undone == {"pool": "online"}


async def test_a_pool_that_is_not_there_cannot_be_drained(tmp_path: Path) -> None:
    async with orchestrator(tmp_path) as system:
        for call in (drain, resume):
            with pytest.raises(RemoteError) as refused:
                await call(system, "nowhere")

            assert (refused.value.status, refused.value.code) == (404, "POOL_NOT_FOUND")


async def test_a_pool_that_speaks_another_version_gets_no_work_and_says_what_to_do(tmp_path: Path) -> None:
    old, new = ScriptedWorker(), ScriptedWorker(worker_id="worker-2")
    async with scripted(old), scripted(new), orchestrator(tmp_path) as system:
        await system.register(old, protocol=PROTOCOL - 1, workers=[old.report(protocol=PROTOCOL - 1)])
        job = await system.submit()
        await resume(system)
        async with asyncio.timeout(20):
            while "pool pool has it" not in (await explained(system.client, job.job_id)).text:
                pass
        waiting = (await system.show(job.job_id)).status
        with pytest.raises(RemoteError) as refused:
            await system.client.send("POST", "/v2/pools/pool/workers/spawn", Pool, body={"model_ref": REF})
        [shown] = (await system.client.send("GET", "/v2/pools", PoolList)).pools
        await system.register(new, pool_id="new")
        await system.reached(job.job_id, "completed")
        await system.register(old)
        after = await states(system)

    trouble = f"it speaks version {PROTOCOL - 1} of the workers' protocol, and the orchestrator version {PROTOCOL}"
    assert (waiting, old.asked, old.spawns, old.stops) == ("queued", [], [], [])
    assert (shown.status, shown.trouble, shown.remedy) == ("draining", trouble, "llorch hosts upgrade pool")
    assert trouble in refused.value.message
    assert after == {"new": "online", "pool": "online"}


async def test_a_worker_that_speaks_another_version_than_its_pool_gets_no_job(tmp_path: Path) -> None:
    old, new = ScriptedWorker(), ScriptedWorker(worker_id="worker-2")
    async with scripted(old), scripted(new), orchestrator(tmp_path) as system:
        await system.register(old, workers=[old.report(protocol=PROTOCOL + 1, memory_bytes=0)])
        await system.register(new, pool_id="new")
        jobs = [await system.submit() for _ in range(3)]
        for job in jobs:
            await system.reached(job.job_id, "completed")

    assert (len(old.asked), len(new.asked)) == (0, 3)
