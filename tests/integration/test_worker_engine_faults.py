"""An engine that is killed or does not answer any more: its worker still does, and every job gets its end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from llorch import sse
from tests.support import models
from tests.support.workers import (
    PATIENCE_S,
    Process,
    engine_of,
    last,
    until_gone,
    worker_process,
)

ENDLESS = {"prompt": "bake kilo", "temperature": 1, "max_tokens": 100_000}
PREFILL = {"prompt": "bake " * 1900, "max_tokens": 10}
SHAPE = models.Shape(n_embd=256, n_layer=8, n_head=4, n_ff=704, ctx=2048)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.make(tmp_path_factory.mktemp("model") / "small.gguf", SHAPE)


@pytest.fixture
async def started(model: Path) -> AsyncIterator[Process]:
    async with worker_process(model, slots=3, batch=32, drain_s=0.5) as process:
        await process.worker.ready()
        yield process


async def begin(started: Process, job_id: str, until: bytes, **body: object) -> aiohttp.ClientResponse:
    response = await started.worker.http.post("/execute", json={"job_id": job_id, **body})
    assert response.status == 200
    await response.content.readuntil(until)
    return response


async def rest_of(response: aiohttp.ClientResponse) -> list[sse.Event]:
    """Read from the middle of an event to the end."""
    async with asyncio.timeout(PATIENCE_S):
        return list(sse.parse((await response.read()).partition(b"\n\n")[2]))


@contextlib.asynccontextmanager
async def frozen(started: Process) -> AsyncIterator[psutil.Process]:
    """Have the engine answer nothing; it is let on at the end, if there still is one."""
    engine = await engine_of(started.process.pid)
    engine.suspend()
    async with asyncio.timeout(PATIENCE_S):
        while engine.status() != psutil.STATUS_STOPPED:
            await asyncio.sleep(0.005)
    try:
        yield engine
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            engine.resume()


async def test_a_killed_engine_ends_every_job_with_an_event_and_the_worker_with_one_line(started: Process) -> None:
    jobs = [
        await begin(started, "decoding", b"event: token", **ENDLESS),
        await begin(started, "decoding-too", b"event: token", **ENDLESS),
        await begin(started, "in-its-prompt", b"event: started", **PREFILL),
    ]

    (await engine_of(started.process.pid)).kill()
    ends = [last(await rest_of(job)) for job in jobs]
    status, lines = await started.end()

    assert [(end["kind"], end["code"], end["retriable"]) for end in ends] == [("error", "ENGINE_FAILED", True)] * 3
    assert (status, lines) == (1, ["llorch: the engine process ended with signal 9"])


async def test_a_worker_whose_engine_hangs_answers_and_cancels(started: Process) -> None:
    job = await begin(started, "job", b"event: token", **ENDLESS)

    async with frozen(started):
        before = await started.worker.health()
        async with started.worker.http.post("/cancel", json={"job_id": "job"}) as told:
            known = (await told.json())["known"]
        end = last(await rest_of(job))
        after = await started.worker.health()
    text = await started.worker.text("next", **{**ENDLESS, "max_tokens": 5})

    assert (before.status, before.slots_busy, after.slots_busy, known) == ("ready", 1, 0, True)
    assert end["code"] == "CANCELLED"
    assert text


async def test_a_job_whose_tokens_are_counted_by_an_engine_that_hangs_can_be_cancelled(started: Process) -> None:
    async with frozen(started), asyncio.TaskGroup() as tasks:
        body = {"job_id": "job", **ENDLESS}
        asked = tasks.create_task(started.worker.refusal("POST", "/execute", body))
        await started.worker.until(lambda health: health.slots_busy == 1)

        async with started.worker.http.post("/cancel", json={"job_id": "job"}):
            status, code, _ = await asked
        busy = (await started.worker.health()).slots_busy

    assert (status, code, busy) == (409, "CANCELLED", 0)


async def test_a_later_attempt_does_not_wait_for_one_that_hangs(started: Process) -> None:
    old = await begin(started, "job", b"event: token", **ENDLESS)

    async with frozen(started), asyncio.TaskGroup() as tasks:
        later = {"job_id": "job", "attempt": 2, **ENDLESS, "max_tokens": 5}
        new = tasks.create_task(started.worker.http.post("/execute", json=later))
        told = last(await rest_of(old))
        (await engine_of(started.process.pid)).resume()
    events = list(sse.parse(await new.result().read()))

    assert told["code"] == "CANCELLED"
    assert last(events)["tokens_out"] == 5


@pytest.mark.parametrize("how", ["shutdown", "signal"])
async def test_a_worker_whose_engine_hangs_still_ends_and_hands_its_jobs_back(started: Process, how: str) -> None:
    job = await begin(started, "job", b"event: token", **ENDLESS)

    async with frozen(started) as engine:
        if how == "shutdown":
            async with started.worker.http.post("/shutdown") as told:
                assert told.status == 202
        else:
            started.process.send_signal(signal.SIGTERM)
        end = last(await rest_of(job))
        status, lines = await started.end()
        await until_gone(engine)

    assert (end["kind"], end["code"], end["retriable"]) == ("error", "DRAINING", True)
    assert (status, lines) == (0, [])


async def test_jobs_get_the_time_that_a_worker_was_told_last(started: Process) -> None:
    job = await begin(started, "job", b"event: token", **ENDLESS)

    async with frozen(started) as engine:
        async with started.worker.http.post("/shutdown?drain_s=inf") as told:
            assert told.status == 202
        await started.worker.until(lambda health: health.status == "draining")
        async with started.worker.http.post("/shutdown?drain_s=0") as told:
            assert told.status == 202
        end = last(await rest_of(job))
        status, lines = await started.end()
        await until_gone(engine)

    assert (end["kind"], end["code"], end["retriable"]) == ("error", "DRAINING", True)
    assert (status, lines) == (0, [])
