"""A conversation whose model had to go for another goes on where it was, with real processes; off unless wanted."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from llorch.wire.tasks import Task
from tests.e2e.processes import Role, orchestrator_role, role, until
from tests.support import models

SHAPE = models.Shape(n_embd=192, n_layer=6, n_head=4, n_ff=528, ctx=2048)
TALK = "bake kilo lima mike " * 100
ROOM = str(88 * 2**20)
"""Memory for one of the two models."""


@asynccontextmanager
async def swapping(folder: Path, *, snapshot_bytes: int) -> AsyncIterator[tuple[Role, Role]]:
    """Run an orchestrator and a pool with two models and room for one."""
    models.make(folder / "a.gguf", SHAPE)
    (folder / "b.gguf").hardlink_to(folder / "a.gguf")
    env = {
        "LLORCH_POOL_MEMORY_LIMIT_BYTES": ROOM,
        "LLORCH_POOL_KV_SNAPSHOT_BYTES": str(snapshot_bytes),
        "LLORCH_WORKER_SLOTS": "2",
    }
    async with orchestrator_role(folder) as orchestrator:
        arguments = ("--port", "0", "--data-dir", str(folder / "pool"), "--orchestrator", orchestrator.url)
        async with role("pool", *arguments, log=folder / "log", env=env) as pool:
            yield orchestrator, pool


async def ask(orchestrator: Role, model: Path, prompt: str) -> Task:
    accepted = await orchestrator.submit(model=f"file:{model}", prompt=prompt, max_tokens=4, temperature=0)
    await orchestrator.events(accepted.job_id)
    task = await orchestrator.task(accepted.job_id)
    assert task.status == "completed", task.error
    return task


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "pool" / "snapshots").glob("*/*.kv"))


async def test_a_conversation_goes_on_after_its_model_was_away(tmp_path: Path) -> None:
    a, b = tmp_path / "a.gguf", tmp_path / "b.gguf"
    async with swapping(tmp_path, snapshot_bytes=10**9) as (orchestrator, pool):
        first = await ask(orchestrator, a, TALK)
        away = await ask(orchestrator, b, "oscar")
        back = await ask(orchestrator, a, TALK + "oscar papa")

        [worker] = [one for one in (await pool.workers()).workers if one.status in {"ready", "busy"}]
        assert isinstance(worker.pid, int)
        psutil.Process(worker.pid).send_signal(signal.SIGKILL)
        killed = await ask(orchestrator, a, TALK + "oscar papa")

    assert len({first.worker_id, away.worker_id, back.worker_id, killed.worker_id}) == 4
    assert (first.tokens_cached, away.tokens_cached, killed.tokens_cached) == (0, 0, 0)
    assert isinstance(first.tokens_in, int)
    assert isinstance(back.tokens_cached, int)
    assert back.tokens_cached >= first.tokens_in - 1


async def test_nothing_is_kept_unless_it_is_wanted_and_what_was_goes_then(tmp_path: Path) -> None:
    before = tmp_path / "pool" / "snapshots" / "0123456789abcdef"
    before.mkdir(parents=True)
    (before / "old.kv").write_bytes(b"of an earlier time")
    async with swapping(tmp_path, snapshot_bytes=0) as (orchestrator, _):
        await ask(orchestrator, tmp_path / "a.gguf", TALK)
        await ask(orchestrator, tmp_path / "b.gguf", "oscar")
        back = await ask(orchestrator, tmp_path / "a.gguf", TALK)

        async def gone() -> bool:
            return not before.exists()

        await until(gone)

    assert back.tokens_cached == 0
    assert kept(tmp_path) == []
