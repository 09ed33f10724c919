"""A worker's addresses: who may call them, cancelling, and coming back to a job."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from llorch import sse
from tests.support import models
from tests.support.workers import Worker, last, tokens_of, until_engine_idle, worker

ENDLESS = {"prompt": "bake kilo", "temperature": 1, "seed": 3, "max_tokens": 100_000}
SHAPE = models.Shape(n_embd=256, n_layer=8, n_head=4, n_ff=704, ctx=2048)
"""Slow enough that a job does not end before it can be cancelled."""
MANY = 6000
"""Tokens whose events are more than the buffers on the way take in."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.make(tmp_path_factory.mktemp("model") / "small.gguf", SHAPE)


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.make(tmp_path_factory.mktemp("model") / "fast.gguf", models.Shape(ctx=8192))


@pytest.fixture
async def running(model: Path) -> AsyncIterator[Worker]:
    async with worker(model, slots=2, batch=16) as made:
        yield made


async def begin(worker: Worker, job_id: str, **body: object) -> aiohttp.ClientResponse:
    """Start a job and return its open answer after the first event."""
    response = await worker.http.post("/execute", json={"job_id": job_id, **body})
    assert response.status == 200
    await response.content.readuntil(b"\n\n")
    return response


async def stuck_reader(worker: Worker, job_id: str, **body: object) -> socket.socket:
    """Start a job over a connection that holds next to nothing, and read none of the answer's body."""
    port = int(worker.url.rpartition(":")[2])
    for connection in psutil.Process().net_connections("tcp4"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
            with socket.socket(fileno=os.dup(connection.fd)) as listening:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    content = json.dumps({"job_id": job_id, **body}).encode()
    head = f"POST /execute HTTP/1.0\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    await asyncio.to_thread(client.connect, ("127.0.0.1", port))
    client.sendall(head.encode() + content)
    while b"\r\n\r\n" not in await asyncio.to_thread(client.recv, 4096, socket.MSG_PEEK):
        pass
    return client


def read_to_end(client: socket.socket) -> bytes:
    """Return the body of the answer, or what came of it before the connection broke."""
    data = b""
    with client, contextlib.suppress(ConnectionResetError):
        while more := client.recv(65536):
            data += more
    return data.partition(b"\r\n\r\n")[2]


async def reattach(worker: Worker, job_id: str, after: str = "") -> bytes:
    headers = {"Last-Event-ID": after} if after else {}
    async with worker.http.get(f"/jobs/{job_id}/events", headers=headers) as response:
        assert response.status == 200
        return await response.read()


async def known(worker: Worker, job_id: str) -> bool:
    async with worker.http.get(f"/jobs/{job_id}/events") as response:
        return response.status == 200


async def test_cancelling_while_decoding_frees_the_slot(running: Worker) -> None:
    assert running.core is not None
    response = await begin(running, "job", **ENDLESS)
    await response.content.readuntil(b"event: token")

    async with running.http.post("/cancel", json={"job_id": "job"}) as cancelled:
        told = (cancelled.status, await cancelled.json())
    events = list(sse.parse(await response.read()))
    await until_engine_idle(running.core)

    assert told == (202, {"job_id": "job", "known": True})
    assert (last(events)["kind"], last(events)["code"], last(events)["retriable"]) == ("error", "CANCELLED", False)
    assert (await running.health()).slots_busy == 0


async def test_cancelling_while_the_prompt_is_read_frees_the_slot(running: Worker) -> None:
    assert running.core is not None
    response = await begin(running, "job", **{**ENDLESS, "prompt": "bake " * 1900})

    async with running.http.post("/cancel", json={"job_id": "job"}):
        events = list(sse.parse(await response.read()))
    await until_engine_idle(running.core)

    assert last(events)["code"] == "CANCELLED"
    assert not [event for event in events if event.kind == "token"]
    assert (await running.health()).slots_busy == 0


async def test_a_long_prompt_tells_how_far_it_is(running: Worker) -> None:
    events = await running.execute("job", prompt="bake " * 1900, max_tokens=1)

    progress = [json.loads(event.data) for event in events if event.kind == "metrics"]
    assert progress
    assert {step["prefill_total"] for step in progress} == {last(events)["tokens_in"]}
    assert progress == sorted(progress, key=lambda step: step["prefill_tokens"])


async def test_what_a_job_did_not_compute_anew_is_told(running: Worker) -> None:
    body = {"prompt": "bake kilo " * 100, "temperature": 0, "max_tokens": 2}
    first, again = [last(await running.execute(job, **body)) for job in ("first", "again")]
    async with running.http.get("/metrics") as response:
        lines = (await response.text()).splitlines()

    assert first["tokens_cached"] == 0
    assert again == {**again, "tokens_cached": 201, "tokens_in": 202}
    assert "worker_tokens_cached_total 201.0" in lines


async def test_cancelling_is_idempotent_and_harmless(running: Worker) -> None:
    await running.execute("job", **{**ENDLESS, "max_tokens": 3})

    answers = []
    for job_id in ("job", "job", "never-seen"):
        async with running.http.post("/cancel", json={"job_id": job_id}) as response:
            answers.append((response.status, (await response.json())["known"]))

    assert answers == [(202, True), (202, True), (202, False)]


async def test_a_job_goes_on_without_its_reader_and_can_be_read_again_byte_for_byte(running: Worker) -> None:
    job = {**ENDLESS, "max_tokens": 60}
    response = await begin(running, "left", **job)
    response.close()

    await running.until(lambda health: health.slots_busy == 0)
    whole = await reattach(running, "left")

    events = list(sse.parse(whole))
    assert events[-1].kind == "end"
    cut = whole.index(b"id: 20.0\n")
    rest = whole[whole.index(b"\n\n", cut) + 2 :]
    assert await reattach(running, "left", after="20.0") == rest
    assert await reattach(running, "left", after="20") == rest
    assert await reattach(running, "left", after=events[-1].id) == b""


async def test_the_newest_reader_of_a_running_job_gets_its_events_and_the_older_stream_ends(running: Worker) -> None:
    response = await begin(running, "job", **{**ENDLESS, "max_tokens": 300})
    seen = b""
    while b"id: 3.0" not in seen:
        seen += await response.content.readany()
    held = list(sse.parse(seen[: seen.rindex(b"\n\n") + 2]))

    async with asyncio.TaskGroup() as tasks:
        newest = tasks.create_task(reattach(running, "job", after=held[-1].id))
        rest = list(sse.parse(await response.read()))

    events = list(sse.parse(newest.result()))
    assert "end" not in [event.kind for event in rest]
    assert events[-1].kind == "end"
    assert [event.id for event in events if event.kind == "token"] == [
        f"{number}.0" for number in range(int(held[-1].id.partition(".")[0]) + 1, len(tokens_of(events + held)) + 1)
    ]


async def test_a_reader_that_has_seen_more_than_there_is_gets_only_what_is_new_to_it(running: Worker) -> None:
    response = await begin(running, "job", **{**ENDLESS, "max_tokens": 80})

    rest = list(sse.parse(await reattach(running, "job", after="60.0")))
    response.close()
    whole = list(sse.parse(await reattach(running, "job")))

    assert rest == [event for event in whole if event.kind == "end" or int(event.id.partition(".")[0]) > 60]


async def test_a_reader_that_takes_nothing_costs_neither_its_job_nor_another_one(fast: Path) -> None:
    async with worker(fast, slots=2) as running:
        assert running.core is not None
        slow = await stuck_reader(running, "slow", **{**ENDLESS, "max_tokens": MANY})

        other = await running.execute("other", **{**ENDLESS, "max_tokens": 20})
        await running.until(lambda health: health.slots_busy == 0)
        job = running.core.jobs.get("slow")
        behind = job._replay.end - job._read_to
        rest = list(sse.parse(await asyncio.to_thread(read_to_end, slow)))

    assert other[-1].kind == "end"
    assert behind > 0
    assert [event.id for event in rest if event.kind == "token"] == [
        f"{number}.0" for number in range(1, len(tokens_of(rest)) + 1)
    ]
    assert (rest[-1].kind, last(rest)["tokens_out"]) == ("end", MANY)


async def test_a_dead_reader_that_is_still_attached_gives_way(fast: Path) -> None:
    async with worker(fast, slots=2) as running:
        dead = await stuck_reader(running, "job", **{**ENDLESS, "max_tokens": MANY})
        await running.until(lambda health: health.slots_busy == 0)

        whole = list(sse.parse(await reattach(running, "job")))
        got = await asyncio.to_thread(read_to_end, dead)

    assert (whole[-1].kind, last(whole)["tokens_out"]) == ("end", MANY)
    assert b"event: token" in got
    assert b"event: end" not in got


async def test_a_job_that_nobody_comes_back_for_is_stopped_and_forgotten(model: Path) -> None:
    async with worker(model, slots=1, reattach_s=0.2) as running:
        assert running.core is not None
        response = await begin(running, "left", **ENDLESS)
        response.close()

        await running.until(lambda health: health.slots_busy == 0)
        await until_engine_idle(running.core)
        async with asyncio.timeout(10):
            while await known(running, "left"):
                await asyncio.sleep(0.01)


async def test_an_unknown_job_is_not_found(running: Worker) -> None:
    assert (await running.refusal("GET", "/jobs/never-seen/events"))[:2] == (404, "JOB_NOT_FOUND")


async def test_only_health_answers_without_the_token(model: Path) -> None:
    async with worker(model, token="secret") as running, aiohttp.ClientSession(running.url) as stranger:
        statuses = {}
        for method, path in (
            ("GET", "/health"),
            ("GET", "/metrics"),
            ("GET", "/jobs/x/events"),
            ("POST", "/execute"),
            ("POST", "/cancel"),
            ("POST", "/count"),
            ("POST", "/shutdown"),
        ):
            async with stranger.request(method, path) as response:
                statuses[path] = response.status
        async with running.http.get("/metrics") as response:
            metrics = await response.text()

    assert statuses.pop("/health") == 200
    assert set(statuses.values()) == {401}
    assert "worker_tokens_generated_total" in metrics


async def test_what_was_done_is_counted(running: Worker) -> None:
    await running.execute("job", **{**ENDLESS, "max_tokens": 25})
    with contextlib.suppress(AssertionError):
        await running.execute("job", **ENDLESS)

    async with running.http.get("/metrics") as response:
        lines = (await response.text()).splitlines()

    assert 'worker_requests_total{outcome="completed"} 1.0' in lines
    assert 'worker_requests_total{outcome="refused"} 1.0' in lines
    assert "worker_tokens_generated_total 25.0" in lines
    assert "worker_first_token_ms_count 1.0" in lines
