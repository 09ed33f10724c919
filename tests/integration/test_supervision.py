"""What a supervisor hears on its socket, from the module and from a whole role."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llorch.supervision import ALIVE, READY, STOPPING, supervised
from tests.e2e.processes import role

HEARD_S = 30.0


@contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    """Listen as systemd does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.setblocking(False)
        yield listener


async def heard(listener: socket.socket) -> str:
    """Return the next datagram."""
    async with asyncio.timeout(HEARD_S):
        return (await asyncio.get_running_loop().sock_recv(listener, 4096)).decode()


async def test_the_supervisor_hears_what_it_is_told_and_children_cannot_speak(tmp_path: Path) -> None:
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_PID": "1", "HOME": "/"}
    with listening(env["NOTIFY_SOCKET"]) as listener, supervised(env) as say:
        say(READY)
        say(STOPPING)

        told = [await heard(listener), await heard(listener)]

    assert told == [READY, STOPPING]
    assert env == {"HOME": "/"}


async def test_a_watchdog_is_told_again_and_again_that_the_loop_is_alive(tmp_path: Path) -> None:
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000"}
    with listening(env["NOTIFY_SOCKET"]) as listener, supervised(env):
        told = [await heard(listener) for _ in range(3)]

    assert told == [ALIVE] * 3


async def test_without_a_supervisor_or_with_one_that_is_gone_nothing_happens(tmp_path: Path) -> None:
    with supervised({}) as say:
        say(READY)
    with supervised({"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "no number"}) as say:
        say(READY)


async def test_a_role_tells_that_it_is_ready_that_it_lives_and_that_it_stops(tmp_path: Path) -> None:
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
    serve = ("orchestrator", "--port", "0", "--data-dir", str(tmp_path / "data"))
    with listening(env["NOTIFY_SOCKET"]) as listener:
        async with role(*serve, log=tmp_path / "log", env=env) as orchestrator:
            told: list[str] = []
            while not told or not told[-1].startswith(READY):
                told.append(await heard(listener))
            alive = await heard(listener)
            await orchestrator.stop(signal.SIGTERM)
            while STOPPING not in told:
                told.append(await heard(listener))

    assert f"{READY}\nSTATUS=Listening on {orchestrator.url}" in told
    assert alive == ALIVE
    assert told[-1] == STOPPING
    assert set(told) == {ALIVE, STOPPING, f"{READY}\nSTATUS=Listening on {orchestrator.url}"}
