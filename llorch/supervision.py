"""Tells who supervises this process how it is: systemd's notification protocol, described in sd_notify(3).

The strategy: a datagram to the socket that NOTIFY_SOCKET names; a watchdog's beat comes from the event loop, so that a
loop that hangs is noticed. The variables are taken out of the environment: a worker must not speak for its pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator, MutableMapping

Say = Callable[[str], None]
READY, STOPPING, ALIVE = "READY=1", "STOPPING=1", "WATCHDOG=1"
BEATS = 3  # in the time after which silence counts as death


@contextlib.contextmanager
def supervised(environment: MutableMapping[str, str] | None = None) -> Iterator[Say]:
    """Yield what tells the supervisor, and say until the block ends that the event loop is alive, if it is asked to.

    Without a supervisor nothing is told. One that does not listen any more is nobody's concern.
    """
    env = os.environ if environment is None else environment
    address, watchdog_us = env.pop("NOTIFY_SOCKET", ""), env.pop("WATCHDOG_USEC", "")
    env.pop("WATCHDOG_PID", None)  # the launcher's, where this is the one-file executable
    if not address:
        yield lambda _state: None
        return
    if address.startswith("@"):  # Linux's abstract names
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.setblocking(False)

        def say(state: str) -> None:
            with contextlib.suppress(OSError):
                channel.sendto(state.encode(), address)

        with _beating(say, int(watchdog_us) / 1e6 if watchdog_us.isdigit() else 0.0):
            yield say


@contextlib.contextmanager
def _beating(say: Say, silence_s: float) -> Iterator[None]:
    if silence_s <= 0:
        yield
        return
    loop = asyncio.get_running_loop()
    next_beat: list[asyncio.TimerHandle] = []

    def beat() -> None:
        say(ALIVE)
        next_beat[:] = [loop.call_later(silence_s / BEATS, beat)]

    beat()
    try:
        yield
    finally:
        next_beat[0].cancel()
