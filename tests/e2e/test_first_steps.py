"""The first things a new user does, as the README tells: under new names and old ones, with llorch and with curl."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from llorch.sse import Event, parse
from llorch.wire.pools import PoolList
from llorch.wire.workers import WorkerHealth
from tests.e2e.processes import Role, named, orchestrator_role, pool_role, run, text_of, until, whole_system
from tests.support import models

MODEL = str(Path("llorch/assets/haiku.gguf").resolve())
PROMPT = "Write a haiku that contains the word twenty-nine"


async def curl(*arguments: str) -> bytes:
    """Run curl; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *("curl", "--silent", "--show-error", "--fail", "--no-buffer", "--noproxy", "*", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err
    return out


async def test_three_terminals_and_a_submission(tmp_path: Path) -> None:
    async with orchestrator_role(tmp_path) as orchestrator, pool_role(tmp_path, orchestrator.url) as pool:
        before = (await pool.workers()).workers

        finished = await run("jobs", "submit", "--model", "haiku", "--prompt", PROMPT, "--url", orchestrator.url)

        after = (await pool.workers()).workers

    assert before == []
    assert finished.status == 0
    assert "twenty-nine" in finished.stdout.lower()
    assert finished.stdout.count("\n") >= 3
    assert " · first token after " in finished.stderr  # how fast it was cannot be told where all came at once
    assert [worker.model_ref for worker in after] == ["file:/builtin/haiku.gguf"]


async def test_the_same_under_the_old_names(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("orchestratord", "pool-managerd", "llorch-candled", "llorch-ctl")}
    for folder in folders.values():
        folder.mkdir()
    here = ("--port", "0", "--data-dir", str(tmp_path / "data"))
    async with named("orchestratord", folders["orchestratord"], *here) as orchestrator:
        there = ("--port", "0", "--data-dir", str(tmp_path / "pool"), "--orchestrator", orchestrator.url)
        async with named("pool-managerd", folders["pool-managerd"], *there) as pool:
            finished = await run("jobs", "submit", "--model", "haiku", "--prompt", PROMPT, "--url", orchestrator.url)
            workers = (await pool.workers()).workers
    async with named("llorch-candled", folders["llorch-candled"], "--model", MODEL) as worker:
        await until(lambda: _is_ready(worker))
        events = await executed(worker, {"job_id": "mine", "prompt": PROMPT})

    assert finished.status == 0
    assert "twenty-nine" in finished.stdout.lower()
    assert len(workers) == 1
    assert "twenty-nine" in text_of(events).lower()
    assert events[-1].kind == "end"


async def _is_ready(worker: Role) -> bool:
    return (await worker.client.send("GET", "/health", WorkerHealth)).status == "ready"


async def executed(worker: Role, body: dict[str, object]) -> list[Event]:
    """Run a job on a worker itself; return its events."""
    async with worker.client.request("POST", "/execute", body=body) as response:
        return list(parse(await response.read()))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_one_process_and_curl_are_enough(tmp_path: Path) -> None:
    body = json.dumps({"model": "haiku", "prompt": PROMPT})
    async with whole_system(tmp_path) as whole:
        tasks = f"{whole.url}/v2/tasks"
        at_once = await curl("-N", tasks, "-H", "Accept: text/event-stream", "-d", body)
        accepted = json.loads(await curl(tasks, "-d", body))
        later = await curl("-N", whole.url + accepted["events_url"])
        rest = await curl("-N", whole.url + accepted["events_url"], "-H", "Last-Event-ID: 3.0")
        shown = json.loads(await curl(f"{tasks}/{accepted['job_id']}"))

    for stream in (at_once, later):
        events = list(parse(stream))
        assert "twenty-nine" in text_of(events).lower()
        assert [event.kind for event in events if event.kind in {"end", "error"}] == ["end"]
    assert later.endswith(rest)
    assert next(event.id for event in parse(rest) if event.kind == "token") == "4.0"
    assert (shown["status"], shown["stop_reason"]) == ("completed", "eos")


async def test_two_models_answer_at_the_same_time(tmp_path: Path) -> None:
    other = models.make(tmp_path / "random.gguf", models.Shape(n_embd=256, n_layer=4, n_head=4, n_ff=704, ctx=1024))
    names = ("haiku", f"file:{other}")
    async with orchestrator_role(tmp_path) as orchestrator, pool_role(tmp_path, orchestrator.url):
        for name in names:
            await orchestrator.events((await orchestrator.submit(model=name, prompt="wake up", max_tokens=1)).job_id)
        jobs = [
            await orchestrator.submit(model=name, prompt=PROMPT, max_tokens=tokens, temperature=0)
            for _ in range(8)
            for name, tokens in zip(names, (64, 200), strict=True)
        ]
        async with asyncio.TaskGroup() as group:
            streams = [group.create_task(orchestrator.events(job.job_id)) for job in jobs]
        tasks = [await orchestrator.task(job.job_id) for job in jobs]
        pools = (await orchestrator.client.send("GET", "/v2/pools", PoolList)).pools

    assert [stream.result()[-1].kind for stream in streams] == ["end"] * 16
    assert {task.model: task.worker_id for task in tasks} == {
        worker.model_ref.replace("file:/builtin/haiku.gguf", "haiku"): worker.worker_id for worker in pools[0].workers
    }
    poems, babble = tasks[::2], tasks[1::2]
    assert all("twenty-nine" in text_of(stream.result()).lower() for stream in streams[::2])
    assert all(task.tokens_out == 200 for task in babble)
    spans = [(task.timings.started_ms, task.timings.finished_ms) for task in (*poems, *babble)]
    times = [(start, end) for start, end in spans if isinstance(start, int) and isinstance(end, int)]
    assert len(times) == len(tasks)
    assert any(a[0] < b[1] and b[0] < a[1] for a in times[:8] for b in times[8:])
