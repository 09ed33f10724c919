"""Whether the memory of a worker that has ended is back, by what the drivers tell."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
from msgspec import UNSET
from msgspec.structs import replace as changed

from llorch.wire.pools import Backend, Device, Occupant
from roles.pool.worker_lifecycle import reclaim as module
from roles.pool.worker_lifecycle.preflight import Plan
from roles.pool.worker_lifecycle.reclaim import Claim, Reclaim, missing_bytes
from roles.pool.worker_lifecycle.records import Record
from tests.support.open_files import none_left
from tests.unit.test_pool_worker_lifecycle_records import READY

GIB = 2**30
GPU = Device(
    id="cuda:0",
    uuid="GPU-0",
    name="GPU",
    backend="cuda",
    memory_total_bytes=80 * GIB,
    memory_used_bytes=30 * GIB,
    memory_free_bytes=50 * GIB,
)
ON_GPU = replace(READY, pid=1, plan=Plan("cuda:0", "cuda", "llamacpp", 1, 512, 22 * GIB), memory_bytes=22 * GIB)
CLAIM = Claim("w", 1, GPU, 20 * GIB, 5 * GIB)


def free(gib: int, *, others: int = 0) -> Device:
    """Return the GPU with so much free memory, and so much held by others."""
    programs = [Occupant(pid=9, memory_bytes=others * GIB)] if others else []
    return changed(GPU, memory_free_bytes=gib * GIB, memory_used_bytes=(80 - gib) * GIB, others=programs)


@pytest.mark.parametrize(
    ("after", "committed_gib", "missing_gib"),
    [
        (free(70), 5, 0),
        (free(66), 5, 0),
        (free(50), 5, 20),
        (free(60), 5, 10),
        (free(60, others=10), 5, 0),
        (free(50, others=10), 5, 10),
        (free(60), 15, 0),
        (free(60), 0, 10),
    ],
)
def test_what_others_took_and_what_was_given_away_is_not_missing(
    after: Device, committed_gib: int, missing_gib: int
) -> None:
    assert missing_bytes(CLAIM, after, committed_bytes=committed_gib * GIB) == missing_gib * GIB


class Host:
    """Devices as they are set, and what was told."""

    def __init__(self, *devices: Device) -> None:
        self.devices = list(devices)
        self.told = asyncio.Event()
        self.living_bytes = ON_GPU.memory_bytes
        self.reclaim = Reclaim(self.sample, lambda device: self.living_bytes, self.told.set)

    async def sample(self) -> Sequence[Device]:
        return self.devices

    async def after_news(self) -> list[Device]:
        """Return the devices as they are shown once a mark has come or gone."""
        async with asyncio.timeout(30):
            await self.told.wait()
        self.told.clear()
        return self.reclaim.applied(self.devices)

    async def ends(self, record: Record) -> None:
        """Let a worker end."""
        await self.reclaim.look(record)
        self.living_bytes = 0
        self.reclaim.ended(record)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.reclaim.run())
            yield
            task.cancel()


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.05)
    monkeypatch.setattr(module, "CHECK_S", 0.01)


async def test_a_gpu_whose_memory_stays_away_is_marked_until_it_is_back() -> None:
    host = Host(GPU)
    async with host.running():
        await host.ends(ON_GPU)
        [marked] = await host.after_news()
        host.devices = [free(70)]
        [cleared] = await host.after_news()

    assert marked.suspect == "20480 MiB of a worker that ended have not come back"
    assert cleared.suspect is UNSET


async def test_a_gpu_that_is_gone_is_not_waited_for() -> None:
    host = Host(GPU)
    async with host.running():
        await host.ends(ON_GPU)
        await host.after_news()
        host.devices = []

        assert await host.after_news() == []


@pytest.mark.parametrize("backend", ["cpu", "metal"])
async def test_what_computes_in_ram_is_marked_as_long_as_a_process_of_the_worker_is_left(backend: Backend) -> None:
    host = Host(changed(GPU, id="cpu", backend=backend))
    wait = "subprocess.Popen([sys.executable, '-c', 'input()'], stdin=0)"
    script = f"import subprocess, sys; print({wait}.pid, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as leader:
        assert leader.stdout is not None
        child = int(leader.stdout.readline())
        async with host.running():
            await host.ends(replace(READY, pid=leader.pid))
            host.devices = [changed(host.devices[0], memory_free_bytes=0)]  # other programs take what they want
            [marked] = await host.after_news()
            os.kill(child, 9)
            [cleared] = await host.after_news()

    assert marked.suspect == f"processes of a worker that ended are left: {child}"
    assert cleared.suspect is UNSET


async def test_memory_is_waited_for_while_nobody_can_look_what_is_left_of_a_worker() -> None:
    host = Host(changed(GPU, id="cpu", backend="cpu"))
    async with host.running():
        with none_left():
            await host.ends(replace(READY, pid=2**30))
            [marked] = await host.after_news()
        [cleared] = await host.after_news()

    assert marked.suspect == "whether processes of a worker that ended are left cannot be told: Too many open files"
    assert cleared.suspect is UNSET


async def test_nothing_is_claimed_that_was_not_seen_before_or_was_never_taken() -> None:
    host = Host(GPU)
    async with host.running():
        host.reclaim.ended(ON_GPU)
        await host.ends(replace(ON_GPU, worker_id="v", ready_ms=0))
        await host.ends(replace(ON_GPU, worker_id="u", plan=replace(ON_GPU.plan, device="cuda:7")))

        assert host.reclaim._waiting == {}
