"""A real orchestrator in the test's own loop, and a scripted worker for it: a real HTTP server that plays a part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from llorch.client import Client
from llorch.config import load
from llorch.edge import error_response, read, reply
from llorch.errors import JobNotFound, LlorchError
from llorch.policy import ModelPolicy
from llorch.serve import running
from llorch.sse import Event, parse
from llorch.wire import events
from llorch.wire.events import parse_event_id
from llorch.wire.models import Preloading, PreloadModel
from llorch.wire.pools import (
    Heartbeat,
    HeartbeatReply,
    Register,
    Registered,
    Spawned,
    SpawnWorker,
    Worker,
    WorkerReport,
)
from llorch.wire.tasks import Accepted, Task
from llorch.wire.workers import CancelAccepted, CancelJob, CountTokens, Execute, TokenCount
from roles.orchestrator.api.keys import CORE
from roles.orchestrator.app import create
from roles.orchestrator.clock import now_ms
from roles.orchestrator.core import Orchestrator
from tests.support import scripts
from tests.support.scripts import DEVICE, MODEL, Call, Script, healthy, well_behaved

REF = scripts.REF
WORKER_TOKEN = "the-token-of-the-scripted-worker"
PATIENCE_S = 20.0
QUIET: dict[str, Any] = {"heartbeat_interval_s": 3600}
"""Time that a test lets pass does not make the pool go offline."""
BACK_OFF_MS = 60_000
COUNTED = 5_000
"""What a scripted worker says of every prompt."""


class Clock:
    """The wall clock, and how far the test has set it on, or back."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        return now_ms() + self.ahead_ms


@dataclass(slots=True)
class System:
    """A running orchestrator, its client and its clock."""

    app: web.Application
    url: str
    client: Client
    clock: Clock

    @property
    def core(self) -> Orchestrator:
        """The orchestrator behind the API."""
        return self.app[CORE]

    async def submit(self, **fields: object) -> Accepted:
        """Submit a job for the scripted model."""
        body = {"model": REF, "prompt": "say something", **fields}
        return await self.client.send("POST", "/v2/tasks", Accepted, body=body)

    async def show(self, job_id: str) -> Task:
        """Return everything known about a job."""
        return await self.client.send("GET", f"/v2/tasks/{job_id}", Task)

    async def stream(self, job_id: str, *, after: str = "") -> bytes:
        """Return a job's whole stream as it was on the wire, once it has ended."""
        headers = {"Last-Event-ID": after} if after else {}
        async with self.client.request("GET", f"/v2/tasks/{job_id}/events", headers=headers) as response:
            return await response.read()

    async def events(self, job_id: str, *, after: str = "") -> list[Event]:
        """Return a job's events, once it has ended."""
        return list(parse(await self.stream(job_id, after=after)))

    async def until(self, job_id: str, expected: Callable[[Task], bool]) -> Task:
        """Return a job as soon as it is as *expected*."""
        async with asyncio.timeout(PATIENCE_S):
            while not expected(task := await self.show(job_id)):
                pass
            return task

    async def reached(self, job_id: str, status: str) -> Task:
        """Return a job as soon as it has *status*."""
        return await self.until(job_id, lambda task: task.status == status)

    def advance(self, ms: int) -> None:
        """Set the wall clock on, as if time had passed, or back."""
        self.clock.ahead_ms += ms
        self.core.dispatcher.wake()

    async def register(self, worker: ScriptedWorker, *, pool_id: str = "pool", **fields: object) -> None:
        """Register the scripted worker's pool, now and whenever the orchestrator asks for news of it."""

        async def register() -> None:
            body = worker.registration(pool_id, **fields)
            await self.client.send("POST", "/v2/pools/register", Registered, body=body)

        worker.vouch = register
        await register()

    async def beat(self, *workers: WorkerReport, seq: int, pool_id: str = "pool", **fields: object) -> None:
        """Send a heartbeat of a pool, by whose clock it is *seq*."""
        body = Heartbeat(seq=seq, time_ms=seq, devices=[DEVICE], models=[MODEL], workers=list(workers))
        body = msgspec.structs.replace(body, **fields)
        await self.client.send("POST", f"/v2/pools/{pool_id}/heartbeat", HeartbeatReply, body=body)


@asynccontextmanager
async def orchestrator(
    data_dir: Path,
    *,
    token: str = "",
    clock: Clock | None = None,
    policies: Mapping[str, ModelPolicy] | None = None,
    **own: object,
) -> AsyncIterator[System]:
    """Serve an orchestrator for the length of the block; *policies* are `[models]`, *own* keys of `[orchestrator]`."""
    clock = clock or Clock()
    env = {"LLORCH_API_TOKEN": token} if token else {}
    settings = load(env=env, overrides={"orchestrator": {"data_dir": str(data_dir), "port": 0, **own}})
    app = create(msgspec.structs.replace(settings, models=dict(policies or {})), wall_ms=clock)
    async with running(app, "127.0.0.1", 0) as url, Client(url, token=token) as client:
        yield System(app, url, client, clock)


@dataclass(slots=True)
class ScriptedWorker:
    """A worker, and the pool it belongs to.

    `refusal`, if set, is what the pool answers to a spawn; `startable`, that it starts this worker then.
    """

    script: Script = well_behaved
    slots: int = 4
    worker_id: str = "worker-1"
    busy: LlorchError | None = None
    refusal: LlorchError | None = None
    startable: bool = False
    url: str = ""
    asked: list[Execute] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    again: Script | None = None
    """What is played when a job's events are asked for again; None: the worker has forgotten the job."""
    returns: list[str] = field(default_factory=list)
    vouch: Callable[[], Awaitable[None]] | None = None
    """What its pool does when the orchestrator asks for news."""
    cancels: list[str] = field(default_factory=list)
    spawns: list[SpawnWorker] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)
    preloads: list[str] = field(default_factory=list)
    protocol: int | None = None
    """The version that it says it speaks when it is asked for its health; None: it does not answer that."""
    active: int = 0
    peak: int = 0
    calls: dict[str, Call] = field(default_factory=dict)

    async def count(self, request: web.Request) -> web.StreamResponse:
        """POST /count: its engine is in trouble, or tells more than there is room for."""
        await read(request, CountTokens)
        return reply(TokenCount(COUNTED, 4096)) if self.busy is None else error_response(self.busy, "none")

    async def execute(self, request: web.Request) -> web.StreamResponse:
        """POST /execute."""
        body = await read(request, Execute)
        self.asked.append(body)
        self.headers.append(request.headers)
        if self.busy is not None:
            return error_response(self.busy, "none")
        call = self.calls[body.job_id] = Call(request, body)
        self.active += 1
        self.peak = max(self.peak, self.active)
        try:
            await self.script(call)
        except ConnectionResetError:
            pass
        finally:
            self.active -= 1
        return call.answer()

    async def events(self, request: web.Request) -> web.StreamResponse:
        """GET /jobs/{job_id}/events: the connection was lost, or another orchestrator is there."""
        after = request.headers["Last-Event-ID"]
        self.returns.append(after)
        if self.again is None:
            return error_response(JobNotFound("forgotten"), "none")
        job_id = request.match_info["job_id"]
        body = next(asked for asked in reversed(self.asked) if asked.job_id == job_id)
        call = self.calls[job_id] = Call(request, body)
        call.count = parse_event_id(after).tokens
        with suppress(ConnectionResetError):
            await self.again(call)
        return call.answer()

    async def health(self, _request: web.Request) -> web.StreamResponse:
        """GET /health."""
        if self.protocol is None:
            return error_response(JobNotFound("it does not say"), "none")
        return reply(healthy(self.worker_id, protocol=self.protocol))

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """POST /cancel."""
        job_id = (await read(request, CancelJob)).job_id
        self.cancels.append(job_id)
        call = self.calls.get(job_id)
        if call is not None:
            call.cancelled.set()
        return reply(CancelAccepted(job_id, known=call is not None), status=202)

    async def report_asked(self, request: web.Request) -> web.StreamResponse:
        """POST /v2/report of its pool: it registers again, as far as it is alive."""
        if self.vouch is not None:
            await self.vouch()
        return web.Response(status=204)

    async def spawn(self, request: web.Request) -> web.StreamResponse:
        """POST /v2/workers/spawn of its pool."""
        self.spawns.append(await read(request, SpawnWorker))
        if self.startable:
            return reply(Spawned(self.worker_id, "starting"), status=202)
        return error_response(self.refusal or LlorchError("the pool is broken"), "none")

    async def preload(self, request: web.Request) -> web.StreamResponse:
        """POST /v2/models/preload of its pool."""
        self.preloads.append((await read(request, PreloadModel)).model_ref)
        return reply(Preloading(self.preloads[-1], 1), status=202)

    async def stop(self, request: web.Request) -> web.StreamResponse:
        """POST /v2/workers/{id}/stop of its pool."""
        self.stops.append(request.match_info["id"])
        shown = self.report(status="draining")
        return reply(Worker(**{name: getattr(shown, name) for name in Worker.__struct_fields__}), status=202)

    def report(self, **changes: object) -> WorkerReport:
        """Return what a heartbeat says of it."""
        known = WorkerReport(
            worker_id=self.worker_id,
            model_ref=REF,
            status="ready",
            backend="cpu",
            engine="llamacpp",
            device="cpu0",
            slots=self.slots,
            slots_busy=0,
            context_length=4096,
            memory_bytes=1,
            started_ms=1,
            uri=self.url,
            token=WORKER_TOKEN,
        )
        return msgspec.structs.replace(known, **changes)

    def registration(self, pool_id: str = "pool", **changes: object) -> Register:
        """Return what its pool registers with."""
        known = Register(
            pool_id=pool_id,
            endpoint=self.url,
            version="1",
            devices=[DEVICE],
            models=[MODEL],
            workers=[self.report()],
        )
        return msgspec.structs.replace(known, **changes)


@asynccontextmanager
async def scripted(worker: ScriptedWorker) -> AsyncIterator[ScriptedWorker]:
    """Serve a scripted worker for the length of the block."""
    app = web.Application()
    app.add_routes(
        [
            web.get("/health", worker.health),
            web.post("/count", worker.count),
            web.post("/execute", worker.execute),
            web.get("/jobs/{job_id}/events", worker.events),
            web.post("/cancel", worker.cancel),
            web.post("/v2/workers/spawn", worker.spawn),
            web.post("/v2/workers/{id}/stop", worker.stop),
            web.post("/v2/models/preload", worker.preload),
            web.post("/v2/report", worker.report_asked),
        ]
    )
    async with running(app, "127.0.0.1", 0) as worker.url:
        yield worker


@asynccontextmanager
async def both(
    data_dir: Path, worker: ScriptedWorker, *, clock: Clock | None = None, **own: object
) -> AsyncIterator[System]:
    """Serve an orchestrator and a scripted worker that is registered with it."""
    async with scripted(worker), orchestrator(data_dir, token="", clock=clock, policies=None, **own) as system:
        await system.register(worker)
        yield system


def tokens(stream: list[Event]) -> list[events.Token]:
    """Return the token events of a stream."""
    return [msgspec.json.decode(event.data, type=events.Token) for event in stream if event.kind == "token"]


def text(stream: list[Event]) -> list[str]:
    """Return a stream's pieces, after checking that each came once, in order, under its own id."""
    found = tokens(stream)
    assert [token.i for token in found] == list(range(len(found)))
    ids = [parse_event_id(event.id) for event in stream]
    assert ids == sorted(set(ids))
    return [token.t for token in found]


def terminal(stream: list[Event]) -> list[Event]:
    """Return the terminal events of a stream: there should be one."""
    return [event for event in stream if event.kind in {"end", "error"}]


def failure(stream: list[Event]) -> events.Failed:
    """Return the error that a stream ended with."""
    assert stream[-1].kind == "error", stream[-1]
    return msgspec.json.decode(stream[-1].data, type=events.Failed)
