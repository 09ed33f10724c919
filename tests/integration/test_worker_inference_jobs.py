"""Jobs and their readers, without an engine and without HTTP."""

from __future__ import annotations

import asyncio
import json

import pytest

from llorch import errors, sse
from llorch.wire.events import Failed
from roles.worker.inference.jobs import Job, Jobs, Piece


def piece(text: str) -> Piece:
    return Piece(text, [0], "")


async def read(job: Job, position: int = 0) -> bytes:
    return b"".join([block async for block in job.follow(position)])


async def test_a_reader_gets_what_is_past_and_what_comes() -> None:
    job = Job("job", 1, first_token=3)
    job.tokens([piece("a"), piece("b")])

    async with asyncio.TaskGroup() as tasks:
        reader = tasks.create_task(read(job))
        job.tokens([Piece("c", [7, 8], "EN")])
        job.event("end", {})
    late = await read(job, job.position_after((5, 0)))

    events = list(sse.parse(reader.result()))
    assert [json.loads(event.data) for event in events[:3]] == [
        {"i": 3, "t": "a", "ids": [0], "held": ""},
        {"i": 4, "t": "b", "ids": [0], "held": ""},
        {"i": 5, "t": "c", "ids": [7, 8], "held": "EN"},
    ]
    assert [event.id for event in events[:3]] == ["4.0", "5.0", "6.0"]
    assert [event.kind for event in sse.parse(late)] == ["token", "end"]


async def test_serials_of_other_events_only_grow() -> None:
    job = Job("job", 1)
    for _ in range(50):
        job.event("metrics", {})
    job.event("end", {})

    serials = [int(event.id.partition(".")[2]) for event in sse.parse(await read(job))]

    assert serials == sorted(set(serials))


async def test_a_job_that_nobody_reads_ends_when_its_buffer_is_full() -> None:
    job = Job("job", 1, buffer_bytes=1000)

    def write_on() -> None:
        for _ in range(100):
            job.tokens([piece("some text")])

    with pytest.raises(errors.WorkerLost):
        write_on()


async def test_a_job_that_is_read_goes_on_beyond_its_buffer() -> None:
    job = Job("job", 1, buffer_bytes=1000)
    reader = job.follow()

    got = b""
    for _ in range(100):
        job.tokens([piece("some text")])
        got += await anext(reader)
    await reader.aclose()

    assert got.count(b"event: token") == 100
    with pytest.raises(errors.JobNotFound):
        job.position_after((1, 0))


async def test_a_quiet_job_tells_its_readers_that_it_is_there() -> None:
    job = Job("job", 1)
    reader = job.follow()

    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(anext(reader))
        while not job.readers or not job._waiting:
            await asyncio.sleep(0)
        job.nudge(job.changed_s + 1)
        assert not first.done()
        job.nudge(job.changed_s + 100)
    await reader.aclose()

    assert first.result() == sse.KEEPALIVE


def test_slots_are_given_once_and_only_as_many_as_there_are() -> None:
    jobs = Jobs(slots=2, reattach_s=60)
    first = jobs.reserve("a", 1, first_token=0)
    jobs.reserve("b", 1, first_token=0)

    with pytest.raises(errors.Conflict):
        jobs.reserve("a", 2, first_token=0)
    with pytest.raises(errors.AllSlotsBusy):
        jobs.reserve("c", 1, first_token=0)
    jobs.release(first)
    with pytest.raises(errors.Conflict):
        jobs.reserve("a", 1, first_token=0)
    assert jobs.reserve("a", 2, first_token=0).attempt == 2


def test_what_ended_is_kept_for_a_while_and_what_nobody_reads_is_found() -> None:
    jobs = Jobs(slots=2, reattach_s=60)
    ended = jobs.reserve("ended", 1, first_token=0)
    unread = jobs.reserve("unread", 1, first_token=0)
    ended.event("error", Failed(code="X", message="x", retriable=False))
    jobs.release(ended)

    assert jobs.sweep(ended.ended_s + 59) == []
    assert jobs.get("ended") is ended
    assert jobs.sweep(unread.unread_since_s + 61) == [unread]
    with pytest.raises(errors.JobNotFound):
        jobs.get("ended")
