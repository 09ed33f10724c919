"""Runs workers for tests: inside the test's own loop, or as a process that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil

from llorch import serve
from llorch.sse import Event, parse
from llorch.wire.events import WorkerToken
from llorch.wire.workers import WorkerHealth
from roles.worker.api import CORE
from roles.worker.app import WorkerOptions, create
from roles.worker.core import Core
from tests.support.ended import ended

PATIENCE_S = 30.0

MAIN = """
import json, sys
from pathlib import Path
import msgspec
from llorch import errors, log, serve
from llorch.settings import Log, Server
from llorch.wire.engine_options import EngineOptions
from roles.worker.app import WorkerOptions, create
log.configure(Log(format="json"))
told = json.loads(sys.argv[1])
told["engine_options"] = msgspec.convert(told.pop("engine_options", {}), EngineOptions)
server = told.pop("server", None)
options = WorkerOptions(Path(told.pop("model_path")), server=Server(**server) if server else None, **told)
async def main():
    return await serve.serve([serve.Site(create(options), "127.0.0.1", 0)])
try:
    sys.exit(serve.run(main))
except errors.LlorchError as error:
    sys.exit(f"llorch: {error.message}")
"""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that can be spoken to; `core` is None when it is another process."""

    url: str
    http: aiohttp.ClientSession
    core: Core | None = None

    async def health(self) -> WorkerHealth:
        async with self.http.get("/health") as response:
            assert response.status == 200
            return msgspec.json.decode(await response.read(), type=WorkerHealth)

    async def ready(self) -> WorkerHealth:
        return await self.until(lambda health: health.status == "ready")

    async def until(self, true: Callable[[WorkerHealth], bool]) -> WorkerHealth:
        """Wait for a state."""
        async with asyncio.timeout(PATIENCE_S):
            while not true(health := await self.health()):
                await asyncio.sleep(0.005)
            return health

    async def execute(self, job_id: str = "job", **body: object) -> list[Event]:
        """Run a job to its end; return its events."""
        async with self.http.post("/execute", json={"job_id": job_id, **body}) as response:
            assert response.status == 200, await response.text()
            return list(parse(await response.read()))

    async def text(self, job_id: str = "job", **body: object) -> str:
        return text_of(await self.execute(job_id, **body))

    async def refusal(self, method: str, path: str, body: object = None) -> tuple[int, str, dict[str, object]]:
        """Return the status, code and details of an answer that is an error."""
        async with self.http.request(method, path, json=body) as response:
            error = json.loads(await response.read())["error"]
            return response.status, error["code"], error.get("details", {})


def text_of(events: list[Event]) -> str:
    return "".join(json.loads(event.data)["t"] for event in events if event.kind == "token")


def tokens_of(events: list[Event]) -> list[WorkerToken]:
    return [msgspec.json.decode(event.data, type=WorkerToken) for event in events if event.kind == "token"]


def going_on(seen: list[WorkerToken], max_tokens: int) -> dict[str, object]:
    """Return what an attempt is asked that goes on after *seen* of a job of *max_tokens*."""
    ids = [token for event in seen for token in event.ids]
    return {
        "first_token": len(seen),
        "continue_ids": ids,
        "continue_held": seen[-1].held if seen else "",
        "continue_text": "".join(event.t for event in seen),
        "max_tokens": max_tokens - len(ids),
    }


def last(events: list[Event]) -> dict[str, object]:
    """Return the data of the last event, with its kind."""
    return {"kind": events[-1].kind, **json.loads(events[-1].data)}


async def slots(core: Core) -> list[dict[str, Any]]:
    """Ask the engine itself about its slots."""
    async with core._engine._http._session.get("http://engine/slots") as response:  # type: ignore[attr-defined]  # a look inside
        return list(await response.json())


async def slots_processing(core: Core) -> int:
    """Ask the engine itself how many of its slots work."""
    return sum(slot["is_processing"] for slot in await slots(core))


async def until_engine_idle(core: Core) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await slots_processing(core):
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def worker(model: Path, *, ready: bool = True, **options: object) -> AsyncIterator[Worker]:
    """Run a worker in this loop."""
    app = create(WorkerOptions(model_path=model, **{"threads": 1, **options}))  # type: ignore[arg-type]  # tests name the options they need
    headers = {"Authorization": f"Bearer {options['token']}"} if "token" in options else {}
    async with serve.running(app, "127.0.0.1", 0) as url, aiohttp.ClientSession(url, headers=headers) as http:
        running = Worker(url, http, app[CORE])
        if ready:
            await running.ready()
        yield running


@dataclass(frozen=True, slots=True)
class Process:
    """A worker as a process of its own."""

    worker: Worker
    process: asyncio.subprocess.Process

    async def end(self) -> tuple[int, list[str]]:
        """Wait for its end; return the exit status, and what it said on stderr apart from JSON lines below warning."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            lines = (await self.process.stderr.read()).decode().splitlines()
            return await self.process.wait(), [line for line in lines if '"level": "info"' not in line]


@contextlib.asynccontextmanager
async def worker_process(model: Path, **options: object) -> AsyncIterator[Process]:
    """Start a worker as a process; whatever of it is left at the end is killed."""
    headers = {"Authorization": f"Bearer {options['token']}"} if "token" in options else {}
    told = json.dumps({"model_path": str(model), "threads": 1, **options})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MAIN, told, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            url = (await process.stdout.readline()).decode().strip() or "http://it.has.ended"
        async with aiohttp.ClientSession(url, headers=headers) as http:
            yield Process(Worker(url, http), process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def engine_of(pid: int) -> psutil.Process:
    """Wait for the engine process of a worker."""
    async with asyncio.timeout(PATIENCE_S):
        while not (children := psutil.Process(pid).children()):
            await asyncio.sleep(0.005)
    return children[0]


async def until_gone(process: psutil.Process) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not ended(process):
            await asyncio.sleep(0.005)
