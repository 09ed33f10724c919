"""Attempts and stops with the real engine: who has the slot, and what the engine does about it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from llorch import sse
from llorch.wire.workers import CancelJob, Execute
from roles.worker.core import Core
from tests.support import models
from tests.support.workers import (
    PATIENCE_S,
    Worker,
    last,
    slots,
    slots_processing,
    text_of,
    tokens_of,
    until_engine_idle,
    worker,
)

LONG = {"prompt": "bake kilo", "temperature": 0, "max_tokens": 1500}
PREFILL = {"prompt": "bake " * 1900, "max_tokens": 100}
SHAPE = models.Shape(n_embd=256, n_layer=8, n_head=4, n_ff=704, ctx=2048)
BATCH = 32


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.make(tmp_path_factory.mktemp("model") / "small.gguf", SHAPE)


@pytest.fixture
async def one(model: Path) -> AsyncIterator[Worker]:
    """Run a worker with one slot."""
    async with worker(model, slots=1, batch=BATCH) as running:
        yield running


async def begin(worker: Worker, until: bytes, **body: object) -> aiohttp.ClientResponse:
    """Start an attempt and return its open answer when *until* has come."""
    response = await worker.http.post("/execute", json={"job_id": "job", **body})
    assert response.status == 200, await response.text()
    await response.content.readuntil(until)
    return response


async def rest_of(response: aiohttp.ClientResponse) -> list[sse.Event]:
    """Read from the middle of an event to the end."""
    return list(sse.parse((await response.read()).partition(b"\n\n")[2]))


async def cancel(worker: Worker, job_id: str = "job", **body: object) -> bool:
    async with worker.http.post("/cancel", json={"job_id": job_id, **body}) as response:
        assert response.status == 202
        return bool((await response.json())["known"])


async def metric(worker: Worker, name: str) -> float:
    async with worker.http.get("/metrics") as response:
        for line in (await response.text()).splitlines():
            if line.startswith(f"{name} "):
                return float(line.split(" ")[1])
    raise AssertionError(name)


async def most_until_idle(core: Core, count: str) -> int:
    """Return the highest count that the engine tells of its one slot until it works no more."""
    highest = 0
    async with asyncio.timeout(PATIENCE_S):
        while (slot := (await slots(core))[0])["is_processing"]:
            told = slot["next_token"][0] if count == "n_decoded" else slot
            highest = max(highest, int(told[count]))
    return highest


@pytest.mark.parametrize(("work", "until"), [(LONG, b"event: token"), (PREFILL, b"event: started")])
async def test_a_later_attempt_takes_the_slot_and_the_earlier_one_is_told(
    one: Worker, work: dict[str, object], until: bytes
) -> None:
    assert one.core is not None
    old = await begin(one, until, attempt=1, **work)
    short = {**LONG, "max_tokens": 30}

    new = await one.execute("job", attempt=2, first_token=7, **short)
    told = await rest_of(old)
    again = await one.http.get("/jobs/job/events")
    whole = await one.text("whole", **short)

    assert (last(told)["kind"], last(told)["code"]) == ("error", "CANCELLED")
    assert json.loads(new[0].data)["attempt"] == 2
    assert new[-1].kind == "end"
    assert [token.i for token in tokens_of(new)] == list(range(7, 7 + len(tokens_of(new))))
    assert text_of(new) == whole
    assert list(sse.parse(await again.read())) == new
    assert (await one.health()).slots_busy == 0
    await until_engine_idle(one.core)


async def test_a_later_attempt_leaves_other_jobs_their_slots(model: Path) -> None:
    async with worker(model, slots=2) as two:
        old = await begin(two, b"event: token", **LONG)
        other = await begin(two, b"event: token", job_id="other", **{**LONG, "max_tokens": 300})

        new = await begin(two, b"event: token", attempt=2, **LONG)
        refused = await two.refusal("POST", "/execute", {"job_id": "third", **LONG})
        busy = (await two.health()).slots_busy
        await cancel(two)

        assert refused[:2] == (503, "ALL_SLOTS_BUSY")
        assert busy == 2
        assert last(await rest_of(old))["code"] == "CANCELLED"
        assert last(await rest_of(new))["code"] == "CANCELLED"
        assert last(await rest_of(other))["tokens_out"] == 300


async def test_the_same_attempt_and_an_earlier_one_are_refused_and_change_nothing(one: Worker) -> None:
    running = await begin(one, b"event: token", attempt=2, **{**LONG, "max_tokens": 200})

    refused = [(await one.refusal("POST", "/execute", {"job_id": "job", "attempt": n, **LONG}))[:2] for n in (1, 2)]
    end = last(await rest_of(running))
    after = [(await one.refusal("POST", "/execute", {"job_id": "job", "attempt": n, **LONG}))[:2] for n in (1, 2)]

    assert refused == after == [(409, "CONFLICT")] * 2
    assert end["tokens_out"] == 200


async def test_a_late_cancel_of_an_earlier_attempt_never_hits_the_later_one(one: Worker) -> None:
    old = await begin(one, b"event: token", attempt=1, **LONG)
    new = await begin(one, b"event: token", attempt=2, **LONG)

    known = [await cancel(one, attempt=1), await cancel(one, attempt=2)]

    assert known == [False, True]
    assert last(await rest_of(old))["kind"] == last(await rest_of(new))["kind"] == "error"
    async with one.http.get("/jobs/job/events") as response:
        assert json.loads(next(sse.parse(await response.read())).data)["attempt"] == 2


async def test_a_cancelled_job_decodes_no_more_than_what_was_on_its_way(one: Worker) -> None:
    assert one.core is not None
    response = await begin(one, b"event: token", **LONG)

    await cancel(one)
    decoded = await most_until_idle(one.core, "n_decoded")
    events = await rest_of(response)

    assert last(events)["code"] == "CANCELLED"
    assert decoded <= len(tokens_of(events)) + 200
    assert (await one.health()).slots_busy == 0


async def test_a_job_cancelled_in_its_prompt_ends_within_two_small_batches(one: Worker) -> None:
    assert one.core is not None
    response = await begin(one, b"event: started", **PREFILL)
    async with asyncio.timeout(PATIENCE_S):
        while not await slots_processing(one.core):
            pass
    before = int((await slots(one.core))[0]["n_prompt_tokens_processed"])

    await cancel(one)
    read = await most_until_idle(one.core, "n_prompt_tokens_processed")

    assert last(await rest_of(response))["code"] == "CANCELLED"
    assert read - before <= 4 * BATCH  # those that went by before it was told count too
    assert (await one.health()).slots_busy == 0


async def test_a_cancellation_is_measured_to_the_moment_when_the_engine_is_free(one: Worker) -> None:
    assert one.core is not None
    await one.execute("whole", **{**LONG, "max_tokens": 5})
    none = await metric(one, "worker_cancellation_ms_count")
    response = await begin(one, b"event: started", **PREFILL)
    async with asyncio.timeout(PATIENCE_S):
        while not await slots_processing(one.core):
            pass

    await cancel(one)
    await rest_of(response)
    async with asyncio.timeout(PATIENCE_S):
        while not await metric(one, "worker_cancellation_ms_count"):
            await asyncio.sleep(0.005)
    processing = await slots_processing(one.core)

    assert none == 0
    assert processing == 0
    assert await metric(one, 'worker_requests_total{outcome="cancelled"}') == 1
    assert await metric(one, "worker_cancellation_ms_count") == 1


async def test_a_cancel_before_a_jobs_first_step_still_ends_it_and_frees_the_slot(one: Worker) -> None:
    assert one.core is not None
    job = await one.core.execute(Execute(job_id="job", prompt="bake"))

    one.core.cancel(CancelJob("job"))
    events = list(sse.parse(b"".join([block async for block in job.follow()])))

    assert [event.kind for event in events] == ["error"]
    assert last(events)["code"] == "CANCELLED"
    assert (await one.health()).slots_busy == 0
