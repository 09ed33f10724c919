"""Workers on GPUs, as far as a host without one can show: the driver's library is played from a session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from llorch.errors import RemoteError
from roles.pool import app
from roles.pool.gpu_inventory.sampler import Sampler
from roles.pool.worker_lifecycle import engines
from tests.support import models
from tests.support.nvml_session import Player
from tests.support.pools import PATIENCE_S, running_pool

GIB = 2**30


class Played(Sampler):
    """Eight GPUs; on the first, every process that this one has started holds 3 GiB."""

    def __init__(self, is_ours: Callable[[int], bool]) -> None:
        super().__init__(is_ours, library=Crowded("h200x8"))


class Crowded(Player):
    """A session whose processes are those that run here."""

    def nvmlDeviceGetComputeRunningProcesses(self, handle: object) -> list[SimpleNamespace]:  # noqa: N802
        """Return the children of this process."""
        children = psutil.Process().children() if handle == 0 else []
        return [SimpleNamespace(pid=child.pid, usedGpuMemory=3 * GIB) for child in children]


async def test_what_a_worker_holds_of_its_gpu_is_what_the_driver_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "Sampler", Played)
    monkeypatch.setattr(engines, "installed", lambda: {"llamacpp": frozenset({"cpu", "cuda"})})
    async with running_pool(tmp_path) as pool:
        worker_id = await pool.spawn(device="cuda:0")

        def weighed() -> int | None:
            told = [worker for beat in pool.listener.heartbeats for worker in beat.workers]
            found = [one.memory_bytes for one in told if one.worker_id == worker_id and one.status == "ready"]
            return next((size for size in found if size == 3 * GIB), None)

        memory_bytes = await pool.listener.until(weighed)
        allocated = {device.id: device.memory_allocated_bytes for device in pool.listener.heartbeats[-1].devices}

    assert memory_bytes == 3 * GIB  # and not the RAM that the worker told of
    assert (allocated["cuda:0"], allocated["cuda:1"], allocated["cpu"]) == (3 * GIB, 0, 0)


async def test_a_model_that_no_gpu_has_room_for_is_laid_over_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "Sampler", Played)
    monkeypatch.setattr(engines, "installed", lambda: {"llamacpp": frozenset({"cpu", "cuda"})})
    model = tmp_path / "model.gguf"
    models.make(model, models.Shape(n_embd=256, n_layer=12, n_head=4, n_ff=512))
    limit = model.stat().st_size * 3 // 4
    async with running_pool(tmp_path, memory_limit_bytes=limit, env={"LLORCH_WORKER_SLOTS": "1"}) as pool:
        worker_id = await pool.spawn(f"file:{model}", ctx=64, slots=1)
        worker = await pool.listener.until_worker(worker_id, "starting", "ready")
        async with asyncio.timeout(PATIENCE_S):
            while not isinstance((await pool.worker(worker_id)).pid, int):
                await asyncio.sleep(0.01)
        with pytest.raises(RemoteError) as refused:
            await pool.spawn(f"file:{model}", ctx=64, slots=1, device="cuda:1")

    assert worker.device == next(iter(worker.shares))
    assert len(worker.shares) == 2
    assert all(size <= limit for size in worker.shares.values())
    assert sum(worker.shares.values()) == worker.memory_bytes
    assert refused.value.code == "INSUFFICIENT_MEMORY"
