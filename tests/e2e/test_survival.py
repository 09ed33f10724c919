"""What a user sees when processes are killed: a pause, and then the rest of the same text."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from llorch.sse import Event
from llorch.wire.tasks import Task
from tests.e2e.processes import Role, orchestrator_role, pool_role, role, run, text_of, until
from tests.support import models

HAIKU = {"model": "haiku", "prompt": "Write a haiku about rain", "temperature": 0}


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model that takes some milliseconds a token, so that there is a middle to be killed in."""
    path = tmp_path_factory.mktemp("models") / "slow.gguf"
    models.make(path, models.Shape(n_embd=512, n_layer=8, n_head=8, n_ff=1376, ctx=1024))
    return path


def long_task(slow: Path) -> dict[str, object]:
    """Return a job that takes a second or more."""
    return {"model": f"file:{slow}", "prompt": "one two three", "max_tokens": 150, "temperature": 0}


def again(url: str, folder: Path, *arguments: str) -> AbstractAsyncContextManager[Role]:
    """Start the orchestrator that was at *url* once more, on what it left."""
    port, data = str(urlsplit(url).port), str(folder / "orchestrator")
    return role("orchestrator", "--port", port, "--data-dir", data, *arguments, log=folder / "log")


async def read(orchestrator: Role, job_id: str, reached: asyncio.Event, *, token: int) -> list[Event]:
    """Follow a job to its end, over as many connections as it takes; tell when a token has come."""
    seen: list[Event] = []
    async for event in orchestrator.follow(job_id):
        seen.append(event)
        if event.id == f"{token}.0":
            reached.set()
    return seen


async def test_a_killed_orchestrator_costs_a_pause_and_no_text(tmp_path: Path, slow: Path) -> None:
    async with orchestrator_role(tmp_path) as first, pool_role(tmp_path, first.url) as pool:
        whole = await first.events((await first.submit(**long_task(slow))).job_id)
        job = await first.submit(**long_task(slow))
        reached = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(read(first, job.job_id, reached, token=20))
            await reached.wait()
            await first.stop(signal.SIGKILL)
            async with again(first.url, tmp_path) as second:
                seen = await asyncio.shield(reader)
                done = await second.task(job.job_id)
                fresh = await second.events(job.job_id)
        await until(lambda: _idle(pool))

    assert text_of(seen) == text_of(whole) == text_of(fresh)
    assert [event.kind for event in seen if event.kind in {"end", "error"}] == ["end"]
    assert (done.status, done.attempts, done.tokens_out) == ("completed", 1, 150)


@pytest.mark.parametrize("temperature", [0, 1.5])
async def test_an_orchestrator_and_its_worker_killed_together_cost_no_text_either(
    tmp_path: Path, slow: Path, temperature: float
) -> None:
    task = long_task(slow) | {"temperature": temperature, "seed": 1}
    async with orchestrator_role(tmp_path) as first, pool_role(tmp_path, first.url) as pool:
        whole = await first.events((await first.submit(**task)).job_id)
        job = await first.submit(**task)
        reached = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(read(first, job.job_id, reached, token=20))
            await reached.wait()
            [worker] = (await pool.workers()).workers
            os.kill(worker.pid or 0, signal.SIGKILL)
            await first.stop(signal.SIGKILL)
            async with again(first.url, tmp_path) as second:
                seen = await asyncio.shield(reader)
                done = await second.task(job.job_id)
                fresh = await second.events(job.job_id)

    assert _token_events(seen) == _token_events(fresh)
    assert len(_token_events(seen)) >= 20
    if temperature == 0:
        assert text_of(seen) == text_of(whole)
    assert (done.status, done.attempts) == ("completed", 2)


async def test_pools_register_at_once_with_an_orchestrator_that_comes_back(tmp_path: Path) -> None:
    config = tmp_path / "llorch.toml"
    config.write_text("[orchestrator]\nheartbeat_interval_s = 3600\n")
    arguments = ("--config", str(config))
    data = ("--data-dir", str(tmp_path / "orchestrator"))
    async with (
        role("orchestrator", "--port", "0", *data, *arguments, log=tmp_path / "log") as first,
        pool_role(tmp_path, first.url),
    ):
        await first.events((await first.submit(**HAIKU)).job_id)
        await first.stop(signal.SIGKILL)
        async with again(first.url, tmp_path, *arguments) as second:
            events = await second.events((await second.submit(**HAIKU)).job_id)

    assert events[-1].kind == "end"


async def test_a_stopped_orchestrator_hands_running_jobs_back_and_goes_on_with_them(tmp_path: Path, slow: Path) -> None:
    config = tmp_path / "llorch.toml"
    config.write_text("[orchestrator]\ndrain_s = 0\n")
    data = ("--data-dir", str(tmp_path / "orchestrator"), "--config", str(config))
    async with (
        role("orchestrator", "--port", "0", *data, log=tmp_path / "log") as first,
        pool_role(tmp_path, first.url),
    ):
        whole = await first.events((await first.submit(**long_task(slow))).job_id)
        job = await first.submit(**long_task(slow))
        reached = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(read(first, job.job_id, reached, token=20))
            await reached.wait()
            status = await first.stop()
            async with again(first.url, tmp_path) as second:
                seen = await asyncio.shield(reader)
                done = await second.task(job.job_id)

    assert status == 0
    assert text_of(seen) == text_of(whole)
    assert [attempt.outcome for attempt in done.attempt_log or []] == ["HANDED_BACK", "completed"]


async def test_a_second_orchestrator_on_the_same_data_refuses_in_one_line(tmp_path: Path) -> None:
    async with orchestrator_role(tmp_path) as first:
        refused = await run("serve", "orchestrator", "--port", "0", "--data-dir", str(tmp_path / "orchestrator"))
        job = await first.submit(**HAIKU)
        named = psutil.Process(int(refused.stderr.partition("(process ")[2].partition(")")[0]))
        family = [named.pid, *(parent.pid for parent in named.parents())]

    assert (refused.status, refused.stdout) == (2, "")
    assert refused.stderr.count("\n") == 1
    assert first.process.pid in family  # the executable's own process is a child of what was started
    assert job.status == "queued"


async def test_kill_ends_a_role_by_the_process_id_that_everybody_sees(tmp_path: Path) -> None:
    async with orchestrator_role(tmp_path) as first:
        os.kill(first.process.pid, signal.SIGKILL)
        await first.process.wait()
        async with again(first.url, tmp_path) as second:
            job = await second.submit(**HAIKU)

    assert job.status == "queued"


async def test_a_pool_whose_processes_are_all_killed_leaves_its_job_waiting_and_another_does_it(
    tmp_path: Path, slow: Path
) -> None:
    async with orchestrator_role(tmp_path) as orchestrator, pool_role(tmp_path, orchestrator.url, "first") as pool:
        whole = await orchestrator.events((await orchestrator.submit(**long_task(slow))).job_id)
        job = await orchestrator.submit(**long_task(slow))
        reached = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(read(orchestrator, job.job_id, reached, token=20))
            await reached.wait()
            [worker] = (await pool.workers()).workers
            await pool.stop(signal.SIGKILL)
            os.killpg(worker.pid or 0, signal.SIGKILL)
            await until(lambda: _waits(orchestrator, job.job_id))
            async with pool_role(tmp_path, orchestrator.url, "second"):
                seen = await asyncio.shield(reader)
                done = await orchestrator.task(job.job_id)

    assert seen[-1].kind == "end", seen[-1]
    assert text_of(seen) == text_of(whole)
    assert [attempt.pool_id for attempt in done.attempt_log or []] == ["first", "second"]


async def _idle(pool: Role) -> bool:
    return [worker.slots_busy for worker in (await pool.workers()).workers] == [0]


async def _waits(orchestrator: Role, job_id: str) -> Task | None:
    task = await orchestrator.task(job_id)
    return task if task.status == "queued" else None


def _token_events(events: list[Event]) -> list[tuple[str, bytes]]:
    return [(event.id, event.data) for event in events if event.kind == "token"]
