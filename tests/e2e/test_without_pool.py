"""`llorch pool …` on a machine where no pool runs: workers go on in the background and are found again."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import psutil

from llorch.client import Client
from llorch.wire.workers import WorkerHealth
from tests.e2e.processes import complaint, role, until
from tests.support.ended import ended as has_ended
from tests.support.prompt import prompt


async def test_workers_are_started_found_again_and_stopped_without_a_pool(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    env = {"LLORCH_POOL_DATA_DIR": str(tmp_path / "pool"), "LLORCH_POOL_PORT": port}
    async with prompt(env) as run:
        status = await run("pool", "status")
        first = (await run("pool", "worker", "spawn", "cpu", "--model", "haiku", "--ctx", "96")).stdout.strip()
        listed = json.loads((await run("pool", "worker", "list", "--json")).stdout)["workers"]
        async with Client(listed[0]["uri"]) as client:
            await client.send("GET", "/health", WorkerHealth)
        logs = await run("pool", "worker", "logs", first)
        metal = await run("pool", "worker", "spawn", "metal", "--model", "tinyllama", "--gpu", "0")
        detached = await run("pool", "models", "download", "tinyllama", "--detach")
        registered = await run("pool", "register", "--orchestrator", "http://127.0.0.1:1")
        process = psutil.Process(listed[0]["pid"])
        os.killpg(process.pid, signal.SIGKILL)

        async def ended() -> bool:
            return has_ended(process)

        await until(ended)
        dead = json.loads((await run("pool", "worker", "list", "--json")).stdout)["workers"]
        cleaned = json.loads((await run("pool", "worker", "list", "--json")).stdout)["workers"]
        second = (
            await run("pool", "worker", "spawn", "--model", "haiku", "--ctx", "96", "--device", "cpu")
        ).stdout.strip()
        async with role("pool", "--keep-workers", log=tmp_path / "log", env=env) as pool:
            [adopted] = (await pool.workers()).workers
            by_pool = json.loads((await run("pool", "worker", "list", "--json")).stdout)["workers"]
        process = psutil.Process(adopted.pid if isinstance(adopted.pid, int) else 0)
        stopped = await run("pool", "worker", "stop-all")
        await until(ended)
        left = json.loads((await run("pool", "worker", "list", "--json")).stdout)["workers"]

    assert (status.status, status.stderr.count("no pool runs here")) == (0, 1)
    assert [(worker["worker_id"], worker["status"]) for worker in listed] == [(first, "ready")]
    assert "model" in logs.stdout
    assert (metal.status, metal.stderr.count("\n")) == (1, 1)
    assert complaint(metal.stderr).startswith("nothing here computes on metal; this host has cpu (")
    assert (detached.status, "no pool runs here" in detached.stderr) == (1, True)
    assert (registered.status, "start one with `llorch serve pool`" in registered.stderr) == (1, True)
    assert [(worker["worker_id"], worker["status"]) for worker in dead] == [(first, "failed")]
    assert cleaned == []
    assert (adopted.worker_id, adopted.adopted) == (second, True)
    assert [worker["worker_id"] for worker in by_pool] == [second]
    assert stopped.stdout == f"{second}\n"
    assert left == []
