"""Conversations and real workers: the next turn goes where the last one was computed, and reuses that."""

from __future__ import annotations

from pathlib import Path

import pytest

from llorch.wire.pools import Pool, PoolList, Spawned, SpawnWorker
from llorch.wire.tasks import Explanation, Task
from tests.e2e.processes import Role, text_of, until, whole_system
from tests.support import models

SHAPE = models.Shape(n_embd=256, n_layer=4, n_head=4, n_ff=704, ctx=4096)
OPENING = " ".join(models.SYLLABLES * 20)

pytestmark = pytest.mark.slow


async def two_workers(system: Role, ref: str) -> None:
    """Start two workers with two slots each, and wait for them."""

    async def pools() -> list[Pool]:
        return (await system.client.send("GET", "/v2/pools", PoolList)).pools

    async def both_ready() -> bool:
        return sum(worker.status == "ready" for pool in await pools() for worker in pool.workers) == 2

    [pool] = await until(pools)
    for _ in range(2):
        body = SpawnWorker(model_ref=ref, slots=2, ctx=2048)
        await system.client.send("POST", f"/v2/pools/{pool.pool_id}/workers/spawn", Spawned, body=body)
    await until(both_ready, 60)


async def has_become(system: Role, job_id: str, *status: str) -> None:
    """Wait for a job to have one of these states."""

    async def reached() -> bool:
        return (await system.task(job_id)).status in status

    await until(reached)


async def turn(system: Role, ref: str, said: list[dict[str, str]]) -> Task:
    """Let the model answer; the answer is added to what was said."""
    accepted = await system.submit(model=ref, messages=said, max_tokens=8, temperature=0)
    said.append({"role": "assistant", "content": text_of(await system.events(accepted.job_id))})
    return await system.task(accepted.job_id)


async def test_a_conversation_goes_on_where_it_was_computed(tmp_path: Path) -> None:
    ref = f"file:{models.make(tmp_path / 'm.gguf', SHAPE)}"
    said = [{"role": "system", "content": OPENING}, {"role": "user", "content": "ba"}]
    async with whole_system(tmp_path) as system:
        await two_workers(system, ref)
        usual = await turn(
            system, ref, [{"role": "system", "content": OPENING[::-1]}, {"role": "user", "content": "ba"}]
        )
        other = await system.submit(model=ref, prompt="ba be", max_tokens=1_900)
        await has_become(system, other.job_id, "running")
        first = await turn(system, ref, said)
        await system.cancel(other.job_id)
        await has_become(system, other.job_id, "cancelled", "completed")
        second = await turn(system, ref, [*said, {"role": "user", "content": "be"}])
        why = await system.client.send("GET", f"/v2/tasks/{second.job_id}/explain", Explanation)

    assert first.worker_id != usual.worker_id
    assert second.worker_id == first.worker_id
    assert first.tokens_cached == 0
    assert int(second.tokens_cached or 0) >= int(first.tokens_in or 0) - 8
    assert "had computed" in why.text
