"""What the one-file executable leaves where it was killed, and that the next role to start removes it."""

from __future__ import annotations

import os
import signal
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from llorch.unpacked import YOUNG_S
from tests.e2e.processes import Role, role, until

WHY_NOT = "" if "LLORCH_EXE" in os.environ else "only the executable unpacks itself: set LLORCH_EXE"


def orchestrator(folder: Path, name: str) -> AbstractAsyncContextManager[Role]:
    """Run an orchestrator that unpacks itself below *folder*."""
    arguments = ("orchestrator", "--port", "0", "--data-dir", str(folder / name))
    return role(*arguments, log=folder / f"{name}.log", env={"TMPDIR": str(folder)})


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
