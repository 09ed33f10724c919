"""What a client sees of attempts that go wrong and are followed by others, with a worker that plays a part."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import pytest

from llorch.errors import AllSlotsBusy, Draining, InvalidRequest, LlorchError, NotReady
from llorch.wire.codec import encode
from llorch.wire.events import WorkerStarted
from llorch.wire.tasks import Accepted
from tests.support.orchestrating import (
    QUIET,
    REF,
    ScriptedWorker,
    both,
    failure,
    terminal,
    text,
)
from tests.support.retrying import again, outcomes
from tests.support.scripts import Call, dying, first_half, in_turn, second_half, silent_death

LOST = "WORKER_LOST"


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


@pytest.mark.parametrize(
    "form",
    [
        {"response_format": {"type": "json_object"}},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"reasoning_format": "auto"},
    ],
    ids=lambda form: next(iter(form)),
)
async def test_an_answer_that_no_other_can_go_on_with_ends_with_an_error_that_says_ask_again(
    form: dict[str, object], tmp_path: Path
) -> None:
    worker = ScriptedWorker(in_turn(dying, second_half))
    async with both(tmp_path, worker, **QUIET) as system:
        body = {"model": REF, "messages": [{"role": "user", "content": "x"}], **form}
        job = await system.client.send("POST", "/v2/tasks", Accepted, body=body)
        events = await system.events(job.job_id)
        task = await system.show(job.job_id)

    assert text(events) == ["one ", "two "]
    assert (failure(events).code, failure(events).retriable) == ("CANNOT_CONTINUE", True)
    assert (task.status, outcomes(task)) == ("failed", ["CANNOT_CONTINUE"])
    assert len(worker.asked) == 1


async def test_it_begins_anew_where_nobody_has_seen_a_word_of_it(tmp_path: Path) -> None:
    worker = ScriptedWorker(in_turn(silent_death, second_half))
    async with both(tmp_path, worker, **QUIET) as system, asyncio.TaskGroup() as group:
        job = await system.submit(response_format={"type": "json_object"})
        live = group.create_task(system.events(job.job_id))
        await again(system, job.job_id, after=1)
        events = await live

    assert text(events) == ["[0:]"]


@pytest.mark.parametrize(
    "refusal", [AllSlotsBusy("full"), NotReady("loading"), Draining("ending")], ids=lambda e: e.code
)
async def test_a_busy_worker_costs_no_attempt_and_is_asked_less_often(refusal: LlorchError, tmp_path: Path) -> None:
    worker = ScriptedWorker(second_half, busy=refusal)
    async with both(tmp_path, worker, **QUIET) as system:
        job = await system.submit()
        async with asyncio.timeout(20):
            while len(worker.asked) < 6:  # more than would be made if they counted
                await system.show(job.job_id)
                system.advance(200)
        worker.busy = None
        events = await system.events(job.job_id)
        task = await system.show(job.job_id)

    assert (text(events), task.status) == (["[0:]"], "completed")
    asked_ms = [attempt.dispatched_ms for attempt in task.attempt_log or []]
    assert all(then - before >= 50 * 2**n for n, (before, then) in enumerate(pairwise(asked_ms[:6])))


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


async def refusing(call: Call) -> None:
    await call.fail("ENGINE_FAILED", retriable=True)


@pytest.mark.parametrize(("before", "tokens_in"), [(refusing, 3), (dying, 0)])
async def test_the_prompt_of_a_worker_that_counts_at_the_end_is_counted_by_an_attempt_that_began_it(
    before: Callable[[Call], Awaitable[None]], tokens_in: int, tmp_path: Path
) -> None:
    async def counting_late(call: Call) -> None:
        job, attempt = call.body.job_id, call.body.attempt
        started = WorkerStarted(job_id=job, attempt=attempt, tokens_in=0, max_tokens=16, engine="late 1")
        await call.send("started", encode(started))
        await call.token("all")
        await call.end()

    async with both(tmp_path, ScriptedWorker(in_turn(before, counting_late)), **QUIET) as system:
        job = await system.submit()
        await again(system, job.job_id, after=1)
        task = await system.reached(job.job_id, "completed")

    assert (task.attempts, task.tokens_in) == (2, tokens_in)


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
