"""Which orchestrator this pool reports to: the configured one, until it is told of another."""

from __future__ import annotations

import asyncio

from llorch.client import Client
from llorch.errors import Conflict, RemoteError
from llorch.wire.pools import Registered
from roles.pool.core import Pool
from roles.pool.heartbeat import ANSWER_TIMEOUT_S, Heartbeats


class Registration:
    """The one owner of the loop that reports; `pool.orchestrator` is set here and nowhere else.

    Args:
        pool: What is reported.
        changed: Set by whatever changes.
        tasks: Where the loop runs.
        token: What the orchestrator asks for.
    """

    def __init__(self, pool: Pool, changed: asyncio.Event, *, tasks: asyncio.TaskGroup, token: str) -> None:
        self._pool = pool
        self._changed = changed
        self._tasks = tasks
        self._token = token
        self._loop: asyncio.Task[None] | None = None
        self._goodbye = False

    def begin(self, url: str) -> None:
        """Report to the orchestrator at *url* from now on, whether it is there or not; say goodbye to the former."""
        self._pool.orchestrator = url
        self._loop = self._tasks.create_task(self._report(url, self._loop), name="heartbeats")

    async def move(self, url: str) -> None:
        """Register with the orchestrator at *url*, and report to it from now on.

        Raises:
            Unreachable: It is not there, and nothing has changed.
            Conflict: It refused, and nothing has changed.
        """
        async with Client(url, token=self._token, what="the orchestrator") as client:
            body = await self._pool.register()
            try:
                await client.send("POST", "/v2/pools/register", Registered, body=body, timeout_s=ANSWER_TIMEOUT_S)
            except RemoteError as error:
                raise Conflict(f"the orchestrator at {url} refused this pool: {error.message}") from None
        if url != self._pool.orchestrator:
            self.begin(url)

    async def end(self, *, goodbye: bool) -> None:
        """Report no more; without *goodbye* the orchestrator shall take this pool for one that comes back.

        It does, too, where this process breaks: that ends the loop without this.
        """
        if self._loop is not None:
            self._goodbye = goodbye and not self._loop.cancelling()
            self._loop.cancel()
            await asyncio.wait([self._loop])

    async def _report(self, url: str, former: asyncio.Task[None] | None) -> None:
        if former is not None:
            former.cancel()
            await asyncio.wait([former])
        async with Client(url, token=self._token, what="the orchestrator") as client:
            heartbeats = Heartbeats(self._pool, client, self._changed)
            try:
                await heartbeats.run()
            finally:
                if self._goodbye or asyncio.current_task() is not self._loop:
                    await heartbeats.goodbye()
