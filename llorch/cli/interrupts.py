"""What signals do to a command that has something to put in order before it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType

from llorch.program import Echo

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(main: Callable[[], Awaitable[int]]) -> int:
    """Run *main* and return its exit status.

    Ctrl-C, SIGTERM or a closed terminal cancels it, and the status is then 128 and the signal's number, as shells
    count. A second one ends the process at once, whatever it is doing, a blocked write included. A signal that the
    parent has us ignore, as nohup does, stays ignored.
    """
    return asyncio.run(_run(main))


@contextlib.contextmanager
def _woken(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Have every signal wake the loop: one that comes just before it waits would be heard with the next event only."""
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)
        loop.add_reader(here, here.recv, 4096)
        before = signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            loop.remove_reader(here)


async def _run(main: Callable[[], Awaitable[int]]) -> int:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    first: list[int] = []
    echo = Echo()

    def told(number: int, _frame: FrameType | None) -> None:
        if echo.heard(number):
            return
        if first:
            os._exit(128 + number)
        first.append(number)
        loop.call_soon_threadsafe(task.cancel)

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, told)
    try:
        with _woken(loop):
            return await main()
    except asyncio.CancelledError:
        if not first:
            raise
        return 128 + first[0]
