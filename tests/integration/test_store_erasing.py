"""Erasing texts that were kept long enough: little at a time, so that submissions get in between."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llorch.job import JobId, Move
from llorch.wire.operations import Purge
from roles.orchestrator.state.database import MIGRATIONS
from roles.orchestrator.state.output import MAX_ERASED_BYTES, ROW_BYTES, erase_some
from roles.orchestrator.state.purge import purge
from roles.orchestrator.state.rows import Chunk, Ending
from roles.orchestrator.state.store import Store
from tests.support.storing import new_job, opened

JOBS = 12
ENDED = Ending(finished_ms=100, event_serial=1, error_code="X")


async def retained(store: Store) -> None:
    """Erase the texts, as retention does."""
    assert await store.erase_outputs(finished_from_ms=0, finished_before_ms=200) == JOBS


async def forgotten(store: Store) -> None:
    """Delete the jobs with their texts, as retention does in the end."""
    assert await store.purge(finished_before_ms=200) == JOBS


async def wished(store: Store) -> None:
    """Erase the jobs with their texts at an operator's wish."""
    wanted = Purge(older_than_ms=0, statuses=["failed"])
    assert (await purge(store.writer, wanted, now_ms=200)).jobs == {"failed": JOBS}


@pytest.mark.parametrize("erase", [retained, forgotten, wished])
async def test_jobs_are_accepted_between_the_texts_that_are_erased(
    tmp_path: Path, erase: Callable[[Store], Awaitable[None]]
) -> None:
    async with opened(tmp_path / "o.db") as store:
        for seq in range(1, JOBS + 1):
            _ = store.enqueue(new_job(seq))
            store.append(seq, Chunk(first=0, count=1, events=bytes(MAX_ERASED_BYTES)), done=lambda: None)
        for seq in range(1, JOBS + 1):
            await store.settle(JobId(f"job-{seq}"), Move.FAIL, ENDED)
        left: list[int] = []
        async with asyncio.TaskGroup() as tasks:
            erasing = tasks.create_task(_done(erase(store)))
            while not erasing.done():
                await store.enqueue(new_job(1_000 + len(left)))
                left.append(await store.reader.read(lambda db: len(_texts(db))))
        last = await store.reader.read(_texts)

    assert any(0 < count < JOBS for count in left)
    assert last == []


async def _done(erased: Awaitable[None]) -> None:
    await erased


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(0, MAX_ERASED_BYTES), max_size=5), min_size=1, max_size=5))
def test_a_transaction_erases_no_more_than_it_may_and_each_text_from_its_end(sizes: list[list[int]]) -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        for name in MIGRATIONS:
            db.executescript(resources.files("roles.orchestrator.state").joinpath(name).read_text("utf-8"))
        texts = [(seq, first, size) for seq, job in enumerate(sizes) for first, size in enumerate(job)]
        other = (len(sizes), 0, 1)
        statement = "INSERT INTO output (job_seq, first, count, events) VALUES (?, ?, 1, zeroblob(?))"
        db.executemany(statement, [*texts, other])
        seqs, gone, most = list(range(len(sizes))), set[int](), max([0, *(size for _, _, size in texts)])

        while seqs:
            before = _texts(db)
            found, done = erase_some(db, seqs)
            after = _texts(db)
            gone |= found
            seqs = seqs[done:]

            erased = sum(size + ROW_BYTES for _, _, size in set(before) - set(after))
            assert erased <= MAX_ERASED_BYTES + most + ROW_BYTES
            assert after == [text for text in before if text in after]
            for seq in seqs:
                kept = [first for owner, first, _ in after if owner == seq]
                assert kept == list(range(len(kept)))
            assert {owner for owner, _, _ in after[:-1]} <= set(seqs)
            assert found or not seqs

        assert _texts(db) == [other]
        assert gone == {seq for seq, job in enumerate(sizes) if job}


def _texts(db: sqlite3.Connection) -> list[tuple[int, int, int]]:
    return db.execute("SELECT job_seq, first, length(events) FROM output ORDER BY job_seq, first").fetchall()
