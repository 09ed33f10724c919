"""The loop behind `llorch top`: look once a second, draw, hear keys; whatever ends it, the terminal is as it was."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from llorch.cli.patience import away
from llorch.cli.top_view import Look, screen
from llorch.cli.watch import LOOK_TIMEOUT_S, Trouble, look
from llorch.cli.watch_view import Rates
from llorch.client import Client
from llorch.errors import LlorchError
from llorch.wire.operations import Overview
from llorch.wire.pools import PoolList

EVERY_S = 1.0
MOST = 200
QUIT = b"qQ"
NOTHING = Look(
    Overview(time_ms=0, waiting={"interactive": 0, "batch": 0}, running=0, finished_per_s=0, jobs=[]), (), {}
)


class Signs:
    """What has happened since the screen was drawn: `wake` is set by each thing that changes it."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.quit = False
        self.stop = False


class Eyes:
    """What the orchestrator told last, and how long it has been away since; the one writer of both."""

    def __init__(self, client: Client) -> None:
        self.seen = NOTHING
        self.trouble = ""
        self._client = client
        self._rates = Rates()
        self._trouble = Trouble()

    async def run(self, wake: asyncio.Event) -> None:
        """Look once a second until cancelled.

        Raises:
            LlorchError: It failed for another reason than that the orchestrator is away.
        """
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.look()
            except LlorchError as error:
                if not away(error):
                    raise
                self.trouble = self._trouble.take(error)
            wake.set()

    async def look(self) -> None:
        """Ask the orchestrator.

        Raises:
            LlorchError: That failed.
        """
        overview = await look(self._client, limit=MOST, since_ms=None)
        told = await self._client.send("GET", "/v2/pools", PoolList, timeout_s=LOOK_TIMEOUT_S)
        self.seen = Look(overview, told.pools, self._rates.look(overview))
        self.trouble = self._trouble.take(overview)


async def show(client: Client) -> None:
    """Draw until somebody quits. An orchestrator that goes away is told above what was there last.

    Raises:
        LlorchError: The first look failed, or a later one did for another reason.
    """
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    eyes = Eyes(client)
    await eyes.look()
    async with _listening() as signs, asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(eyes.run(signs.wake), name="looking")
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while not signs.quit:
                size = console.size
                shown = screen(eyes.seen, trouble=eyes.trouble, width=size.width, height=size.height)
                live.update(shown, refresh=True)
                await signs.wake.wait()
                signs.wake.clear()
                if signs.stop:
                    live.stop()
                    _pause(signs)
                    live.start()
        looking.cancel()


@asynccontextmanager
async def _listening() -> AsyncIterator[Signs]:
    """Hear keys, a new size and Ctrl-Z for the length of the block."""
    signs, loop = Signs(), asyncio.get_running_loop()

    def typed() -> None:
        try:
            keys = os.read(sys.stdin.fileno(), 1024)
        except OSError:  # the terminal is gone
            keys = b""
        if not keys:
            loop.remove_reader(sys.stdin.fileno())
        if any(key in QUIT for key in keys):
            signs.quit = True
            signs.wake.set()

    def suspended() -> None:
        signs.stop = True
        signs.wake.set()

    loop.add_signal_handler(signal.SIGWINCH, signs.wake.set)
    loop.add_signal_handler(signal.SIGTSTP, suspended)
    try:
        if not sys.stdin.isatty():
            yield signs
            return
        with keys_at_once():
            loop.add_reader(sys.stdin.fileno(), typed)
            try:
                yield signs
            finally:
                loop.remove_reader(sys.stdin.fileno())
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)
        loop.remove_signal_handler(signal.SIGTSTP)


@contextmanager
def keys_at_once() -> Iterator[None]:
    """Have each key come as it is typed, unseen; Ctrl-C and Ctrl-Z still do what they do. Then as before."""
    before = termios.tcgetattr(sys.stdin.fileno())
    tty.setcbreak(sys.stdin.fileno(), termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)


def _pause(signs: Signs) -> None:
    """Give the terminal back as it was and stop, as Ctrl-Z asks; go on when the shell says so."""
    signs.stop = False
    if not sys.stdin.isatty():
        os.kill(os.getpid(), signal.SIGSTOP)
        return
    ours = termios.tcgetattr(sys.stdin.fileno())
    theirs = [*ours]
    theirs[3] |= termios.ICANON | termios.ECHO
    termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, theirs)
    os.kill(os.getpid(), signal.SIGSTOP)
    termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, ours)
