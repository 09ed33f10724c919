"""What a client sees of attempts that go wrong, of time limits and of cancellation, with a worker that plays a part."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from llorch.client import Client
from llorch.errors import AllSlotsBusy, Draining, InvalidRequest, LlorchError, NotReady
from llorch.sse import Event, encode_event
from llorch.wire.events import parse_event_id
from llorch.wire.tasks import CancelReply, Task
from tests.support.orchestrating import (
    ScriptedWorker,
    System,
    both,
    failure,
    orchestrator,
    terminal,
    tokens,
)
from tests.support.scripts import Call, in_turn, until_cancelled

QUIET: dict[str, Any] = {"heartbeat_interval_s": 3600}
"""Time that a test lets pass does not make the pool go offline."""
BACK_OFF_MS = 60_000
LOST = "WORKER_LOST"
GRACE_S = 0.5


async def again(system: System, job_id: str, *, after: int) -> Task:
    """Wait until attempt number *after* has failed, then let the time to the next one pass."""
    waiting = await system.until(job_id, lambda task: task.status == "queued" and task.attempts == after)
    system.advance(BACK_OFF_MS)
    return waiting


def text(stream: list[Event]) -> list[str]:
    """Return a stream's pieces, after checking that each came once, in order, under its own id."""
    found = tokens(stream)
    assert [token.i for token in found] == list(range(len(found)))
    ids = [parse_event_id(event.id) for event in stream]
    assert ids == sorted(set(ids))
    return [token.t for token in found]


def outcomes(task: Task) -> list[object]:
    """Return how each attempt ended."""
    assert isinstance(task.attempt_log, list)
    return [attempt.outcome for attempt in task.attempt_log]


async def first_half(call: Call) -> None:
    """Say two tokens, and end the stream without an end."""
    await call.started()
    await call.token("one ")
    await call.token("two ")


async def second_half(call: Call) -> None:
    """Go on where an earlier attempt stopped, saying what it was told of that."""
    await call.started()
    await call.token(f"[{call.body.first_token}:{call.body.continue_text}]")
    await call.end()


async def dying(call: Call) -> None:
    await first_half(call)
    call.die()


async def silent_death(call: Call) -> None:
    call.die()


async def closing(call: Call) -> None:
    await call.raw(b"")


@pytest.mark.parametrize("ends", [first_half, dying])
async def test_the_next_attempt_goes_on_behind_what_the_client_has(
    ends: Callable[[Call], Awaitable[None]], tmp_path: Path
) -> None:
    worker = ScriptedWorker(in_turn(ends, second_half))
    async with both(tmp_path, worker, **QUIET) as system, asyncio.TaskGroup() as group:
        job = await system.submit(max_tokens=9)
        live = group.create_task(system.events(job.job_id))
        waiting = await again(system, job.job_id, after=1)
        events = await live
        replayed = await system.events(job.job_id)
        task = await system.show(job.job_id)

    assert text(events) == ["one ", "two ", "[2:one two ]"]
    assert text(replayed) == text(events)
    assert [len(terminal(stream)) for stream in (events, replayed)] == [1, 1]
    assert (waiting.status, task.status, task.tokens_out) == ("queued", "completed", 3)
    assert outcomes(task) == [LOST, "completed"]
    assert [body.max_tokens for body in worker.asked] == [9, 7]
    assert [body.attempt for body in worker.asked] == [1, 2]
    assert len({body.seed for body in worker.asked}) == 1


async def test_text_survives_one_death_after_the_other(tmp_path: Path) -> None:
    worker = ScriptedWorker(in_turn(dying, dying, silent_death, dying, second_half))
    async with both(tmp_path, worker, **QUIET) as system, asyncio.TaskGroup() as group:
        job = await system.submit(max_tokens=20, timeout_ms=1_800_000)
        live = group.create_task(system.events(job.job_id))
        for number in range(1, 5):
            await again(system, job.job_id, after=number)
        events = await live
        task = await system.show(job.job_id)

    assert text(events) == ["one ", "two "] * 3 + ["[6:one two one two one two ]"]
    assert outcomes(task) == [LOST] * 4 + ["completed"]


def wrong(event: bytes, *, seen: asyncio.Event) -> Callable[[Call], Awaitable[None]]:
    """Say one token as one should and, once it was seen, something else."""

    async def play(call: Call) -> None:
        await call.started()
        await call.token("so far ")
        await seen.wait()
        await call.raw(event)
        await call.cancelled.wait()

    return play


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
        encode_event("end", "1.1", b"{" * 10_000),
        encode_event("error", "1.1", b'"sorry"'),
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


@pytest.mark.parametrize(
    "refusal", [AllSlotsBusy("full"), NotReady("loading"), Draining("ending")], ids=lambda e: e.code
)
async def test_a_worker_that_has_no_time_costs_no_attempt(refusal: LlorchError, tmp_path: Path) -> None:
    worker = ScriptedWorker(second_half, busy=refusal)
    async with both(tmp_path, worker, **QUIET) as system:
        job = await system.submit()
        async with asyncio.timeout(20):
            while len(worker.asked) < 7:
                await system.show(job.job_id)
                system.advance(200)
        worker.busy = None
        events = await system.events(job.job_id)
        task = await system.show(job.job_id)

    assert text(events) == ["[0:]"]
    assert task.status == "completed"


async def test_a_request_that_a_worker_cannot_take_is_not_tried_again(tmp_path: Path) -> None:
    worker = ScriptedWorker(busy=InvalidRequest("the prompt has 9 tokens, and a context of 8"))
    async with both(tmp_path, worker) as system:
        job = await system.submit()
        events = await system.events(job.job_id)
        task = await system.show(job.job_id)

    assert (failure(events).code, failure(events).retriable) == ("INVALID_REQUEST", False)
    assert len(terminal(events)) == 1
    assert (task.status, len(worker.asked)) == ("failed", 1)


async def failing(call: Call) -> None:
    await call.started()
    await call.token("so far ")
    await call.fail("ENGINE_FAILED", retriable=True)


async def test_a_failure_that_may_pass_is_tried_again(tmp_path: Path) -> None:
    async with both(tmp_path, ScriptedWorker(in_turn(failing, second_half)), **QUIET) as system:
        job = await system.submit()
        await again(system, job.job_id, after=1)
        events = await system.events(job.job_id)
        task = await system.show(job.job_id)

    assert text(events) == ["so far ", "[1:so far ]"]
    assert outcomes(task) == ["ENGINE_FAILED", "completed"]


async def test_a_failure_that_will_not_pass_ends_the_job_and_keeps_its_text(tmp_path: Path) -> None:
    async def play(call: Call) -> None:
        await call.started()
        await call.token("so far")
        await call.fail("MODEL_BROKEN", retriable=False)

    worker = ScriptedWorker(play)
    async with both(tmp_path, worker) as system:
        job = await system.submit()
        events = await system.events(job.job_id)
        task = await system.show(job.job_id)

    assert text(events) == ["so far"]
    assert (failure(events).code, failure(events).retriable) == ("MODEL_BROKEN", False)
    assert (task.status, task.tokens_out, len(worker.asked)) == ("failed", 1, 1)


async def test_a_job_is_given_up_after_five_attempts(tmp_path: Path) -> None:
    worker = ScriptedWorker(in_turn(failing, silent_death, failing, dying, failing, second_half))
    async with both(tmp_path, worker, **QUIET) as system:
        job = await system.submit(timeout_ms=1_800_000)
        for number in range(1, 5):
            await again(system, job.job_id, after=number)
        events = await system.events(job.job_id)
        task = await system.show(job.job_id)

    assert failure(events).code == "ENGINE_FAILED"
    assert "given up after 5 attempts" in failure(events).message
    assert len(terminal(events)) == 1
    assert text(events) == ["so far ", "so far ", "one ", "two ", "so far "]
    assert (task.status, task.attempts, len(worker.asked)) == ("failed", 5, 5)
    assert outcomes(task) == ["ENGINE_FAILED", LOST, "ENGINE_FAILED", LOST, "ENGINE_FAILED"]


async def test_the_wait_between_attempts_grows(tmp_path: Path) -> None:
    worker = ScriptedWorker(in_turn(failing, failing, second_half))
    async with both(tmp_path, worker, **QUIET) as system:
        job = await system.submit()
        await system.until(job.job_id, lambda task: task.status == "queued" and task.attempts == 1)
        system.advance(1_000)
        await system.until(job.job_id, lambda task: task.status == "queued" and task.attempts == 2)
        reason = await system.client.send("GET", f"/v2/tasks/{job.job_id}/explain", dict[str, object])
        system.advance(2_000)
        events = await system.events(job.job_id)

    assert reason["reason"] == "retry"
    assert text(events)[-1] == "[2:so far so far ]"


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
        job, next_one = await system.submit(timeout_ms=500), await system.submit()
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


async def test_a_hundred_jobs_on_a_worker_that_often_dies_all_arrive_whole(tmp_path: Path) -> None:
    said = 0

    async def play(call: Call) -> None:
        nonlocal said
        await call.started()
        for number in range(call.body.first_token, 6):
            said += 1
            if said % 17 == 0:
                call.die()
                return
            await call.token(f"{call.body.prompt}:{number} ")
        await call.end()

    worker = ScriptedWorker(play, slots=8)
    async with both(tmp_path, worker, **QUIET) as system:
        jobs = [await system.submit(prompt=f"job{number}", timeout_ms=1_800_000) for number in range(100)]
        async with asyncio.TaskGroup() as group:
            streams = [group.create_task(system.events(job.job_id)) for job in jobs]
            while not all(stream.done() for stream in streams):
                await asyncio.wait(streams, timeout=0.05)
                system.advance(1_000)

    for number, stream in enumerate(streams):
        assert text(stream.result()) == [f"job{number}:{index} " for index in range(6)]
        assert [event.kind for event in terminal(stream.result())] == ["end"]
