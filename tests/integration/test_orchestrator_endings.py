"""Jobs that are ended: by a time limit, by a cancellation, by readers that leave; with a worker that plays a part."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from llorch.client import Client
from llorch.wire.tasks import CancelReply
from roles.orchestrator.app import DATABASE
from tests.support.orchestrating import (
    BACK_OFF_MS,
    COUNTED,
    QUIET,
    ScriptedWorker,
    System,
    both,
    failure,
    orchestrator,
    terminal,
    text,
)
from tests.support.scripts import Call, dying, in_turn, second_half, until_cancelled

LOST = "WORKER_LOST"
GRACE_S = 0.5


async def test_a_job_that_no_worker_takes_in_time_ends_with_queue_timeout(tmp_path: Path) -> None:
    async with orchestrator(tmp_path) as system:
        job, longer = await system.submit(timeout_ms=1_000), await system.submit(timeout_ms=60_000)
        system.advance(2_000)
        events = await system.events(job.job_id)
        task, other = await system.show(job.job_id), await system.show(longer.job_id)

    assert failure(events).code == "QUEUE_TIMEOUT"
    assert (task.status, task.attempts, other.status) == ("failed", 0, "queued")


async def test_a_job_that_is_not_done_in_time_ends_with_timeout_and_lets_its_slot_go(tmp_path: Path) -> None:
    worker = ScriptedWorker(in_turn(until_cancelled, second_half), slots=1)
    async with both(tmp_path, worker) as system:
        job, next_one = await system.submit(timeout_ms=3_000), await system.submit()
        events = await system.events(job.job_id)
        others = await system.events(next_one.job_id)
        task = await system.show(job.job_id)

    assert text(events) == ["a"]
    assert (failure(events).code, failure(events).retriable) == ("TIMEOUT", False)
    assert len(terminal(events)) == 1
    assert (task.status, task.tokens_out) == ("failed", 1)
    assert worker.cancels == [job.job_id]
    assert text(others) == ["[0:]"]


async def test_a_job_whose_next_attempt_would_come_too_late_ends_with_what_went_wrong(tmp_path: Path) -> None:
    worker = ScriptedWorker(in_turn(dying, second_half))
    async with both(tmp_path, worker) as system:
        job = await system.submit(timeout_ms=500)
        events = await system.events(job.job_id)

    assert failure(events).code == LOST
    assert text(events) == ["one ", "two "]
    assert len(worker.asked) == 1


async def cancel(system: System, job_id: str) -> str:
    """Cancel a job; return the state that the answer tells."""
    return (await system.client.send("DELETE", f"/v2/tasks/{job_id}", CancelReply)).status


async def test_a_job_cancelled_between_two_attempts_is_not_tried_again(tmp_path: Path) -> None:
    worker = ScriptedWorker(in_turn(dying, second_half))
    async with both(tmp_path, worker, **QUIET) as system:
        job = await system.submit()
        await system.until(job.job_id, lambda task: task.status == "queued" and task.attempts == 1)
        told = await cancel(system, job.job_id)
        system.advance(BACK_OFF_MS)
        events = await system.events(job.job_id)

    assert told == "cancelled"
    assert text(events) == ["one ", "two "]
    assert failure(events).code == "CANCELLED"
    assert len(worker.asked) == 1


async def test_a_job_cancelled_before_its_worker_has_begun_never_starts(tmp_path: Path) -> None:
    async def play(call: Call) -> None:
        await call.cancelled.wait()
        await call.fail("CANCELLED", retriable=False)

    worker = ScriptedWorker(play)
    async with both(tmp_path, worker) as system:
        job = await system.submit()
        await system.reached(job.job_id, "dispatched")
        told = await cancel(system, job.job_id)
        events = await system.events(job.job_id)
        task = await system.show(job.job_id)

    assert told in {"cancelling", "cancelled"}
    assert [event.kind for event in events if event.kind in {"started", "token", "end", "error"}] == ["error"]
    assert (failure(events).code, task.status, worker.cancels) == ("CANCELLED", "cancelled", [job.job_id])


@pytest.mark.parametrize("how", ["end", "retriable error", "death", "silence"])
async def test_however_a_worker_answers_a_cancellation_the_job_is_cancelled_once(how: str, tmp_path: Path) -> None:
    async def play(call: Call) -> None:
        await call.started()
        await call.token("a")
        await call.cancelled.wait()
        if how == "end":
            await call.end()
        elif how == "retriable error":
            await call.fail("ENGINE_FAILED", retriable=True)
        elif how == "death":
            call.die()

    worker = ScriptedWorker(play, slots=1)
    async with both(tmp_path, worker) as system:
        job = await system.submit()
        await system.reached(job.job_id, "running")
        await cancel(system, job.job_id)
        events = await system.events(job.job_id)
        task = await system.show(job.job_id)

    assert failure(events).code == "CANCELLED"
    assert len(terminal(events)) == 1
    assert (task.status, task.attempts) == ("cancelled", 1)


async def test_a_worker_that_ignores_a_cancellation_is_left_behind_after_its_grace(tmp_path: Path) -> None:
    over = asyncio.Event()

    async def play(call: Call) -> None:
        await call.started()
        await call.token("a")
        await over.wait()

    worker = ScriptedWorker(in_turn(play, second_half), slots=1)
    async with both(tmp_path, worker, cancel_grace_s=GRACE_S) as system:
        loop = asyncio.get_running_loop()
        job, next_one = await system.submit(), await system.submit()
        await system.reached(job.job_id, "running")
        began_s = loop.time()
        told = await cancel(system, job.job_id)
        events = await system.events(job.job_id)
        took_s = loop.time() - began_s
        others = await system.events(next_one.job_id)
        over.set()

    assert told == "cancelling"
    assert failure(events).code == "CANCELLED"
    assert took_s >= GRACE_S
    assert text(others) == ["[0:]"]


async def until_known(worker: ScriptedWorker, job_id: str, *, client: Client) -> None:
    """Wait until a worker was told to cancel a job."""
    async with asyncio.timeout(20):
        while job_id not in worker.cancels:
            await client.send("GET", "/health", dict[str, object])


async def test_a_job_that_is_for_its_readers_is_cancelled_when_the_last_one_leaves(tmp_path: Path) -> None:
    worker = ScriptedWorker(until_cancelled)
    async with both(tmp_path, worker) as system:
        body = {"model": "file:/models/scripted.gguf", "prompt": "x", "on_disconnect": "cancel"}
        accept = {"Accept": "text/event-stream"}
        async with system.client.request("POST", "/v2/tasks", body=body, headers=accept) as first:
            await first.content.readuntil(b"event: token")
            job_id = first.headers["X-Job-Id"]
            second = system.client.events(f"/v2/tasks/{job_id}/events")
            while (await anext(second)).kind != "token":
                pass
        await system.reached(job_id, "running")
        told_early = list(worker.cancels)
        await second.aclose()
        await until_known(worker, job_id, client=system.client)
        task = await system.reached(job_id, "cancelled")
        events = await system.events(job_id)

    assert told_early == []
    assert task.status == "cancelled"
    assert failure(events).code == "CANCELLED"


async def test_a_job_that_is_for_its_readers_is_cancelled_while_it_waits_too(tmp_path: Path) -> None:
    async with orchestrator(tmp_path) as system:
        body = {"model": "file:/models/scripted.gguf", "prompt": "x", "on_disconnect": "cancel"}
        accept = {"Accept": "text/event-stream"}
        async with system.client.request("POST", "/v2/tasks", body=body, headers=accept) as answer:
            await answer.content.readuntil(b"event: queued")
            job_id = answer.headers["X-Job-Id"]
        task = await system.reached(job_id, "cancelled")

    assert task.attempts == 0


async def test_a_job_that_is_to_go_on_does_when_its_reader_leaves(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def play(call: Call) -> None:
        await call.started()
        await call.token("a")
        await gate.wait()
        await call.token("b")
        await call.end()

    worker = ScriptedWorker(play)
    async with both(tmp_path, worker) as system:
        body = {"model": "file:/models/scripted.gguf", "prompt": "x"}
        accept = {"Accept": "text/event-stream"}
        async with system.client.request("POST", "/v2/tasks", body=body, headers=accept) as answer:
            await answer.content.readuntil(b"event: token")
            job_id = answer.headers["X-Job-Id"]
        gate.set()
        events = await system.events(job_id)

    assert text(events) == ["a", "b"]
    assert worker.cancels == []


@pytest.mark.parametrize("stored", [b'{"model":"m","prompt":""}', b"no JSON", b'{"model":"m","prompt":"x","later":1}'])
async def test_a_stored_request_that_cannot_be_run_ends_its_job_and_nothing_else(stored: bytes, tmp_path: Path) -> None:
    async with orchestrator(tmp_path) as system:
        job, other = await system.submit(), await system.submit()
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database, database:
        changed = database.execute("UPDATE jobs SET request = ? WHERE id = ?", (stored, job.job_id)).rowcount
    async with both(tmp_path, ScriptedWorker()) as system:
        events = await system.events(job.job_id)
        task, done = await system.show(job.job_id), await system.reached(other.job_id, "completed")

    assert changed == 1
    assert failure(events).code == "INVALID_REQUEST"
    assert (task.status, task.attempts, done.attempts) == ("failed", 1, 1)


async def test_the_prompt_of_a_job_that_died_with_its_orchestrator_before_its_end_is_counted(tmp_path: Path) -> None:
    async with both(tmp_path, ScriptedWorker(dying), **QUIET) as system:
        job = await system.submit(max_tokens=2)
        await system.until(job.job_id, lambda task: task.status == "queued" and task.attempts == 1)
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database, database:
        known = database.execute("UPDATE jobs SET tokens_in = NULL, not_before_ms = 0 RETURNING tokens_in").fetchall()
    worker = ScriptedWorker()
    async with both(tmp_path, worker, **QUIET) as system:
        [end] = terminal(await system.events(job.job_id))
        task = await system.show(job.job_id)

    assert known == [(None,)]
    assert worker.asked == []
    assert task.tokens_in == COUNTED == json.loads(end.data)["tokens_in"]
    assert (task.status, task.stop_reason, task.tokens_out) == ("completed", "max_tokens", 2)
