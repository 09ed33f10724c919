"""A running pool for tests, and an orchestrator that only listens. Both are real servers on free ports."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from aiohttp import web
from prometheus_client import CollectorRegistry

from llorch import config
from llorch.client import Client
from llorch.edge import Endpoint, create_app, reply
from llorch.errors import LlorchError, PoolNotFound
from llorch.metrics import HttpMetrics
from llorch.models import HAIKU_REF
from llorch.serve import running
from llorch.wire.codec import decode_reply
from llorch.wire.pools import Heartbeat, HeartbeatReply, Register, Registered, Spawned, Worker, WorkerReport
from roles.pool import app
from roles.pool.model_cache.pace import Patience
from roles.pool.worker_lifecycle.launcher import WorkerSpec
from roles.pool.worker_lifecycle.processes import ProcessLauncher

CHILD = Path(__file__).with_name("child_worker.py")
PATIENCE_S = 60.0
T = TypeVar("T")


class Listener:
    """An orchestrator that remembers what pools tell it. `refusal` is what it answers with instead, when set."""

    def __init__(self, *, interval_ms: int = 60_000) -> None:
        self.interval_ms = interval_ms
        self.registrations: list[Register] = []
        self.heartbeats: list[Heartbeat] = []
        self.goodbyes = 0
        self.known = False
        self.refusal: LlorchError | None = None
        self.refused = 0
        self._news = asyncio.Condition()

    def create(self) -> web.Application:
        """Build the server."""

        async def lifetime(_app: web.Application) -> AsyncIterator[None]:
            yield

        endpoints = [
            Endpoint("POST", "/v2/pools/register", self._register, ""),
            Endpoint("POST", "/v2/pools/{id}/heartbeat", self._heartbeat, ""),
            Endpoint("DELETE", "/v2/pools/{id}", self._delete, ""),
        ]
        return create_app(endpoints, lifetime, metrics=HttpMetrics(CollectorRegistry()))

    async def until(self, found: Callable[[], T | None]) -> T:
        """Return what *found* gives, as soon as it gives something; asks again after every message."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            while (value := found()) is None:
                await self._news.wait()
            return value

    async def until_worker(self, worker_id: str, *states: str) -> WorkerReport:
        """Return a worker as first reported in one of *states*, be it while the pool registered."""

        def found() -> WorkerReport | None:
            reports = [*(body.workers for body in self.registrations), *(beat.workers for beat in self.heartbeats)]
            told = [worker for workers in reports for worker in workers if worker.worker_id == worker_id]
            return next((worker for worker in told if worker.status in states), None)

        return await self.until(found)

    async def _register(self, request: web.Request) -> web.Response:
        body = decode_reply(await request.read(), Register)
        async with self._news:
            self._news.notify_all()
            self._refuse()
            self.registrations.append(body)
            self.known = True
        return reply(Registered(body.pool_id, self.interval_ms))

    async def _heartbeat(self, request: web.Request) -> web.Response:
        body = decode_reply(await request.read(), Heartbeat)
        async with self._news:
            self._news.notify_all()
            self._refuse()
            if not self.known:
                raise PoolNotFound("who are you?")
            self.heartbeats.append(body)
        return reply(HeartbeatReply(body.seq))

    async def _delete(self, request: web.Request) -> web.Response:
        async with self._news:
            self._news.notify_all()
            self.goodbyes += 1
        return web.Response(status=204)

    def _refuse(self) -> None:
        if self.refusal is not None:
            self.refused += 1
            raise self.refusal


@dataclass(frozen=True, slots=True)
class Running:
    """A pool that runs, and what it tells its orchestrator."""

    url: str
    client: Client
    listener: Listener
    data: Path

    async def spawn(self, model_ref: str = HAIKU_REF, **more: object) -> str:
        """Ask for a worker; return its id."""
        body = {"model_ref": model_ref, **more}
        return (await self.client.send("POST", "/v2/workers/spawn", Spawned, body=body)).worker_id

    async def worker(self, worker_id: str) -> Worker:
        """Return what the pool tells people of a worker."""
        return await self.client.send("GET", f"/v2/workers/{worker_id}", Worker)

    async def stop(self, worker_id: str) -> WorkerReport:
        """Stop a worker; return how it ended."""
        await self.client.send("POST", f"/v2/workers/{worker_id}/stop", Worker)
        return await self.listener.until_worker(worker_id, "stopped", "failed")


@contextlib.asynccontextmanager
async def running_pool(
    data: Path,
    mode: str = "good",
    *,
    health_interval_s: float = 60.0,
    download_patience: Patience | None = None,
    env: Mapping[str, str] | None = None,
    **own: object,
) -> AsyncIterator[Running]:
    """Run a pool whose workers are `child_worker.py` in *mode*, or real ones where it is empty."""
    listener = Listener()
    async with running(listener.create(), "127.0.0.1", 0) as orchestrator:
        settings = config.load(
            env=env or {},
            overrides={
                "pool": {"data_dir": str(data), "orchestrator": orchestrator, "stop_grace_s": 0.2, "drain_s": 10.0}
                | own
            },
        )
        launcher = ProcessLauncher(data / "logs", lambda spec: command(mode, spec)) if mode else None
        built = app.create(settings, launcher, health_interval_s=health_interval_s, download_patience=download_patience)
        async with (
            running(built, "127.0.0.1", 0) as url,
            Client(url, token=settings.token, what="the pool") as client,
        ):
            yield Running(url, client, listener, data)


def command(mode: str, spec: WorkerSpec) -> list[str]:
    """Return the command line of a worker for tests."""
    return [sys.executable, str(CHILD), mode, spec.worker_id, spec.model_ref, spec.callback_url]
