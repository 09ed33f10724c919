"""A system of real processes in which things break on purpose: what a chaos run acts upon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psutil

from llorch.client import Client
from llorch.errors import LlorchError
from llorch.wire.pools import Spawned, Worker, WorkerList
from tests.e2e.kept import MARK, Kept, Part, kept, marked, new_mark
from tests.support.cutting import Line, line
from tests.support.gateway import Gateway
from tests.support.plans import FaultPlan

POOLS = 3
UPKEEP_S = 0.5
LIVE = {"starting", "ready", "busy"}


@dataclass(slots=True)
class Town:
    """One orchestrator, three pools, their workers, and the lines between them, which can be cut."""

    model_ref: str
    folder: Path
    mark: str
    orchestrator: Kept
    front: Line
    gateway: Gateway
    pools: list[Kept]
    counts: Counter[str] = field(default_factory=Counter)

    async def break_something(self, plan: FaultPlan) -> None:
        """Do what a plan says. What was killed is started again; what was frozen goes on."""
        random = Random(plan.chance)
        if plan.fault == "orchestrator":
            await self._kill(self.orchestrator, plan.length_s)
        elif plan.fault == "pool":
            await self._kill(random.choice(self.pools), plan.length_s)
        elif plan.fault in {"worker", "engine"}:
            part: Part = "worker" if plan.fault == "worker" else "engine"
            self._signal(random, [part], signal.SIGKILL)
        elif plan.fault == "freeze":
            frozen = self._signal(random, ["orchestrator", "pool", "worker", "engine"], signal.SIGSTOP)
            await asyncio.sleep(plan.length_s)
            if frozen is not None:
                with contextlib.suppress(psutil.Error):
                    frozen.send_signal(signal.SIGCONT)
        elif plan.fault == "cut_clients":
            self.front.cut(random, share=0.3)
        else:
            self.gateway.cut(random, 0.3)
        self.counts[plan.fault] += 1

    async def keep_workers(self) -> None:
        """Do what an operator would: give each pool a worker again where it has lost its own."""
        while True:
            for pool in self.pools:
                with contextlib.suppress(LlorchError):
                    if not [worker for worker in await self.workers(pool) if worker.status in LIVE]:
                        await self._spawn(pool)
            await asyncio.sleep(UPKEEP_S)

    async def workers(self, pool: Kept) -> list[Worker]:
        """Return a pool's workers for the model that every pool is to serve."""
        async with Client(pool.url) as client:
            workers = (await client.send("GET", "/v2/workers", WorkerList, timeout_s=5)).workers
        return [worker for worker in workers if worker.model_ref == self.model_ref]

    async def ready(self) -> bool:
        """Tell whether every pool has a worker that takes jobs."""
        states = [{worker.status for worker in await self.workers(pool)} for pool in self.pools]
        return all(found & {"ready", "busy"} for found in states)

    def alive(self) -> list[tuple[psutil.Process, Part]]:
        """Return every process of this run, however it came to be."""
        return list(marked(self.mark))

    async def stop(self) -> dict[str, int]:
        """Ask every role to end, pools first; return the exit statuses."""
        async with asyncio.TaskGroup() as tasks:
            ends = {f"pool {number}": tasks.create_task(pool.stop()) for number, pool in enumerate(self.pools)}
        statuses = {name: task.result() for name, task in ends.items()}
        return statuses | {"orchestrator": await self.orchestrator.stop()}

    async def _spawn(self, pool: Kept) -> None:
        async with Client(pool.url) as client:
            body = {"model_ref": self.model_ref}
            await client.send("POST", "/v2/workers/spawn", Spawned, body=body, timeout_s=5)
        self.counts["workers started"] += 1

    async def _kill(self, role: Kept, length_s: float) -> None:
        await role.kill()
        await asyncio.sleep(length_s / 2)
        await role.start()

    def _signal(self, random: Random, parts: list[Part], number: signal.Signals) -> psutil.Process | None:
        """Send a signal to some process of these kinds; a kind is chosen first, so that the one orchestrator counts."""
        alive = self.alive()
        kinds = [part for part in parts if part in {found for _, found in alive}]
        if not kinds:
            return None
        part = random.choice(kinds)
        process = random.choice(sorted((p for p, found in alive if found == part), key=lambda p: p.pid))
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)
        return process


@asynccontextmanager
async def town(folder: Path, model_ref: str) -> AsyncIterator[Town]:
    """Run a system for the length of the block; nothing of it is left afterwards."""
    mark = new_mark()
    env = {
        MARK: mark,
        "LLORCH_ORCHESTRATOR_HEARTBEAT_INTERVAL_S": "2",
        "LLORCH_POOL_DRAIN_S": "5",
        "LLORCH_POOL_STOP_GRACE_S": "5",
        "LLORCH_WORKER_SLOTS": "1",  # what else is in a batch decides between two equally likely tokens
    }
    try:
        async with AsyncExitStack() as stack:
            data = str(folder / "orchestrator")
            role = Kept(["orchestrator", "--data-dir", data], folder / "orchestrator.log", env)
            orchestrator = await stack.enter_async_context(kept(role))
            front = await stack.enter_async_context(line(orchestrator.url))
            gateway = await stack.enter_async_context(Gateway(orchestrator.url).running())
            pools = []
            for number in range(POOLS):
                arguments = ["pool", "--data-dir", str(folder / f"pool-{number}"), "--pool-id", f"pool-{number}"]
                role = Kept([*arguments, "--orchestrator", gateway.url], folder / f"pool-{number}.log", env)
                pools.append(await stack.enter_async_context(kept(role)))
            yield Town(model_ref, folder, mark, orchestrator, front, gateway, pools)
    finally:
        for process, _ in marked(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
