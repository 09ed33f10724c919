"""A pool ends, or is killed, and comes back: no job is lost, its workers are taken over, and nothing stays for ever."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import psutil
import pytest
from msgspec import UNSET

from llorch.sse import Event
from llorch.wire.pools import Pool, Spawned, Worker, WorkerList
from tests.e2e.processes import Role, orchestrator_role, role, text_of, until
from tests.support import models
from tests.support.ended import ended as has_ended

SLOW = models.Shape(n_embd=512, n_layer=8, n_head=8, n_ff=1376, ctx=1024)

pytestmark = pytest.mark.slow


def pool_at(
    folder: Path, orchestrator: str, port: str = "0", *options: str, env: Mapping[str, str] | None = None
) -> AbstractAsyncContextManager[Role]:
    """Run a pool at a port; one that is started again may be somewhere else."""
    arguments = ("--port", port, "--data-dir", str(folder / "pool"), "--pool-id", "pool", *options)
    registers = ("--orchestrator", orchestrator) if orchestrator else ()
    return role("pool", *arguments, *registers, log=folder / "pool.log", env=env)


def port_of(pool: Role) -> str:
    """Return the port that a pool got."""
    return pool.url.rpartition(":")[2]


def processes_of(worker: Worker) -> list[psutil.Process]:
    """Return the processes of a worker: the one that leads, and all below."""
    leader = psutil.Process(int(str(worker.pid)))
    return [leader, *leader.children(recursive=True)]


async def ended(processes: list[psutil.Process]) -> bool:
    """Tell whether processes end within a moment."""
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, 20)
    return all(map(has_ended, alive))


async def the_worker(pool: Role, *states: str) -> Worker:
    """Return the one worker of a pool, once it has had a process and is in one of *states*."""

    async def found() -> Worker | None:
        [worker] = (await pool.workers()).workers
        return worker if worker.status in states and worker.pid is not UNSET else None

    return await until(found)


async def online_again(orchestrator: Role) -> Pool:
    """Return the pool that an orchestrator knows, once its worker is known to be adopted."""

    async def found() -> Pool | None:
        pool = await orchestrator.client.send("GET", "/v2/pools/pool", Pool)
        return pool if pool.status == "online" and any(worker.adopted for worker in pool.workers) else None

    return await until(found)


async def test_a_killed_pool_costs_no_job_and_takes_its_worker_over_when_it_is_back_at_another_address(
    tmp_path: Path,
) -> None:
    models.make(tmp_path / "slow.gguf", SLOW)
    task = {"model": f"file:{tmp_path}/slow.gguf", "prompt": "one two three", "max_tokens": 80, "temperature": 0}
    seen: list[Event] = []
    async with orchestrator_role(tmp_path) as orchestrator:
        async with pool_at(tmp_path, orchestrator.url) as pool:
            job = await orchestrator.submit(**task)
            stream = orchestrator.follow(job.job_id)
            async for event in stream:
                seen.append(event)
                if event.id == "10.0":
                    break
            before = await the_worker(pool, "ready", "busy")
            await pool.stop(signal.SIGKILL)
        async with pool_at(tmp_path, orchestrator.url) as again:
            seen += [event async for event in stream]
            first = await orchestrator.task(job.job_id)
            adopted = await online_again(orchestrator)
            second = await orchestrator.submit(**(task | {"max_tokens": 8}))
            later = await orchestrator.events(second.job_id)
            done = await orchestrator.task(second.job_id)
            after = await the_worker(again, "ready", "busy")
            processes = processes_of(after)
            await again.client.send("POST", f"/v2/workers/{after.worker_id}/stop", Worker)
            stopped = await the_worker(again, "stopped", "failed")
            left = not await ended(processes)

    assert seen[-1].kind == "end"
    assert text_of(seen)
    assert (first.status, first.attempts, first.tokens_out) == ("completed", 1, 80)
    assert [worker.worker_id for worker in adopted.workers] == [before.worker_id]
    assert adopted.endpoint == again.url != pool.url
    assert (after.worker_id, after.pid, after.adopted) == (before.worker_id, before.pid, True)
    assert later[-1].kind == "end"
    assert done.worker_id == before.worker_id
    assert (stopped.status, left) == ("stopped", False)


async def test_a_handover_costs_no_job_and_the_next_pool_has_the_worker(tmp_path: Path) -> None:
    models.make(tmp_path / "slow.gguf", SLOW)
    task = {"model": f"file:{tmp_path}/slow.gguf", "prompt": "one two three", "max_tokens": 80, "temperature": 0}
    async with orchestrator_role(tmp_path) as orchestrator:
        async with pool_at(tmp_path, orchestrator.url) as pool:
            job = await orchestrator.submit(**task)
            seen: list[Event] = []
            stream = orchestrator.follow(job.job_id)
            async for event in stream:
                seen.append(event)
                if event.id == "10.0":
                    break
            handed = await pool.client.send("POST", "/v2/handover", WorkerList)
            status = await asyncio.wait_for(pool.process.wait(), 30)
        async with pool_at(tmp_path, orchestrator.url, port_of(pool)) as again:
            seen += [event async for event in stream]
            done = await orchestrator.task(job.job_id)
            [worker] = (await online_again(orchestrator)).workers
            processes = processes_of(await the_worker(again, "ready", "busy"))

    assert status == 0
    assert [worker.worker_id for worker in handed.workers] == [worker.worker_id]
    assert seen[-1].kind == "end"
    assert (done.status, done.attempts) == ("completed", 1)
    assert await ended(processes)


async def test_a_pool_that_keeps_its_workers_leaves_them_at_sigterm(tmp_path: Path) -> None:
    async with pool_at(tmp_path, "", "0", "--keep-workers") as pool:
        await pool.client.send("POST", "/v2/workers/spawn", Spawned, body={"model_ref": "file:/builtin/haiku.gguf"})
        worker = await the_worker(pool, "ready")
        processes = processes_of(worker)
        status = await pool.stop()
    alive = [process.is_running() for process in processes]
    async with pool_at(tmp_path, "") as again:
        adopted = await the_worker(again, "ready")

    assert status == 0
    assert all(alive)
    assert (adopted.worker_id, adopted.pid) == (worker.worker_id, worker.pid)
    assert await ended(processes)


async def test_a_worker_that_was_loading_when_its_pool_was_killed_is_adopted_wherever_the_next_one_is(
    tmp_path: Path,
) -> None:
    models.make(tmp_path / "large.gguf", models.LARGER)
    body = {"model_ref": f"file:{tmp_path}/large.gguf"}
    async with pool_at(tmp_path, "") as pool:
        await pool.client.send("POST", "/v2/workers/spawn", Spawned, body=body)
        await the_worker(pool, "starting")
        await pool.stop(signal.SIGKILL)
    async with pool_at(tmp_path, "") as again:
        ready = await the_worker(again, "ready", "failed")
        processes = processes_of(ready)

    assert (ready.status, ready.adopted) == ("ready", True), ready.error
    assert await ended(processes)


async def test_a_worker_whose_pool_does_not_come_back_ends_by_itself(tmp_path: Path) -> None:
    async with pool_at(tmp_path, "", env={"LLORCH_POOL_ORPHAN_S": "2"}) as pool:
        await pool.client.send("POST", "/v2/workers/spawn", Spawned, body={"model_ref": "file:/builtin/haiku.gguf"})
        worker = await the_worker(pool, "ready")
        processes = processes_of(worker)
        await pool.stop(signal.SIGKILL)

    assert await ended(processes)
    assert "orphaned" in (tmp_path / "pool" / "logs" / f"{worker.worker_id}.log").read_text()
