"""What keeps the orchestrator informed: registers, then reports at every interval and at once on any change.

Strategy: a change sets an event; the loop clears it, then collects the facts, then sends them. So a burst of changes
is one report, and what changes while one is sent is in the next. Nothing is handed along but "something changed".
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import psutil

from llorch import log
from llorch.client import Client
from llorch.errors import LlorchError, RemoteError, Unreachable
from llorch.wire.pools import HeartbeatReply, Registered
from roles.pool.core import Pool

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 5.0
ANSWER_TIMEOUT_S = 10.0
GOODBYE_TIMEOUT_S = 2.0
SHORTEST_INTERVAL_S = 0.02
_log = log.get("pool.heartbeat")
T = TypeVar("T")


class Heartbeats:
    """The one loop that talks to the orchestrator.

    Args:
        pool: What it tells of; `pool.registered` is set here and nowhere else.
        client: The orchestrator.
        changed: Set by whatever changes.
    """

    def __init__(self, pool: Pool, client: Client, changed: asyncio.Event) -> None:
        self._pool = pool
        self._client = client
        self._changed = changed
        self._seq = time.time_ns() // 1_000_000  # grows across restarts without being stored
        self._trouble = ""
        self._known = False

    async def run(self) -> None:
        """Register and report until cancelled, whatever the orchestrator does."""
        while True:
            interval_s = await self._register()
            await self._report(interval_s)
            self._known = self._pool.registered = False

    async def goodbye(self) -> None:
        """Tell the orchestrator that this pool ends; it finds out by itself otherwise."""
        if not self._known:
            return
        try:
            path = f"/v2/pools/{self._pool.pool_id}"
            async with self._client.request("DELETE", path, timeout_s=GOODBYE_TIMEOUT_S):
                _log.info("pool_deregistered", orchestrator=self._client.url)
        except LlorchError as error:
            _log.info("pool_not_deregistered", reason=error.message)

    async def _register(self) -> float:
        """Register, however often that takes; return the seconds between heartbeats."""
        wait_s = FIRST_WAIT_S
        while True:
            self._changed.clear()
            body = await self._collected(self._pool.register)
            try:
                answer = await self._client.send(
                    "POST", "/v2/pools/register", Registered, body=body, timeout_s=ANSWER_TIMEOUT_S
                )
            except (RemoteError, Unreachable) as error:
                wait_s = await self._wait_out(error, wait_s)
                continue
            self._trouble = ""
            self._known = self._pool.registered = True
            _log.info("pool_registered", orchestrator=self._client.url, pool_id=body.pool_id, endpoint=body.endpoint)
            return max(answer.heartbeat_interval_ms / 1000, SHORTEST_INTERVAL_S)

    async def _report(self, interval_s: float) -> None:
        """Send heartbeats until the orchestrator no longer knows this pool."""
        wait_s = FIRST_WAIT_S
        while True:
            await self._change(interval_s)
            self._changed.clear()
            self._seq += 1
            body = await self._collected(functools.partial(self._pool.heartbeat, self._seq))
            path = f"/v2/pools/{self._pool.pool_id}/heartbeat"
            try:
                await self._client.send("POST", path, HeartbeatReply, body=body, timeout_s=ANSWER_TIMEOUT_S)
            except RemoteError as error:
                if error.code == "POOL_NOT_FOUND":
                    _log.info("pool_forgotten", orchestrator=self._client.url)
                    return
                if error.code == "CONFLICT":
                    await self._wait_out(error, wait_s)
                    return
                wait_s = await self._wait_out(error, wait_s)
                self._changed.set()
                continue
            except Unreachable as error:
                wait_s = await self._wait_out(error, wait_s)
                self._changed.set()
                continue
            if self._trouble:
                _log.info("orchestrator_back", orchestrator=self._client.url)
            self._trouble, wait_s = "", FIRST_WAIT_S
            self._pool.registered = True

    async def _collected(self, facts: Callable[[], Awaitable[T]]) -> T:
        """Return the facts, as soon as they can be had: a host that is out of files or memory has them again later."""
        wait_s = FIRST_WAIT_S
        while True:
            try:
                return await facts()
            except (OSError, psutil.Error, LlorchError) as error:
                _log.warning("nothing_to_report", reason=str(error), wait_s=wait_s)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    async def _change(self, limit_s: float) -> None:
        """Return when something has changed, at the latest after *limit_s*."""
        try:
            async with asyncio.timeout(limit_s):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _wait_out(self, error: RemoteError | Unreachable, wait_s: float) -> float:
        """Wait before the next try; return how long to wait before the one after it.

        Somebody who does not answer is asked again soon, somebody who refuses is not: that takes a person. Logs what
        is new, not every try.
        """
        self._pool.registered = False
        refused = isinstance(error, RemoteError) and not error.retriable
        if error.code != self._trouble:
            self._trouble = error.code
            note = "orchestrator_refused" if refused else "orchestrator_away"
            _log.warning(note, orchestrator=self._client.url, code=error.code, reason=error.message)
        await asyncio.sleep(LONGEST_WAIT_S if refused else wait_s)
        return min(wait_s * 2, LONGEST_WAIT_S)
