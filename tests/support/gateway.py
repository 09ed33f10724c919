"""Stands between pools and the orchestrator, so that the orchestrator reaches workers over lines that can be cut.

It passes registrations and heartbeats on as they are, but for the workers' addresses: each is replaced by that of a
proxy of its own.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

import aiohttp
from aiohttp import web

from llorch.serve import running
from tests.support.cutting import Line, line

PATIENCE_S = 15.0


class Gateway:
    """The orchestrator's address for pools; `cut` breaks lines between the orchestrator and workers."""

    def __init__(self, orchestrator: str) -> None:
        self.url = ""
        self._orchestrator = orchestrator
        self._lines: dict[str, Line] = {}
        self._stack = AsyncExitStack()
        self._http: aiohttp.ClientSession | None = None

    @property
    def cuts(self) -> int:
        """How many ends of connections to workers have been broken."""
        return sum(one.broken for one in self._lines.values())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Gateway]:
        """Serve for the length of the block."""
        app = web.Application(client_max_size=2**24)
        app.add_routes([web.route("*", "/{path:.*}", self._pass_on)])
        async with self._stack, aiohttp.ClientSession(self._orchestrator) as self._http:
            self.url = await self._stack.enter_async_context(running(app, "127.0.0.1", 0))
            yield self

    def cut(self, random: Random, share: float) -> int:
        """Break each open connection to a worker with probability *share*; return how many it were."""
        return sum(one.cut(random, share=share) for one in self._lines.values())

    async def _pass_on(self, request: web.Request) -> web.Response:
        assert self._http is not None
        body = await request.read()
        if body:
            told = json.loads(body)
            for worker in told.get("workers", []):
                if "uri" in worker:
                    worker["uri"] = await self._line(worker["uri"])
            body = json.dumps(told).encode()
        headers = {"Content-Type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        try:
            async with self._http.request(
                request.method, request.path_qs, data=body or None, headers=headers, timeout=timeout
            ) as answer:
                return web.Response(body=await answer.read(), status=answer.status, headers=headers)
        except (aiohttp.ClientError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()  # what the pool would see without anything in between
            return web.Response(status=502)

    async def _line(self, uri: str) -> str:
        if uri not in self._lines:
            self._lines[uri] = await self._stack.enter_async_context(line(uri))
        return self._lines[uri].url
