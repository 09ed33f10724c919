"""Going on with a job whose worker is still there: after a lost connection, and after a restart of the orchestrator.

A killed orchestrator is played by a copy of its database files, taken in the middle of a job: that is all that a kill
leaves behind.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llorch.errors import Conflict
from llorch.sse import Event
from llorch.wire.protocol import PROTOCOL
from roles.orchestrator.app import DATABASE
from tests.support.orchestrating import ScriptedWorker, System, both, failure, orchestrator, scripted, terminal, tokens
from tests.support.scripts import Call, Script, in_turn


def saying(*texts: str, end: bool = True) -> Script:
    """Begin, say tokens with ids of their own, and end, or break the connection."""

    async def play(call: Call) -> None:
        if call.count == call.body.first_token:
            await call.started()
        for text in texts:
            await call.token(text, [1000 + call.count])
        if end:
            await call.end()
        else:
            call.die()

    return play


def saying_until_cancelled(*texts: str) -> Script:
    """Begin, say tokens, then nothing until cancelled."""

    async def play(call: Call) -> None:
        await saying_and_waiting(call, texts)
        await call.fail("CANCELLED", retriable=False)

    return play


async def saying_and_waiting(call: Call, texts: tuple[str, ...]) -> None:
    if call.count == call.body.first_token:
        await call.started()
    for text in texts:
        await call.token(text, [1000 + call.count])
    await call.cancelled.wait()


def said(stream: list[Event]) -> list[tuple[int, str]]:
    """Return what the token events of a stream say."""
    return [(token.i, token.t) for token in tokens(stream)]


async def test_a_broken_connection_is_taken_up_behind_the_last_token(tmp_path: Path) -> None:
    worker = ScriptedWorker(saying("a", "b", end=False))
    worker.again = in_turn(saying("c", end=False), saying(end=False), saying("d"))
    async with both(tmp_path, worker) as system:
        job = await system.submit()
        stream = await system.events(job.job_id)
        task = await system.show(job.job_id)

    assert said(stream) == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]
    assert [event.kind for event in stream].count("started") == 1
    assert len(terminal(stream)) == 1
    assert (len(worker.asked), worker.returns) == (1, ["2.0", "3.0", "3.0"])
    assert (task.status, task.attempts) == ("completed", 1)


async def test_a_worker_that_has_forgotten_the_job_is_lost_and_the_next_attempt_gets_its_tokens(tmp_path: Path) -> None:
    async def first(call: Call) -> None:
        await call.started()
        await call.token("a", [11])
        await call.token("b", [12, 13], held="END")
        call.die()

    worker = ScriptedWorker(in_turn(first, saying("c")))
    async with both(tmp_path, worker) as system:
        job = await system.submit(max_tokens=10)
        stream = await system.events(job.job_id)
        task = await system.show(job.job_id)

    again = worker.asked[1]
    assert said(stream) == [(0, "a"), (1, "b"), (2, "c")]
    assert (again.first_token, again.continue_text, again.continue_ids, again.continue_held) == (
        2,
        "ab",
        [11, 12, 13],
        "END",
    )
    assert again.max_tokens == 7
    assert [event.kind for event in stream].count("started") == 2
    assert b'"first_token":2,"exact":true' in [event.data for event in stream if event.kind == "started"][1]
    assert (task.status, task.attempts, task.tokens_out) == ("completed", 2, 4)


@pytest.mark.parametrize(("shown", "ids"), [("EN", [11, 12]), ("other", [])])
async def test_text_that_was_held_back_may_come_without_ids_and_other_text_may_not(
    tmp_path: Path, shown: str, ids: list[int]
) -> None:
    async def first(call: Call) -> None:
        await call.started()
        await call.token("a", [11, 12], held="END")
        await call.token(shown, held="D")
        call.die()

    worker = ScriptedWorker(in_turn(first, saying("c")))
    async with both(tmp_path, worker) as system:
        job = await system.submit(max_tokens=10)
        await system.events(job.job_id)

    assert worker.asked[1].continue_ids == ids
    assert worker.asked[1].continue_text == f"a{shown}"


async def test_a_job_whose_worker_died_between_its_last_token_and_its_end_is_complete(tmp_path: Path) -> None:
    async def first(call: Call) -> None:
        await call.started()
        await call.token("a", [11])
        await call.token("b", [12], held="EN")
        call.die()

    worker = ScriptedWorker(first)
    async with both(tmp_path, worker) as system:
        job = await system.submit(max_tokens=2, stop=["END"])
        stream = await system.events(job.job_id)
        task = await system.show(job.job_id)

    assert said(stream) == [(0, "a"), (1, "b"), (2, "EN")]
    assert (task.status, task.stop_reason, task.tokens_out, len(worker.asked)) == ("completed", "max_tokens", 2, 1)


async def test_a_worker_that_has_the_attempt_already_is_read_instead(tmp_path: Path) -> None:
    worker = ScriptedWorker(busy=Conflict("this worker already has that job; read its events instead"))
    worker.again = saying("a", "b")
    async with both(tmp_path, worker) as system:
        job = await system.submit()
        stream = await system.events(job.job_id)
        task = await system.show(job.job_id)

    assert said(stream) == [(0, "a"), (1, "b")]
    assert (task.status, task.attempts, worker.returns) == ("completed", 1, ["0.0"])


async def test_a_worker_that_does_not_get_on_is_left_for_another_attempt(tmp_path: Path) -> None:
    worker = ScriptedWorker(in_turn(saying_until_cancelled("a"), saying("b")))
    async with both(tmp_path, worker, stall_timeout_s=0.1) as system:
        job = await system.submit()
        stream = await system.events(job.job_id)
        task = await system.show(job.job_id)

    assert said(stream) == [(0, "a"), (1, "b")]
    assert worker.cancels == [job.job_id]
    assert [attempt.outcome for attempt in task.attempt_log or []] == ["STALLED", "completed"]


async def test_a_worker_that_does_not_begin_is_left_for_another_attempt(tmp_path: Path) -> None:
    async def silent(call: Call) -> None:
        await call.raw(b": keep-alive\n\n")
        await call.cancelled.wait()

    worker = ScriptedWorker(in_turn(silent, saying("b")))
    async with both(tmp_path, worker, start_timeout_s=0.1) as system:
        job = await system.submit()
        stream = await system.events(job.job_id)
        task = await system.show(job.job_id)

    assert said(stream) == [(0, "b")]
    assert [attempt.outcome for attempt in task.attempt_log or []] == ["STARTUP_TIMEOUT", "completed"]


@asynccontextmanager
async def killed(
    tmp_path: Path, worker: ScriptedWorker, job: dict[str, object], *, at: str
) -> AsyncIterator[tuple[System, str]]:
    """Run a job until its status is *at*, kill the orchestrator, and start another on what it left."""
    before, after = tmp_path / "before", tmp_path / "after"
    async with both(before, worker) as system:
        job_id = (await system.submit(**job)).job_id
        await system.reached(job_id, "running")
        stream = system.core.relay.find((await system.core._row(job_id)).id)
        assert stream is not None
        while stream.count < 2:
            await asyncio.sleep(0)
        system.core.relay.store_rest(stream)
        await system.core._store.writer.flush()
        if at == "cancelling":
            await system.core._store.cancelling(stream.job_id)
        after.mkdir()
        for suffix in ("", "-wal"):
            shutil.copy(before / (DATABASE + suffix), after / (DATABASE + suffix))
        async with orchestrator(after) as system:
            yield system, job_id
        worker.calls[job_id].cancelled.set()


async def test_a_restarted_orchestrator_goes_on_with_a_running_job_where_the_disk_ends(tmp_path: Path) -> None:
    worker = ScriptedWorker(saying_until_cancelled("a", "b"), again=saying("c"))
    async with killed(tmp_path, worker, {}, at="running") as (system, job_id):
        stream = await system.events(job_id)
        task = await system.show(job_id)

    assert said(stream) == [(0, "a"), (1, "b"), (2, "c")]
    assert len(terminal(stream)) == 1
    assert (worker.returns[0], len(worker.asked)) == ("2.0", 1)
    assert (task.status, task.attempts, task.engine, task.tokens_in) == ("completed", 1, "scripted 1", 3)
    assert isinstance(task.timings.first_token_ms, int)


async def test_a_job_that_its_worker_forgot_meanwhile_is_tried_again_behind_its_text(tmp_path: Path) -> None:
    worker = ScriptedWorker(in_turn(saying_until_cancelled("a", "b"), saying("c")))
    async with killed(tmp_path, worker, {}, at="running") as (system, job_id):
        await system.reached(job_id, "queued")
        await system.register(worker)
        stream = await system.events(job_id)
        task = await system.show(job_id)

    assert said(stream) == [(0, "a"), (1, "b"), (2, "c")]
    assert worker.asked[1].continue_ids == [1000, 1001]
    assert [attempt.outcome for attempt in task.attempt_log or []] == ["WORKER_LOST", "completed"]


async def test_a_job_at_a_worker_that_speaks_another_version_is_tried_again_elsewhere(tmp_path: Path) -> None:
    worker = ScriptedWorker(saying_until_cancelled("a", "b"), again=saying("x"), protocol=PROTOCOL + 1)
    other = ScriptedWorker(saying("c"), worker_id="worker-2")
    async with killed(tmp_path, worker, {}, at="running") as (system, job_id), scripted(other):
        await system.reached(job_id, "queued")
        await system.register(worker, protocol=PROTOCOL + 1)
        await system.register(other, pool_id="new")
        stream = await system.events(job_id)
        task = await system.show(job_id)

    assert said(stream) == [(0, "a"), (1, "b"), (2, "c")]
    assert (worker.returns, len(worker.asked), len(other.asked)) == ([], 1, 1)
    assert [attempt.outcome for attempt in task.attempt_log or []] == ["HANDED_BACK", "completed"]


async def test_a_job_that_was_being_cancelled_is_cancelled_at_its_worker_too(tmp_path: Path) -> None:
    worker = ScriptedWorker(saying_until_cancelled("a", "b"), again=saying_until_cancelled())
    async with killed(tmp_path, worker, {}, at="cancelling") as (system, job_id):
        stream = await system.events(job_id)
        task = await system.show(job_id)

    assert worker.cancels == [job_id]
    assert failure(stream).code == "CANCELLED"
    assert task.status == "cancelled"


async def test_the_slot_of_a_job_that_was_found_again_is_not_given_away(tmp_path: Path) -> None:
    worker = ScriptedWorker(saying_until_cancelled("a", "b"), slots=1, again=saying_until_cancelled())
    async with killed(tmp_path, worker, {}, at="running") as (system, job_id):
        await system.register(worker)
        other = await system.submit()
        waits = await system.until(other.job_id, lambda task: task.status == "queued")
        asked = len(worker.asked)
        worker.script = saying("x")
        worker.calls[job_id].cancelled.set()
        await system.client.send("DELETE", f"/v2/tasks/{job_id}", dict)
        stream = await system.events(other.job_id)

    assert (waits.status, asked) == ("queued", 1)
    assert said(stream) == [(0, "x")]


@pytest.mark.parametrize(("on_disconnect", "status"), [("continue", "running"), ("cancel", "cancelled")])
async def test_a_job_whose_reader_does_not_come_back_goes_the_way_it_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_disconnect: str, status: str
) -> None:
    monkeypatch.setattr("roles.orchestrator.core.RETURN_S", 0.05)
    worker = ScriptedWorker(saying_until_cancelled("a", "b"), again=saying_until_cancelled())
    async with killed(tmp_path, worker, {"on_disconnect": on_disconnect}, at="running") as (system, job_id):
        task = await system.reached(job_id, status)
        await asyncio.sleep(0.1)
        later = await system.show(job_id)

    assert task.status == later.status == status
