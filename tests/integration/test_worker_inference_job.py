"""One job and its reader, without an engine and without HTTP."""

from __future__ import annotations

import asyncio
import json

import pytest

from llorch import errors, sse
from llorch.wire.events import START
from roles.worker.inference.job import Job, Piece
from roles.worker.inference.replay import Id


def piece(text: str) -> Piece:
    return Piece(text, [0], "")


async def read(job: Job, position: int = 0, after: Id = START) -> bytes:
    return b"".join([block async for block in job.follow(position, after=after)])


async def until_waiting(job: Job) -> None:
    """Wait until the reader has had everything there is."""
    while job._reader is None or job._reader.waiting is None:
        await asyncio.sleep(0)


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


async def test_a_job_that_fails_tells_what_its_error_has_for_programs() -> None:
    job = Job("job", 1)

    job.fail(errors.InvalidRequest("no room", details={"prompt_tokens": 5, "context_length": 4}))
    [event] = sse.parse(await read(job))

    assert event.kind == "error"
    assert json.loads(event.data)["details"] == {"prompt_tokens": 5, "context_length": 4}


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


async def test_a_quiet_job_tells_its_reader_that_it_is_there() -> None:
    job = Job("job", 1)
    reader = job.follow()

    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(anext(reader))
        await until_waiting(job)
        job.nudge(job.changed_s + 1)
        assert not first.done()
        job.nudge(job.changed_s + 100)
    await reader.aclose()

    assert first.result() == sse.KEEPALIVE


async def test_a_newer_reader_ends_the_one_that_waits() -> None:
    job = Job("job", 1)
    job.tokens([piece("a")])

    async with asyncio.TaskGroup() as tasks:
        old = tasks.create_task(read(job))
        await until_waiting(job)
        new = tasks.create_task(read(job))
        await old
        job.tokens([piece("b")])
        job.event("end", {})

    assert [event.kind for event in sse.parse(old.result())] == ["token"]
    assert [event.kind for event in sse.parse(new.result())] == ["token", "token", "end"]


async def test_a_newer_reader_hangs_up_on_one_that_does_not_take_what_it_is_given() -> None:
    job = Job("job", 1)
    job.tokens([piece("a")])
    hung_up: list[str] = []
    stuck = job.follow(hang_up=lambda: hung_up.append("stuck"))
    await anext(stuck)

    reader = job.follow(hang_up=lambda: hung_up.append("new"))
    await anext(reader)
    job.event("end", {})
    rest = [block async for block in reader]

    assert hung_up == ["stuck"]
    assert [event.kind for event in sse.parse(b"".join(rest))] == ["end"]
    assert [block async for block in stuck] == []


async def test_the_end_of_an_older_reader_does_not_count_as_the_readers_leaving() -> None:
    job = Job("job", 1)
    job.tokens([piece("a")])
    old = job.follow()
    await anext(old)
    new = job.follow()
    await anext(new)

    await old.aclose()
    still_read = job.is_read
    await new.aclose()

    assert still_read
    assert not job.is_read


async def test_a_reader_that_has_seen_more_than_there_is_gets_only_what_is_new_to_it() -> None:
    job = Job("job", 1)
    job.tokens([piece("a")])

    async with asyncio.TaskGroup() as tasks:
        reader = tasks.create_task(read(job, job.position_after((3, 0)), (3, 0)))
        for text in ("b", "c", "d"):
            await until_waiting(job)
            job.tokens([piece(text)])
        job.event("end", {})

    assert [event.id.partition(".")[0] for event in sse.parse(reader.result())] == ["4", "4"]
    assert [event.kind for event in sse.parse(reader.result())] == ["token", "end"]


async def test_a_job_whose_reader_left_keeps_what_is_unread_and_lets_go_of_the_rest() -> None:
    job = Job("job", 1, buffer_bytes=1000)
    reader = job.follow()
    job.tokens([piece("some text")] * 12)
    await anext(reader)
    await reader.aclose()

    for _ in range(6):
        job.tokens([piece("some text")])
    job.event("end", {})
    rest = await read(job, job.position_after((12, 0)))

    assert [event.id for event in sse.parse(rest)][:-1] == [f"{number}.0" for number in range(13, 19)]
    with pytest.raises(errors.JobNotFound):
        job.position_after((1, 0))
