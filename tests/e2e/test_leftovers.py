"""What a process leaves in the folder for temporary files when it is killed, and that the next role removes it."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from llorch.leftovers import YOUNG_S
from llorch.wire.workers import WorkerHealth
from roles.worker.backend.llamacpp_process import SOCKET
from tests.e2e.processes import Role, role, until

MODEL = Path(__file__).parents[2] / "llorch/assets/haiku.gguf"
WHY_NOT = "" if "LLORCH_EXE" in os.environ else "only the executable unpacks itself: set LLORCH_EXE"


def orchestrator(folder: Path, name: str) -> AbstractAsyncContextManager[Role]:
    """Run an orchestrator whose folder for temporary files is *folder*."""
    arguments = ("orchestrator", "--port", "0", "--data-dir", str(folder / name))
    return role(*arguments, log=folder / f"{name}.log", env={"TMPDIR": str(folder)})


def worker(folder: Path, name: str) -> AbstractAsyncContextManager[Role]:
    """Run a worker whose folder for temporary files is *folder*."""
    arguments = ("worker", "--model", str(MODEL), "--port", "0", "--slots", "1")
    return role(*arguments, log=folder / f"{name}.log", env={"TMPDIR": str(folder)})


async def _loaded(worker: Role) -> bool:
    return (await worker.client.send("GET", "/health", WorkerHealth)).status == "ready"


async def _gone(folder: Path) -> bool:
    return not folder.exists()


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
async def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_live_one_kept(tmp_path: Path) -> None:
    async with orchestrator(tmp_path, "killed") as killed:
        await killed.stop(signal.SIGKILL)
    (left,) = tmp_path.glob("_MEI*")
    async with orchestrator(tmp_path, "live") as live:
        (used,) = set(tmp_path.glob("_MEI*")) - {left}
        for folder in (left, used):
            os.utime(folder, (time.time() - 2 * YOUNG_S,) * 2)
        async with orchestrator(tmp_path, "next"):
            await until(lambda: _gone(left))

            assert used.is_dir()
        assert await live.stop() == 0

    assert list(tmp_path.glob("_MEI*")) == []


async def test_the_socket_folder_of_a_killed_worker_is_removed_and_that_of_a_live_one_kept() -> None:
    with tempfile.TemporaryDirectory() as name:  # a short path: it is for a socket
        temporary = Path(name)
        async with worker(temporary, "killed") as killed:
            await until(lambda: _loaded(killed))
            await killed.stop(signal.SIGKILL)
        (left,) = temporary.glob("llorch-*")
        async with worker(temporary, "live") as live:
            await until(lambda: _loaded(live))
            (used,) = set(temporary.glob("llorch-*")) - {left}
            for folder in (left, used):
                os.utime(folder, (time.time() - 2 * YOUNG_S,) * 2)
            async with orchestrator(temporary, "next"):
                await until(lambda: _gone(left))

                assert (used / SOCKET).is_socket()
            assert await live.stop() == 0

        assert list(temporary.glob("llorch-*")) == []
