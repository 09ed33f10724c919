"""A folder of safetensors in a whole system: one that has torch runs it, and a job that has begun goes on elsewhere."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")

from llorch.sse import Event
from llorch.wire.models import DiskUsage
from tests.e2e.processes import orchestrator_role, pool_role, text_of, until
from tests.support import checkpoints
from tests.support.checkpoints import Variant
from tests.support.hub import running_hub
from tests.support.models import Shape


async def test_a_job_starts_a_worker_for_a_folder_and_goes_on_after_its_worker_was_killed(tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path / "mine", Shape(n_embd=256, n_layer=8, n_head=4, n_ff=704, ctx=2048))
    messages = [{"role": "user", "content": "bake kilo"}]

    async with orchestrator_role(tmp_path) as orchestrator, pool_role(tmp_path, orchestrator.url) as pool:
        job = await orchestrator.submit(model=f"file:{folder}", messages=messages, seed=7, max_tokens=400)
        seen: list[Event] = []
        async for event in orchestrator.follow(job.job_id):
            seen.append(event)
            if len(seen) == 20:
                break

        async def worker_pid() -> int | None:
            return next((w.pid for w in (await pool.workers()).workers if isinstance(w.pid, int)), None)

        os.kill(await until(worker_pid), signal.SIGKILL)
        found = await orchestrator.events(job.job_id)
        done = await orchestrator.task(job.job_id)

    assert text_of(found).startswith(text_of(seen))
    assert (done.status, done.attempts, done.tokens_out, done.stop_reason) == ("completed", 2, 400, "max_tokens")
    assert str(done.engine).startswith("torch/")


async def test_a_prompt_longer_in_bytes_than_the_context_is_answered_while_its_tokens_fit(
    tmp_path: Path,
) -> None:
    folder = checkpoints.make(tmp_path / "mine", Shape(ctx=256))
    prompt = "bake kilo dumi lani " * 20

    async with orchestrator_role(tmp_path) as orchestrator, pool_role(tmp_path, orchestrator.url):
        job = await orchestrator.submit(model=f"file:{folder}", prompt=prompt, max_tokens=4)
        await orchestrator.events(job.job_id)
        done = await orchestrator.task(job.job_id)

    assert len(prompt) > 256
    assert (done.status, done.tokens_out) == ("completed", 4)


async def test_a_name_of_the_hub_is_fetched_and_run_by_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoints.make(tmp_path / "mine", Shape(ctx=256), Variant("qwen2", biased=True, files=2))

    async with running_hub(tmp_path / "home", monkeypatch) as hub:
        hub.add("org/tiny", {path.name: path for path in folder.iterdir()} | {"pytorch_model.bin": Path(__file__)})
        async with orchestrator_role(tmp_path) as orchestrator, pool_role(tmp_path, orchestrator.url) as pool:
            job = await orchestrator.submit(
                model="hf:org/tiny", messages=[{"role": "user", "content": "bake kilo"}], max_tokens=5
            )
            await orchestrator.events(job.job_id)
            done = await orchestrator.task(job.job_id)
            stored = (await pool.client.send("GET", "/v2/models/disk-usage", DiskUsage)).models

    mine = [model for model in stored if model.origin == "hub"]
    assert (done.status, done.tokens_out) == ("completed", 5)
    assert str(done.engine).startswith("torch/")
    assert [(model.model_ref, model.corrupt) for model in mine] == [(hub.ref("org/tiny", "config.json"), False)]
    assert sorted(file.path for file in mine[0].files) == sorted(path.name for path in folder.iterdir())
