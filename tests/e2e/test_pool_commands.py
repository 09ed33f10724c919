"""`llorch pool register`, `drain` and `worker stop-all`, against running pools and an orchestrator."""

from __future__ import annotations

import json
from pathlib import Path

from llorch.wire.pools import PoolStatus
from tests.e2e.processes import Role, orchestrator_role, role, until
from tests.support.prompt import prompt


async def registered(pool: Role) -> PoolStatus | None:
    """Return a pool's status once it has registered."""
    status = await pool.status()
    return status if status.registered else None


async def test_a_pool_without_an_orchestrator_registers_drains_and_gets_work_again(tmp_path: Path) -> None:
    data = ("--port", "0", "--data-dir", str(tmp_path / "pool"), "--pool-id", "mac")
    async with (
        orchestrator_role(tmp_path) as orchestrator,
        role("pool", *data, log=tmp_path / "log") as pool,
        prompt({}) as run,
    ):
        here, there = ("--pool-url", pool.url), ("--url", orchestrator.url)
        nowhere = await run("pool", "register", "--orchestrator", "http://127.0.0.1:1", *here)
        joined = await run("pool", "register", "--orchestrator", orchestrator.url, *here)
        await until(lambda: registered(pool))
        drained = await run("pool", "drain", "mac", "--wait", *there)
        listed = await run("pool", "list", *there)
        job = await orchestrator.submit(model="haiku", prompt="Write a haiku about rain", temperature=0)
        waiting = (await orchestrator.task(job.job_id)).status
        undone = await run("pool", "drain", "mac", "--undo", "--json", *there)
        kinds = [event.kind for event in await orchestrator.events(job.job_id)]
        unknown = await run("pool", "drain", "nobody", *there)
        stopped = await run("pool", "worker", "stop-all", "--model", "haiku", *here)
        [worker] = (await pool.workers()).workers

    assert (nowhere.status, nowhere.stderr.count("\n")) == (1, 1)
    assert "the orchestrator at http://127.0.0.1:1 cannot be reached: connection refused" in nowhere.stderr
    assert joined.stdout.startswith("pool mac · ")
    assert drained.stdout == "mac gets no new work\n"
    assert listed.stdout.splitlines()[1].split()[:2] == ["mac", "draining"]
    assert waiting == "queued"
    assert json.loads(undone.stdout) == {"pool_id": "mac", "drained": False}
    assert kinds[-1] == "end"
    assert (unknown.status, unknown.stderr) == (1, "llorch: there is no pool nobody\n")
    assert stopped.stdout == f"{worker.worker_id}\n"
    assert worker.status in {"draining", "stopped"}
