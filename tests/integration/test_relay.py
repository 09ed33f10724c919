"""Readers of a job's events: late, resuming, many, slow, and after the end."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llorch.errors import JobNotFound, RemoteError
from llorch.job import JobId
from llorch.sse import Event, parse
from llorch.wire.events import START, EventId, Loading, Queued, parse_event_id
from llorch.wire.tasks import CancelReply
from roles.orchestrator.relay import Relay
from roles.orchestrator.stream import MAX_BLOCK_BYTES, TAIL_BYTES, TAIL_TOKENS
from tests.support.orchestrating import Clock, ScriptedWorker, System, both, orchestrator, scripted, terminal, tokens
from tests.support.scripts import Call, Script, until_cancelled
from tests.support.storing import new_job, opened

LASTING = {"started", "token", "end", "error"}


def lasting(stream: list[Event]) -> list[Event]:
    """Leave out what is only of the moment: where a job stood in the queue, how fast it was."""
    return [event for event in stream if event.kind in LASTING]


def gated(gate: asyncio.Event, count: int, *, before: int) -> Script:
    """Say *before* tokens, wait for the gate, say the rest."""

    async def play(call: Call) -> None:
        await call.started()
        for number in range(count):
            if number == before:
                await gate.wait()
            await call.token(f"{number} ")
        await call.end()

    return play


async def read_until_token(system: System, job_id: str, index: int) -> list[Event]:
    """Read a job's live events up to its token *index*, then leave."""
    seen: list[Event] = []
    async for event in system.client.events(f"/v2/tasks/{job_id}/events"):
        seen.append(event)
        if event.id == f"{index + 1}.0":
            return seen
    raise AssertionError(seen)


async def test_a_late_reader_gets_everything_from_the_beginning(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with both(tmp_path, ScriptedWorker(gated(gate, 6, before=3))) as system:
        job = await system.submit()
        async with asyncio.TaskGroup() as group:
            early = group.create_task(system.events(job.job_id))
            await read_until_token(system, job.job_id, 2)
            late = group.create_task(system.events(job.job_id))
            gate.set()

    second = lasting(late.result())
    assert lasting(early.result()) == second
    assert [token.t for token in tokens(second)] == ["0 ", "1 ", "2 ", "3 ", "4 ", "5 "]


async def test_a_reader_resumes_at_any_id_without_loss_or_repetition(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with both(tmp_path, ScriptedWorker(gated(gate, 12, before=11))) as system:
        job = await system.submit()
        live = lasting(await read_until_token(system, job.job_id, 10))
        async with asyncio.TaskGroup() as tasks:
            resumed = [tasks.create_task(system.events(job.job_id, after=event.id)) for event in live]
            gate.set()
        whole = lasting(await system.events(job.job_id))

        replayed = [await system.events(job.job_id, after=event.id) for event in whole]
        by_count = [await system.events(job.job_id, after=str(count)) for count in range(13)]

    for position in range(len(live)):
        assert lasting(resumed[position].result()) == whole[position + 1 :]
    for position, rest in enumerate(replayed):
        assert rest == whole[position + 1 :]
    for count, rest in enumerate(by_count):
        assert [token.i for token in tokens(rest)] == list(range(count, 12))
    ids = [parse_event_id(event.id) for event in whole]
    assert ids == sorted(set(ids))


async def test_every_reader_gets_the_same_whole_stream(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with both(tmp_path, ScriptedWorker(gated(gate, 200, before=0))) as system:
        job = await system.submit()
        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(system.events(job.job_id)) for _ in range(20)]
            gate.set()

    streams = [lasting(reader.result()) for reader in readers]
    assert all(stream == streams[0] for stream in streams)
    assert [token.i for token in tokens(streams[0])] == list(range(200))


async def test_the_replay_of_a_finished_job_is_its_live_stream_byte_for_byte(tmp_path: Path) -> None:
    async with both(tmp_path, ScriptedWorker()) as system:
        body = {"model": "file:/models/scripted.gguf", "prompt": "é\n😀", "max_tokens": 5}
        accept = {"Accept": "text/event-stream"}
        async with system.client.request("POST", "/v2/tasks", body=body, headers=accept) as response:
            live = await response.read()
            job_id = response.headers["X-Job-Id"]

        first, second = await system.stream(job_id), await system.stream(job_id)

    kept = b"".join(block + b"\n\n" for block in live.split(b"\n\n")[:-1] if not block.startswith((b"event: queued",)))
    assert first == kept
    assert second == first


async def test_a_job_that_was_never_dispatched_replays_its_end(tmp_path: Path) -> None:
    async with orchestrator(tmp_path) as system:
        job = await system.submit()
        await system.client.send("DELETE", f"/v2/tasks/{job.job_id}", CancelReply)

        events = await system.events(job.job_id)

    assert [event.kind for event in events] == ["error"]


@pytest.mark.parametrize("burst", [True, False])
async def test_memory_is_trimmed_and_a_slow_reader_reads_on_from_disk(tmp_path: Path, *, burst: bool) -> None:
    count, gate, said = 6 * TAIL_TOKENS, asyncio.Event(), asyncio.Event()

    async def play(call: Call) -> None:
        await call.started()
        if burst:
            await call.raw(b"".join(call.encoded(f"{number} ") for number in range(count)))
        else:
            for number in range(count):
                await call.token(f"{number} ")
        said.set()
        await gate.wait()
        await call.end()

    async with both(tmp_path, ScriptedWorker(play)) as system:
        job = await system.submit()
        slow = await system.core.follow(job.job_id, START, owner="")
        parts = [await anext(slow)]
        await read_until_token(system, job.job_id, count - 1)
        stream = system.core.relay.find(JobId(job.job_id))
        assert stream is not None
        system.core.relay.store_rest(stream)
        await system.core.relay._store.writer.flush()
        in_memory = len(stream.tokens)
        gate.set()
        parts += [part async for part in slow]
        task = await system.reached(job.job_id, "completed")
        replay = await system.events(job.job_id)

    seen = list(parse(b"".join(parts)))
    assert in_memory <= 2 * TAIL_TOKENS + 64
    assert [token.i for token in tokens(seen)] == list(range(count))
    assert lasting(seen) == replay
    text = "".join(f"{number} " for number in range(count))
    assert task.output_sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert task.tokens_out == count


async def test_large_events_are_kept_and_told_by_their_bytes(tmp_path: Path) -> None:
    count, large, gate = 200, "v" * 30_000, asyncio.Event()

    async def play(call: Call) -> None:
        await call.started()
        for number in range(count):
            await call.token(f"{number} {large}")
        await gate.wait()
        await call.end()

    async with both(tmp_path, ScriptedWorker(play)) as system:
        job = await system.submit()
        await read_until_token(system, job.job_id, count - 1)
        stream = system.core.relay.find(JobId(job.job_id))
        assert stream is not None
        system.core.relay.store_rest(stream)
        await system.core.relay._store.writer.flush()
        in_memory = sum(map(len, stream.tokens))
        live = await system.core.follow(job.job_id, START, owner="")
        parts = [await anext(live)]
        gate.set()
        parts += [part async for part in live]
        task = await system.reached(job.job_id, "completed")
        parts_later = [part async for part in await system.core.follow(job.job_id, START, owner="")]

    assert in_memory <= 2 * TAIL_BYTES + MAX_BLOCK_BYTES
    assert max(map(len, parts + parts_later)) <= 2 * MAX_BLOCK_BYTES
    assert [token.i for token in tokens(list(parse(b"".join(parts))))] == list(range(count))
    assert list(parse(b"".join(parts_later))) == lasting(list(parse(b"".join(parts))))
    text = "".join(f"{number} {large}" for number in range(count))
    assert task.output_sha256 == hashlib.sha256(text.encode()).hexdigest()


async def test_a_reader_that_leaves_before_the_first_event_takes_nothing_with_it(tmp_path: Path) -> None:
    gate, asked = asyncio.Event(), asyncio.Event()

    async def play(call: Call) -> None:
        asked.set()
        await gate.wait()
        await call.started()
        await call.token("all of it")
        await call.end()

    async with both(tmp_path, ScriptedWorker(play)) as system:
        job = await system.submit()
        await asked.wait()
        leaving = await system.core.follow(job.job_id, START, owner="")
        assert isinstance(leaving, AsyncIterator)
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(_first(leaving))
            while not system.core.relay.watched():
                await asyncio.sleep(0)
            reader.cancel()
            staying = group.create_task(system.events(job.job_id))
            gate.set()
        task = await system.show(job.job_id)

    assert [token.t for token in tokens(staying.result())] == ["all of it"]
    assert task.output_sha256 == hashlib.sha256(b"all of it").hexdigest()
    assert task.tokens_out == 1


async def _first(blocks: AsyncIterator[bytes]) -> None:
    async for _ in blocks:
        return


async def test_a_stream_goes_on_where_it_was_when_the_orchestrator_comes_back(tmp_path: Path) -> None:
    clock = Clock()

    async def rest(call: Call) -> None:
        await call.started()
        await call.token(f"<{call.body.first_token}|{call.body.continue_text}>")
        await call.end()

    async with both(tmp_path, ScriptedWorker(until_cancelled), drain_s=0, clock=clock) as system:
        job = await system.submit()
        before = lasting(await read_until_token(system, job.job_id, 0))
        await system.core.drain(0)
        waiting = await system.show(job.job_id)
    async with scripted(ScriptedWorker(rest)) as worker, orchestrator(tmp_path, clock=clock) as system:
        async with asyncio.TaskGroup() as group:
            again = group.create_task(system.events(job.job_id, after=before[-1].id))
            await system.register(worker)
        behind = lasting(again.result())
        whole = await system.events(job.job_id)

    assert waiting.status == "queued"
    assert [token.t for token in tokens(behind)] == ["<1|a>"]
    assert [token.t for token in tokens(whole)] == ["a", "<1|a>"]
    assert len(terminal(whole)) == 1
    ids = [parse_event_id(event.id) for event in [*before, *behind]]
    assert ids == sorted(set(ids))


async def test_an_output_that_was_erased_is_gone_but_the_job_is_not(tmp_path: Path) -> None:
    async with both(tmp_path, ScriptedWorker(), output_retention_s=10) as system:
        job = await system.submit(max_tokens=4)
        await system.events(job.job_id)
        system.advance(20_000)
        await system.core.clean(output_retention_ms=10_000, purge_after_ms=60_000)

        task = await system.show(job.job_id)
        with pytest.raises(RemoteError) as refused:
            await system.events(job.job_id)

    assert (task.status, task.tokens_out) == ("completed", 4)
    assert (refused.value.status, refused.value.code) == (404, "JOB_NOT_FOUND")


@pytest.mark.parametrize("job_id", ["no-such-job", "%00", "a" * 5_000, "..%2f..", "%F0%9F%98%80"])
async def test_an_unknown_job_has_no_events(tmp_path: Path, job_id: str) -> None:
    async with orchestrator(tmp_path) as system:
        with pytest.raises(RemoteError) as refused:
            await system.stream(job_id)

    assert (refused.value.status, refused.value.code) == (404, "JOB_NOT_FOUND")


async def test_the_relay_itself_knows_no_unknown_job(tmp_path: Path) -> None:
    async with opened(tmp_path / "o.db") as store:
        relay = Relay(store, on_read=lambda _stream: None, on_unread=lambda _job: None)
        await store.enqueue(new_job(1))

        with pytest.raises(JobNotFound):
            await anext(aiter(relay.follow(JobId("job-2"), EventId(3, 0))))

        assert len(relay) == 0


async def test_a_reader_is_told_its_place_at_most_once_a_second_and_of_a_load_at_once(tmp_path: Path) -> None:
    def place(position: int) -> Queued:
        return Queued(job_id="job-1", position=position, correlation_id="c")

    load = Loading(stage="loading", percent=1.0, worker_id="w", pool_id="p")
    async with opened(tmp_path / "o.db") as store:
        relay = Relay(store, on_read=lambda _stream: None, on_unread=lambda _job: None)
        stream = relay.open(JobId("job-1"), 1)
        told = []
        for now_ms, kind, body in [
            (50_000, "queued", place(9)),
            (50_001, "queued", place(8)),
            (50_999, "queued", place(7)),
            (51_000, "queued", place(6)),
            (51_001, "loading", load),
            (51_002, "queued", place(5)),
            (52_000, "queued", place(6)),
            (53_000, "queued", place(6)),
        ]:
            before = stream.latest
            relay.show(stream, kind, body, now_ms=now_ms)
            if stream.latest is not before:
                told.append((now_ms, kind))

    assert told == [(50_000, "queued"), (51_000, "queued"), (51_001, "loading"), (52_000, "queued")]
