"""`llorch top` on a real terminal: what it shows, how it ends, and that the terminal is then as it was."""

from __future__ import annotations

import signal
import termios
from pathlib import Path

import psutil
import pytest

from llorch.errors import RemoteError
from llorch.wire.pools import Pool
from tests.e2e.processes import Role, orchestrator_role, pool_role, run, until
from tests.e2e.terminal import CTRL_C, Terminal, screens, terminal
from tests.e2e.test_resume import again

CTRL_Z = b"\x1a"
SCREEN_BACK = "\x1b[?1049l"


def modes(shown: Terminal) -> int:
    """Return how a terminal takes what is typed."""
    found: int = termios.tcgetattr(shown.master)[3]
    return found & (termios.ICANON | termios.ECHO | termios.ISIG)


async def drained(orchestrator: Role, pool_id: str) -> bool:
    """Drain a pool; tell whether it is there."""
    try:
        await orchestrator.client.send("POST", f"/v2/pools/{pool_id}/drain", Pool)
    except RemoteError as error:
        if error.code != "POOL_NOT_FOUND":
            raise
        return False
    return True


async def test_a_terminal_shows_the_system_outlasts_the_orchestrator_and_q_quits(tmp_path: Path) -> None:
    async with orchestrator_role(tmp_path) as first, pool_role(tmp_path, first.url, "blep"):
        job = await first.submit(model="haiku", prompt="hello")
        await first.events(job.job_id)
        async with terminal("top", "--url", first.url, columns=100, rows=24) as shown:
            before = modes(shown)
            await shown.until(lambda seen: "1 online" in seen and "haiku" in seen and "blep" in seen)
            wide = shown.seen
            during = modes(shown)
            shown.raw.clear()
            shown.resize(40, 12)
            await shown.until(lambda seen: any("MEMORY" in one and "LOAD" not in one for one in screens(seen)))
            await first.stop(signal.SIGKILL)
            await shown.until(lambda seen: "away for " in seen)
            async with again(tmp_path, first.url) as second:
                shown.raw.clear()
                await until(lambda: drained(second, "blep"))
                await shown.until(lambda seen: "1 draining" in seen)
                shown.press(b"xq")
                status = await shown.ended()
                after = modes(shown)

    assert "POOL" in wide
    assert "LOAD" in wide
    assert status == 0
    assert SCREEN_BACK in shown.seen
    assert (before, during, after) == (before, termios.ISIG, before)
    assert "Traceback" not in shown.seen


@pytest.mark.parametrize(("keys", "expected"), [(CTRL_C, 130), (b"Q", 0)])
async def test_both_ways_out_leave_the_terminal_as_it_was(keys: bytes, expected: int, tmp_path: Path) -> None:
    async with orchestrator_role(tmp_path) as orchestrator, terminal("top", "--url", orchestrator.url) as shown:
        before = modes(shown)
        await shown.until(lambda seen: "pools: none" in seen)
        shown.press(CTRL_Z)
        first = psutil.Process(shown.process.pid)

        async def stopped() -> list[psutil.Process]:  # of the executable's two processes, the one that draws
            every = [first, *first.children(recursive=True)]
            return [process for process in every if process.status() == psutil.STATUS_STOPPED]

        asleep = await until(stopped)
        await shown.until(lambda seen: SCREEN_BACK in seen)
        paused = modes(shown)
        shown.raw.clear()
        for process in asleep:
            process.resume()
        await shown.until(lambda seen: "pools: none" in seen)
        shown.press(keys)
        status = await shown.ended()
        after = modes(shown)

    assert paused == before
    assert (status, after) == (expected, before)
    assert SCREEN_BACK in shown.seen


async def test_without_a_terminal_or_an_orchestrator_it_is_one_line() -> None:
    piped = await run("top")
    async with terminal("top", "--url", "http://127.0.0.1:1") as shown:
        status = await shown.ended()

    assert (piped.status, piped.stdout, piped.stderr.count("\n")) == (2, "", 1)
    assert "llorch pool status" in piped.stderr
    assert "llorch jobs list" in piped.stderr
    assert status == 1
    assert "cannot be reached" in shown.seen
    assert SCREEN_BACK not in shown.seen
