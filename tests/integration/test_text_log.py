"""Text that only a killed orchestrator's text log has: brought into the database, or left alone where it must be."""

from __future__ import annotations

import asyncio
import resource
import signal
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from llorch.job import JobId, Move
from roles.orchestrator.relay import Relay
from roles.orchestrator.state.rows import Chunk, Ending
from roles.orchestrator.state.store import Store
from roles.orchestrator.state.text_log import MAX_BYTES, TextLog, records
from tests.support.storing import new_job, opened, place

TEXT = "the last words"


def chunk(first: int, *texts: str, ids: bool = True) -> Chunk:
    """Return token events with one token of the model behind each."""
    events = b"".join(b"event: token\ndata: %b\n\n" % text.encode() for text in texts)
    known = array("i", range(first, first + len(texts))).tobytes() if ids else None
    return Chunk(first=first, count=len(texts), events=events, ids=known, held="")


def files(folder: Path) -> list[Path]:
    """Return the text logs there are."""
    return sorted(folder.glob("*-text-*"))


async def running(store: Store, seq: int) -> JobId:
    """Put a job on disk that a worker has."""
    job = new_job(seq)
    await store.enqueue(job)
    await store.claim(job.id, place(1), now_ms=1)
    return job.id


async def stored(store: Store, seq: int) -> str:
    """Return a job's output."""
    return b"".join(events for _, _, events in await store.output(seq, start=0)).decode()


async def test_what_the_database_had_not_yet_is_there_for_the_next_process(tmp_path: Path) -> None:
    async with opened(tmp_path / "db") as store:
        job = await running(store, 1)
        for part in (chunk(0, "one "), chunk(1, "two ", "three "), chunk(3, TEXT)):
            store.texts.add(1, job, part)
        store.append(1, chunk(0, "one "), done=lambda: None)
    [left] = files(tmp_path)
    assert left.stat().st_mode & 0o777 == 0o600

    async with opened(tmp_path / "db") as store:
        text, generated = await stored(store, 1), await store.generated(1)
        assert store.texts.found == {1}

    assert [line[6:] for line in text.splitlines() if line.startswith("data")] == ["one ", "two ", "three ", TEXT]
    assert (generated.pieces, generated.ids) == (4, array("i", [0, 1, 2, 3]))
    assert files(tmp_path) == []


async def test_a_log_is_read_over_several_files_in_their_order(tmp_path: Path) -> None:
    async with opened(tmp_path / "db") as store:
        job = await running(store, 1)
        for number in range(11):
            store.texts.add(1, job, chunk(number, f"{number} "))
            store.texts.rotate()
    assert len(files(tmp_path)) == 11

    async with opened(tmp_path / "db") as store:
        assert (await store.generated(1)).ids == array("i", range(11))


@pytest.mark.parametrize("first", [0, 2, 4])
async def test_text_that_does_not_follow_what_is_stored_is_left_out(tmp_path: Path, first: int) -> None:
    async with opened(tmp_path / "db") as store:
        job = await running(store, 1)
        store.append(1, chunk(0, "a", "b", "c"), done=lambda: None)
        store.texts.add(1, job, chunk(first, "x", "y"))

    async with opened(tmp_path / "db") as store:
        assert (await store.generated(1)).pieces == 3
        assert "x" not in await stored(store, 1)


async def test_text_of_a_job_that_has_ended_or_is_another_one_is_left_out(tmp_path: Path) -> None:
    async with opened(tmp_path / "db") as store:
        ended = await running(store, 1)
        store.texts.add(1, ended, chunk(0, TEXT))
        store.texts.add(2, JobId("a job of a database that was put back"), chunk(0, TEXT))
        store.texts.add(3, JobId("a job that there is not"), chunk(0, TEXT))
        await running(store, 2)
        await store.settle(ended, Move.FAIL, Ending(finished_ms=5, event_serial=5))

    async with opened(tmp_path / "db") as store:
        assert await stored(store, 1) == await stored(store, 2) == await stored(store, 3) == ""
        assert store.texts.found == frozenset()


async def test_a_shortened_log_leaves_nothing_that_is_not_in_the_database(tmp_path: Path) -> None:
    async with opened(tmp_path / "db") as store:
        relay = Relay(store, on_read=lambda _stream: None, on_unread=lambda _job: None)
        job = await running(store, 1)
        stream = relay.open(job, 1)
        store.texts.add(1, job, chunk(0, TEXT))
        stream.tokens.append(chunk(0, TEXT).events)

        await relay.shorten_log()

        assert TEXT in await stored(store, 1)
        assert files(tmp_path) == []
        assert not store.texts.long
        store.texts.add(1, job, chunk(1, "more"))
        assert len(files(tmp_path)) == 1


async def test_a_log_is_shortened_while_the_database_is_never_idle(tmp_path: Path) -> None:
    async with opened(tmp_path / "db") as store, asyncio.TaskGroup() as tasks:
        relay = Relay(store, on_read=lambda _stream: None, on_unread=lambda _job: None)
        job = await running(store, 1)
        relay.open(job, 1)
        store.texts.add(1, job, chunk(0, TEXT))

        async def busy() -> None:
            while True:
                store.first_token(job, now_ms=1)
                await asyncio.sleep(0)

        never_idle = tasks.create_task(busy())
        await asyncio.sleep(0.1)
        async with asyncio.timeout(20):
            await relay.shorten_log()
        never_idle.cancel()

    assert files(tmp_path) == []


def test_a_log_is_long_once_it_has_its_size(tmp_path: Path) -> None:
    texts = TextLog(tmp_path / "db")
    sizes = 0
    while not texts.long:
        texts.add(1, JobId("j"), chunk(0, "x" * 100_000))
        sizes = files(tmp_path)[0].stat().st_size
    assert MAX_BYTES <= sizes < MAX_BYTES + 101_000


def test_whatever_is_cut_off_or_damaged_what_came_before_is_read(tmp_path: Path) -> None:
    texts = TextLog(tmp_path / "db")
    ends = [0]
    for number in range(5):
        texts.add(1, JobId("j"), chunk(number, f"{number}"))
        ends.append(files(tmp_path)[0].stat().st_size)
    whole = files(tmp_path)[0].read_bytes()

    for length in range(len(whole) + 1):
        cut = [record.chunk.first for record in records(whole[:length])]
        assert cut == list(range(sum(end <= length for end in ends[1:])))
        if length < len(whole):
            damaged = whole[:length] + bytes([whole[length] ^ 0x10]) + whole[length + 1 :]
            kept = [record.chunk.first for record in records(damaged)]
            assert kept == list(range(sum(end <= length for end in ends[1:])))


@given(st.binary(max_size=200))
def test_garbage_is_no_text(data: bytes) -> None:
    assert list(records(data)) == []


def test_a_disk_that_takes_no_more_costs_the_protection_and_not_the_text_before(tmp_path: Path) -> None:
    texts = TextLog(tmp_path / "db")
    texts.add(1, JobId("j"), chunk(0, "kept"))
    [file] = files(tmp_path)
    size = file.stat().st_size

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))  # as on a full disk, part of it can be written
    try:
        with capture_logs() as told:
            texts.add(1, JobId("j"), chunk(1, "lost"))
            texts.add(1, JobId("j"), chunk(2, "lost, too"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    texts.add(1, JobId("j"), chunk(3, "kept again"))

    assert [entry["event"] for entry in told] == ["text_cannot_be_kept"]
    assert [record.chunk.first for record in records(file.read_bytes())] == [0, 3]
