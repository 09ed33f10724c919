"""How a model is run, from the configuration to the worker: real processes, a hub, and files beside models."""

from __future__ import annotations

import json
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from llorch.wire.engine_options import EngineOptions, options_of
from llorch.wire.pools import Worker
from tests.e2e.processes import Role, complaint, pool_role, role, run, text_of
from tests.support import models
from tests.support.beside import make_adapter
from tests.support.hub import running_hub


def orchestrator_as(folder: Path, name: str, configuration: str) -> AbstractAsyncContextManager[Role]:
    """Run an orchestrator with a configuration of its own."""
    file = folder / f"{name}.toml"
    file.write_text(configuration, "utf-8")
    arguments = ("--port", "0", "--data-dir", str(folder / name), "--config", str(file))
    return role("orchestrator", *arguments, log=folder / "log")


async def worker_and_text(orchestrator: Role, pool: Role, model: str) -> tuple[Worker, str]:
    """Submit a job; return the worker that did it, and what it wrote."""
    job = await orchestrator.submit(model=model, prompt="bake kilo dumi lani", temperature=0, max_tokens=30, seed=1)
    text = text_of(await orchestrator.events(job.job_id))
    worker_id = (await orchestrator.task(job.job_id)).worker_id
    [worker] = [one for one in (await pool.workers()).workers if one.worker_id == worker_id]
    return worker, text


@pytest.mark.slow
async def test_jobs_get_a_worker_as_configured_and_not_one_of_another_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = f"file:{models.make(tmp_path / 'm.gguf')}"
    options = 'lora = ["hf:org/tone:4"]\ndraft = "hf:org/small"\nkv_type = "q8_0"\n'
    async with running_hub(tmp_path / "home", monkeypatch) as hub:
        hub.add("org/tone", {"tone.gguf": make_adapter(tmp_path / "tone.gguf")})
        hub.add("org/small", {"small.gguf": models.make(tmp_path / "small.gguf", seed=9)})
        wanted = EngineOptions(
            kv_type="q8_0", lora=(f"{hub.ref('org/tone', 'tone.gguf')}:4",), draft=hub.ref("org/small", "small.gguf")
        )
        async with (
            orchestrator_as(tmp_path, "one", f'[models."{model}"]\n{options}') as orchestrator,
            pool_role(tmp_path, orchestrator.url) as pool,
        ):
            first, toned = await worker_and_text(orchestrator, pool, model)
            again, same = await worker_and_text(orchestrator, pool, model)
            await pool.stop(signal.SIGKILL)
    other = f"file:{models.make(tmp_path / 'other.gguf')}"
    wrong = f'[models."{other}"]\ndraft = "file:/nowhere/draft.gguf"\n'
    async with orchestrator_as(tmp_path, "two", wrong) as orchestrator, pool_role(tmp_path, orchestrator.url) as pool:
        second, plain = await worker_and_text(orchestrator, pool, model)
        known = {worker.worker_id: worker for worker in (await pool.workers()).workers}
        by_hand = await run(
            *("pool", "worker", "spawn", "--pool-url", pool.url, "--model", model, "--kv-type", "q4_0"),
            *("--lora", f"file:{tmp_path}/tone.gguf:4"),
        )
        refused = await run(
            *("pool", "worker", "spawn", "--pool-url", pool.url, "--model", model, "--draft", "haiku"),
        )
        job = await orchestrator.submit(model=other, prompt="a", max_tokens=1)
        failed = [json.loads(event.data) for event in await orchestrator.events(job.job_id) if event.kind == "error"]
        spawned = {worker.worker_id: worker for worker in (await pool.workers()).workers}[by_hand.stdout.strip()]

    assert (options_of(first), again.worker_id, same) == (wanted, first.worker_id, toned)
    assert plain != toned
    assert [event["code"] for event in failed] == ["MODEL_NOT_FOUND"]
    assert "file:/nowhere/draft.gguf: there is no such file" in failed[0]["message"]
    assert second.worker_id != first.worker_id
    assert options_of(second) == EngineOptions()
    assert (known[first.worker_id].adopted, options_of(known[first.worker_id])) == (True, wanted)
    assert options_of(spawned) == EngineOptions(kv_type="q4_0", lora=(f"file:{tmp_path}/tone.gguf:4",))
    assert "draft: file:/builtin/haiku.gguf has another vocabulary than the model" in complaint(refused.stderr)
