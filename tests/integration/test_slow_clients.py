"""Clients that begin a request and do not go on: none holds a connection for ever, and none disturbs the others."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llorch import edge, serve
from llorch.wire.tasks import CancelReply
from tests.support.orchestrating import PATIENCE_S, ScriptedWorker, System, both, failure, orchestrator

HEAD = b"POST /v2/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
SHORT_S = 0.3


@asynccontextmanager
async def connected(system: System) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to the orchestrator."""
    host, port = system.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield reader, writer
    finally:
        writer.transport.abort()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pieces: Iterable[bytes]) -> bytes:
    """Send pieces, each when nothing has come back for a moment; return the first byte that came back, if any."""
    for piece in pieces:
        writer.write(piece)
        try:
            async with asyncio.timeout(SHORT_S / 10):
                return await reader.read(1)
        except TimeoutError:
            continue
    return await reader.read(1)


def refusal(answer: bytes) -> tuple[int, str]:
    """Return status and code of an answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["code"]


async def test_a_body_that_stops_in_the_middle_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "BODY_SILENCE_S", SHORT_S)
    async with both(tmp_path, ScriptedWorker()) as system, connected(system) as (reader, writer):
        writer.write(HEAD + b'{"model": ')
        others = await system.events((await system.submit(max_tokens=2)).job_id)
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readuntil(b"}}")

    assert refusal(head + body) == (408, "REQUEST_TIMEOUT")
    assert others[-1].kind == "end"


async def test_a_body_that_drips_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "BODY_S", SHORT_S)
    monkeypatch.setattr(serve, "KEEPALIVE_S", SHORT_S)
    async with orchestrator(tmp_path) as system, connected(system) as (reader, writer):
        writer.write(HEAD)
        answer = await drip(reader, writer, [b" "] * 900) + await reader.readuntil(b"}}")

    assert refusal(answer) == (408, "REQUEST_TIMEOUT")


async def test_a_body_that_comes_slowly_but_in_time_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "BODY_SILENCE_S", PATIENCE_S)
    monkeypatch.setattr(serve, "KEEPALIVE_S", SHORT_S)
    body = json.dumps({"model": "haiku", "prompt": "take your time"}).encode()
    head = b"POST /v2/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with orchestrator(tmp_path) as system, connected(system) as (reader, writer):
        began_s = time.monotonic()
        answer = await drip(reader, writer, [head, *(body[n : n + 2] for n in range(0, len(body), 2))])
        answer += await reader.read()

    assert answer.startswith(b"HTTP/1.1 202 ")
    assert time.monotonic() - began_s > SHORT_S


@pytest.mark.parametrize("beginning", [b"", b"GET /health HTT", b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: b"])
async def test_a_request_that_is_never_finished_is_hung_up_on(
    beginning: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "KEEPALIVE_S", SHORT_S)
    async with orchestrator(tmp_path) as system:
        async with connected(system) as (reader, writer):
            writer.write(beginning)
            silent = await reader.read()
        async with connected(system) as (reader, writer):
            dripped = await drip(reader, writer, [beginning[n : n + 1] for n in range(2_000)])

    assert silent == dripped == b""


async def test_a_connection_that_is_not_used_again_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "KEEPALIVE_S", SHORT_S)
    async with orchestrator(tmp_path) as system, connected(system) as (reader, writer):
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2 + b"GET /hea")
        answers = await reader.read()

    assert answers.count(b"HTTP/1.1 200 OK") == 2


async def test_a_reader_of_a_job_that_waits_for_long_is_not_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "KEEPALIVE_S", SHORT_S)
    async with orchestrator(tmp_path) as system:
        job = await system.submit()
        async with asyncio.TaskGroup() as tasks, connected(system) as (idle, _):
            reading = tasks.create_task(system.events(job.job_id))
            hung_up = await idle.read()
            await system.client.send("DELETE", f"/v2/tasks/{job.job_id}", CancelReply)

    assert hung_up == b""
    assert failure(reading.result()).code == "CANCELLED"
