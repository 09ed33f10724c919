"""The main job, end to end: four processes, a real model, one unbroken text."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from llorch.wire.pools import PoolList, Spawned
from tests.e2e.processes import (
    Role,
    descendants,
    named,
    orchestrator_role,
    pool_role,
    role,
    run,
    text_of,
    until,
    whole_system,
)
from tests.support import models

HAIKU = {"model": "haiku", "prompt": "Write a haiku that contains the word twenty-nine"}


async def _worker_ready(pool: Role) -> str | None:
    workers = (await pool.workers()).workers
    return next((worker.worker_id for worker in workers if worker.status in {"ready", "busy"}), None)


async def test_a_job_starts_a_worker_by_itself_and_streams_its_text(tmp_path: Path) -> None:
    async with (
        orchestrator_role(tmp_path) as orchestrator,
        pool_role(tmp_path, orchestrator.url) as pool,
    ):
        job = await orchestrator.submit(**HAIKU)
        events = await orchestrator.events(job.job_id)
        done = await orchestrator.task(job.job_id)
        status = await pool.status()

    kinds = [event.kind for event in events]
    assert "twenty-nine" in text_of(events).lower()
    assert kinds.count("started") == 1
    assert kinds[-1] == "end"
    assert done.status == "completed"
    assert done.stop_reason == "eos"
    assert [worker.model_ref for worker in status.workers] == ["file:/builtin/haiku.gguf"]


@pytest.mark.parametrize(
    ("name", "arguments", "path"),
    [
        ("orchestratord", [], "/ready"),
        ("pool-managerd", [], "/v2/status"),
        ("llorch-candled", ["--model", "llorch/assets/haiku.gguf"], "/health"),
    ],
)
async def test_the_old_names_start_the_same_roles(name: str, arguments: list[str], path: str, tmp_path: Path) -> None:
    data = [] if name == "llorch-candled" else ["--data-dir", str(tmp_path / "data")]

    async with named(name, tmp_path, *arguments, "--port", "0", *data) as started:
        answer = await started.client.send("GET", path, dict)

    assert answer


async def test_two_models_run_at_once_and_their_jobs_interleave(tmp_path: Path) -> None:
    other = tmp_path / "random.gguf"
    models.make(other)
    async with whole_system(tmp_path) as whole:
        jobs = [
            await whole.submit(model=model, prompt="Write a haiku about rain", max_tokens=24, seed=number)
            for number in range(6)
            for model in ("haiku", f"file:{other}")
        ]
        async with asyncio.TaskGroup() as tasks:
            streams = [tasks.create_task(whole.events(job.job_id)) for job in jobs]
        pools = await whole.client.send("GET", "/v2/pools", PoolList)

    assert all(stream.result()[-1].kind == "end" for stream in streams)
    assert all(text_of(stream.result()) for stream in streams)
    assert len(pools.pools[0].workers) == 2


async def test_sixty_four_jobs_share_four_slots_and_none_sees_anothers_text(tmp_path: Path) -> None:
    async with whole_system(tmp_path) as whole:
        words = ["zero", "one", "two", "three", "four", "five", "six", "seven"] * 8
        async with asyncio.TaskGroup() as tasks:
            submitted = [
                tasks.create_task(
                    whole.submit(model="haiku", prompt=f"Write a haiku that contains the word {word}", temperature=0)
                )
                for word in words
            ]
        async with asyncio.TaskGroup() as tasks:
            streams = [tasks.create_task(whole.events(job.result().job_id)) for job in submitted]

    for word, stream in zip(words, streams, strict=True):
        events = stream.result()
        assert [event.kind for event in events].count("end") == 1
        assert events[-1].kind == "end"
        assert word in text_of(events).lower()
        started = next(json.loads(event.data) for event in events if event.kind == "started")
        assert started["worker_id"]


async def test_a_waiting_job_survives_a_killed_orchestrator(tmp_path: Path) -> None:
    async with orchestrator_role(tmp_path) as first:
        job = await first.submit(**HAIKU)
        await first.stop(signal.SIGKILL)

    async with (
        orchestrator_role(tmp_path) as second,
        role(
            "pool",
            "--port",
            "0",
            "--data-dir",
            str(tmp_path / "p"),
            "--orchestrator",
            second.url,
            log=tmp_path / "p.log",
        ),
    ):
        events = await second.events(job.job_id)

    assert events[-1].kind == "end"
    assert "twenty-nine" in text_of(events).lower()


async def test_a_killed_worker_costs_a_pause_and_no_text(tmp_path: Path) -> None:
    slow = tmp_path / "slow.gguf"
    models.make(slow, models.Shape(n_embd=512, n_layer=8, n_head=8, n_ff=1376, ctx=1024))
    async with (
        orchestrator_role(tmp_path) as orchestrator,
        pool_role(tmp_path, orchestrator.url) as pool,
    ):
        task = {"model": f"file:{slow}", "prompt": "one two three", "max_tokens": 120, "temperature": 0}
        whole = await orchestrator.events((await orchestrator.submit(**task)).job_id)

        job = await orchestrator.submit(**task)
        seen = []
        async for event in orchestrator.follow(job.job_id):
            seen.append(event)
            if event.id == "20.0":
                [worker] = (await pool.workers()).workers
                os.kill(worker.pid or 0, signal.SIGKILL)
        done = await orchestrator.task(job.job_id)

    assert seen[-1].kind == "end"
    assert text_of(seen)
    tokens = [event.data for event in seen if event.kind == "token"]
    assert tokens[:20] == [event.data for event in whole if event.kind == "token"][:20]
    assert done.attempts == 2
    assert done.tokens_out == 120


async def test_a_stopped_pool_leaves_no_process(tmp_path: Path) -> None:
    async with (
        orchestrator_role(tmp_path) as orchestrator,
        pool_role(tmp_path, orchestrator.url) as pool,
    ):
        await pool.client.send("POST", "/v2/workers/spawn", Spawned, body={"model_ref": "file:/builtin/haiku.gguf"})
        await until(lambda: _worker_ready(pool))
        children = descendants(pool.process.pid)
        status = await pool.stop()

    assert status == 0
    assert children
    assert not [pid for pid in children if psutil.pid_exists(pid)]


async def test_the_demo_says_the_minute(tmp_path: Path) -> None:
    finished = await run("demo", env={"TMPDIR": str(tmp_path)})

    assert finished.status == 0, finished.stderr
    assert finished.stdout.count("\n") >= 3
