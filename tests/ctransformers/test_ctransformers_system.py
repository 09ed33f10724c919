"""A model file from before GGUF in a whole system: its pool finds it, and a job that has begun goes on elsewhere."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

pytest.importorskip("ctransformers", reason="the extra ctransformers is not installed")

from llorch.sse import Event
from tests.e2e.processes import orchestrator_role, pool_role, text_of, until
from tests.support import old_models
from tests.support.models import Shape


async def test_a_job_starts_a_worker_for_an_old_file_and_goes_on_after_its_worker_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "mine" / "model.bin"
    path.parent.mkdir()
    path.write_bytes(old_models.llama(Shape(n_embd=256, n_layer=8, n_head=4, n_ff=704)))

    async with orchestrator_role(tmp_path) as orchestrator, pool_role(tmp_path, orchestrator.url) as pool:
        job = await orchestrator.submit(model=f"file:{path}", prompt="bake kilo", seed=7, max_tokens=400)
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
        stopped = await orchestrator.submit(
            model=f"file:{path}", prompt="bake kilo", seed=7, max_tokens=400, stop=[text_of(found)[40:44]]
        )
        until_stop = await orchestrator.events(stopped.job_id)
        end = await orchestrator.task(stopped.job_id)

    assert text_of(found).startswith(text_of(seen))
    assert (done.status, done.attempts, done.tokens_out, done.stop_reason) == ("completed", 2, 400, "max_tokens")
    assert str(done.engine).startswith("ctransformers/")
    assert end.stop_reason == "stop_sequence"
    assert text_of(found).startswith(text_of(until_stop))
