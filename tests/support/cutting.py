"""A TCP relay in front of a server that can be cut: the connection between the two is as bad as a test wants."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from urllib.parse import urlsplit


class Line:
    """Connections to one server, by way of `url`.

    Attributes:
        url: Where clients connect.
        lose_answers: So many of the next connections are cut when their answer begins, before any of it arrives.
        stuck_after_bytes: The next connection that brings so many bytes to the server hangs then.
        accepted: How many connections there have been.
        carried: How many bytes each of them has brought to the server.
        broken: How many ends of connections `cut` has broken.
    """

    def __init__(self, server_url: str) -> None:
        self._host, self._port = urlsplit(server_url).hostname, urlsplit(server_url).port
        self.url = ""
        self.lose_answers = 0
        self.stuck_after_bytes: int | None = None
        self.accepted = 0
        self.carried: list[int] = []
        self.broken = 0
        self._open: set[asyncio.StreamWriter] = set()

    def cut(self, random: Random | None = None, *, share: float = 1.0) -> int:
        """Break every connection that is open, or each end of one with probability *share*; return how many were."""
        chosen = [writer for writer in self._open if random is None or random.random() < share]
        for writer in chosen:
            writer.transport.abort()
        self.broken += len(chosen)
        return len(chosen)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection, both ways, until either side ends it."""
        self.accepted += 1
        lose, self.lose_answers = self.lose_answers > 0, max(0, self.lose_answers - 1)
        number = len(self.carried)
        self.carried.append(0)

        def carry(count: int) -> bool:
            self.carried[number] += count
            stuck = self.stuck_after_bytes is not None and self.carried[number] >= self.stuck_after_bytes
            if stuck:
                self.stuck_after_bytes = None
            return not stuck

        try:
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()  # what a client sees of a server that is not there
            return
        with contextlib.suppress(OSError):
            self._open |= {writer, far_writer}
            try:
                async with asyncio.TaskGroup() as tasks:
                    asking = tasks.create_task(_copy(reader, far_writer, carry))
                    if lose:
                        await far_reader.read(1)
                        writer.transport.abort()
                    else:
                        await _copy(far_reader, writer)
                    asking.cancel()
            finally:
                self._open -= {writer, far_writer}
                far_writer.transport.abort()
                writer.transport.abort()


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, goes_on: Callable[[int], bool] = lambda _count: True
) -> None:
    """Relay one direction to its end, or for ever once *goes_on*, which is told each block's size, says no."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
            if not goes_on(len(data)):
                await asyncio.Event().wait()


@asynccontextmanager
async def line(server_url: str) -> AsyncIterator[Line]:
    """Relay to a server until the block ends."""
    made = Line(server_url)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        made.cut()
