"""Commands that run on a terminal of their own, and what a person would see there."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import pty
import re
import signal
import struct
import termios
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from tests.e2e.processes import clean_environment, program

PATIENCE_S = 60.0
CTRL_C = b"\x03"
_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(slots=True)
class Terminal:
    """A command on a terminal; `raw` is everything that it has written so far."""

    process: asyncio.subprocess.Process
    master: int
    raw: bytearray = field(default_factory=bytearray)
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def seen(self) -> str:
        """What was written, decoded."""
        return self.raw.decode("utf-8", "replace")

    @property
    def lines(self) -> list[str]:
        """What is left on each line once a line that was taken back is gone, and without colours."""
        shown = (line.rpartition("\r\x1b[K")[2] for line in self.seen.replace("\r\n", "\n").split("\n"))
        return [_SEQUENCE.sub("", line).rstrip("\r") for line in shown]

    async def until(self, found: Callable[[str], bool]) -> None:
        """Return once what was written is as wanted."""
        async with asyncio.timeout(PATIENCE_S):
            while not found(self.seen):
                self._more.clear()
                await self._more.wait()

    async def ended(self) -> int:
        """Return the exit status."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.process.wait()

    def press(self, keys: bytes) -> None:
        """Type something."""
        os.write(self.master, keys)

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGWINCH)

    def _read(self) -> None:
        try:
            self.raw += os.read(self.master, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # how a terminal says that nobody writes to it any more
                raise
            asyncio.get_running_loop().remove_reader(self.master)
        self._more.set()


def screens(seen: str) -> list[str]:
    """Return what filled the whole screen, one after the other, as far as each is whole."""
    return seen.split("\x1b[H")[1:-1]


def terminal(
    *arguments: str,
    columns: int = 80,
    rows: int = 24,
    env: Mapping[str, str] | None = None,
    inside: Sequence[str] = (),
) -> AbstractAsyncContextManager[Terminal]:
    """Run `llorch` on a terminal of its own until the block ends, *inside* another command."""
    return on_terminal([*inside, *program(), *arguments], columns=columns, rows=rows, env=env)


@asynccontextmanager
async def on_terminal(
    command: Sequence[str], *, columns: int = 80, rows: int = 24, env: Mapping[str, str] | None = None
) -> AsyncIterator[Terminal]:
    """Run any command on a terminal of its own until the block ends."""
    master, slave = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=clean_environment({"TERM": "xterm-256color", **(env or {})}),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
    finally:
        os.close(slave)
    running = Terminal(process, master)
    loop = asyncio.get_running_loop()
    loop.add_reader(master, running._read)
    try:
        yield running
    finally:
        loop.remove_reader(master)
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        os.close(master)
