"""The tests' own hosts go with the process that has made them, or when the next one makes some."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import networks
from tests.support.ended import pid_ended

pytestmark = pytest.mark.skipif(bool(networks.why_not()), reason=networks.why_not() or "there are hosts")
MAKE = """
import asyncio, sys
from pathlib import Path
from tests.support.ended import pid_ended
from tests.support import networks

async def main():
    async with networks.network(Path(sys.argv[1]), ["one"], {}):
        print(flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_hosts_of_a_process_that_was_ended_are_gone(number: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", MAKE, str(tmp_path)], stdout=subprocess.PIPE) as maker:
        assert maker.stdout is not None
        maker.stdout.readline()
        ours = f"llorch-{maker.pid}-"
        inside = [int(pid) for pid in networks.ip("netns", "pids", f"{ours}one").split()]
        maker.send_signal(number)
        ended = maker.wait()
    there_still = ours in networks.ip("netns", "list")
    networks.clear_away()

    assert ended == -number
    assert inside
    assert there_still is (number is signal.SIGKILL)
    assert ours not in networks.ip("netns", "list")
    assert not list(Path("/etc/netns").glob(f"{ours}*"))
    asyncio.run(_all_ended(inside))


async def _all_ended(pids: list[int]) -> None:
    async with asyncio.timeout(30):
        while not all(pid_ended(pid) for pid in pids):
            await asyncio.sleep(0.02)
