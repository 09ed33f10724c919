"""What becomes of a job whose worker says something else than it should, and that none of it reaches a client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from llorch.sse import encode_event
from tests.support.orchestrating import QUIET, ScriptedWorker, both, terminal, text
from tests.support.retrying import again, outcomes
from tests.support.scripts import Call, in_turn, second_half

LOST = "WORKER_LOST"


def wrong(event: bytes, *, seen: asyncio.Event) -> Callable[[Call], Awaitable[None]]:
    """Say one token as one should and, once it was seen, something else."""

    async def play(call: Call) -> None:
        await call.started()
        await call.token("so far ")
        await seen.wait()
        await call.raw(event)
        await call.cancelled.wait()

    return play


STARTED = b'{"job_id":"j","attempt":1,"tokens_in":%d,"max_tokens":%d,"engine":"e"}'
END = b'{"tokens_in":%d,"tokens_out":1,"stop_reason":"eos","prefill_ms":1,"decode_ms":1,"tokens_cached":%d}'


@pytest.mark.parametrize(
    "event",
    [
        encode_event("token", "3.0", b'{"i":2,"t":"from the future"}'),
        encode_event("token", "1.0", b'{"i":0,"t":"from the past"}'),
        encode_event("token", "2.0", b'{"i":0,"t":"of two minds"}'),
        encode_event("token", "2.0", b'{"i":1}'),
        encode_event("token", "2.0", b'{"i":1,"t":"\xff"}'),
        encode_event("token", "2.0", b'{"i":1,"t":"cut o'),
        encode_event("started", "1.1", b'{"what":"is this"}'),
        encode_event("metrics", "1.1", b"[]"),
        encode_event("end", "1.1", b'{"tokens_in":1}'),
        encode_event("token", "2.0", b'{"i":1,"t":"x","ids":[2147483648]}'),
        encode_event("started", "1.1", STARTED % (2**53, 16)),
        encode_event("started", "1.1", STARTED % (3, -1)),
        encode_event("end", "1.1", END % (-1, 0)),
        encode_event("end", "1.1", END % (2**63, 0)),
        encode_event("end", "1.1", END % (1, -1)),
        encode_event("end", "1.1", b"{" * 10_000),
        encode_event("error", "1.1", b'"sorry"'),
        encode_event("end", "1.1", b'{"later":' + b"[" * 100_000),
        b"event: token\nid: 2.0\ndata: " + b"x" * 9_000_000,
        b"<html>" * 2_000_000,
    ],
    ids=lambda value: repr(value[:50]),
)
async def test_what_a_broken_worker_says_never_reaches_a_client(event: bytes, tmp_path: Path) -> None:
    seen = asyncio.Event()
    worker = ScriptedWorker(in_turn(wrong(event, seen=seen), second_half))
    async with both(tmp_path, worker, **QUIET) as system:
        job = await system.submit()
        live = system.client.events(f"/v2/tasks/{job.job_id}/events")
        before = [await anext(live)]
        while before[-1].kind != "token":
            before.append(await anext(live))
        seen.set()
        await again(system, job.job_id, after=1)
        events = before + [event async for event in live]
        task = await system.show(job.job_id)

    assert text(events) == ["so far ", "[1:so far ]"]
    assert [event.kind for event in terminal(events)] == ["end"]
    assert outcomes(task) == [LOST, "completed"]


async def test_an_event_that_is_not_known_yet_is_passed_over(tmp_path: Path) -> None:
    async def play(call: Call) -> None:
        await call.started()
        await call.raw(b": a comment\n\nretry: 5\n\n" + encode_event("added_later", "0.9", b"{}"))
        await call.token("all of it")
        await call.end()

    async with both(tmp_path, ScriptedWorker(play)) as system:
        events = await system.events((await system.submit()).job_id)

    assert text(events) == ["all of it"]
    assert "added_later" not in {event.kind for event in events}


async def test_nothing_counts_behind_the_end(tmp_path: Path) -> None:
    async def play(call: Call) -> None:
        await call.started()
        await call.token("all of it")
        await call.end()
        await call.token(" and more")
        await call.fail("ENGINE_FAILED", retriable=True)

    async with both(tmp_path, ScriptedWorker(play)) as system:
        job = await system.submit()
        events = await system.events(job.job_id)
        task = await system.show(job.job_id)

    assert [event.kind for event in terminal(events)] == ["end"]
    assert text(events)[:1] == ["all of it"]
    assert (task.status, task.attempts) == ("completed", 1)
