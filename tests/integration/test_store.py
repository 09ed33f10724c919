"""The store over a real SQLite file: durability, transitions, and what it refuses to open."""

from __future__ import annotations

import sqlite3
from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llorch.job import FINAL, TRANSITIONS, JobId, Move, State, after
from roles.orchestrator.scheduler.serving import MOST_KEPT
from roles.orchestrator.state.rows import Chunk, Ending, Filter, Generated
from roles.orchestrator.state.store import Store
from tests.support.storing import new_job, opened, place

ENDED = Ending(finished_ms=5_000, event_serial=5_000)
COMPLETED = replace(ENDED, tokens_in=3, tokens_out=2, pieces=2, decode_ms=7, stop_reason="eos", output_sha256="ab")


def rows(path: Path, statement: str) -> list[tuple[Any, ...]]:
    """Ask a second connection, which sees only what is committed."""
    db = sqlite3.connect(path)
    try:
        return db.execute(statement).fetchall()
    finally:
        db.close()


async def bring(store: Store, job_id: JobId, state: State) -> None:
    """Bring a queued job to *state* by moves that the table allows."""
    if state is State.QUEUED:
        return
    if state is State.CANCELLED:
        await store.settle(job_id, Move.CANCEL, ENDED)
        return
    if state is State.FAILED:
        await store.settle(job_id, Move.FAIL, ENDED)
        return
    await store.claim(job_id, place(1), now_ms=10)
    if state is State.DISPATCHED:
        return
    store.start(job_id, engine="e", tokens_in=3, event_serial=11, now_ms=11)
    await store.writer.flush()
    if state is State.CANCELLING:
        await store.cancelling(job_id)
    elif state is State.COMPLETED:
        await store.settle(job_id, Move.COMPLETE, COMPLETED)


async def move(store: Store, job_id: JobId, what: Move, state: State) -> None:
    """Ask the store for a move, whether it can happen or not."""
    if what is Move.CLAIM:
        await store.claim(job_id, place(2, worker_id="x"), now_ms=20)
    elif what is Move.START:
        store.start(job_id, engine="other", tokens_in=4, event_serial=21, now_ms=21)
        await store.writer.flush()
    elif what is Move.REQUEUE:
        await store.requeue(job_id, outcome="WORKER_LOST", not_before_ms=30, now_ms=22)
    elif what is Move.CANCEL and state in {State.DISPATCHED, State.RUNNING}:
        await store.cancelling(job_id)
    else:
        await store.settle(job_id, what, COMPLETED if what is Move.COMPLETE else ENDED)


async def test_an_enqueued_job_is_on_disk_when_the_call_returns(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    async with opened(path) as store:
        fresh = await store.enqueue(new_job(1, seed=2**64 - 1))

        seen = rows(path, "SELECT seq, id, state, seed, request FROM jobs")

    assert fresh
    assert seen == [(1, "job-1", "queued", "18446744073709551615", b'{"prompt":"secret words"}')]


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("what", list(Move))
async def test_a_move_happens_exactly_where_the_table_has_it(tmp_path: Path, state: State, what: Move) -> None:
    async with opened(tmp_path / "o.db") as store:
        await store.enqueue(new_job(1))
        await bring(store, JobId("job-1"), state)
        before = await store.get("job-1")
        log = await store.attempts(1)

        await move(store, JobId("job-1"), what, state)

        row = await store.get("job-1")
        assert before is not None
        assert row is not None
        if after(state, what) is None:
            assert (row, await store.attempts(1)) == (before, log)
        else:
            assert row.state is TRANSITIONS[state][what]


async def test_claiming_returns_the_request_once(tmp_path: Path) -> None:
    async with opened(tmp_path / "o.db") as store:
        await store.enqueue(new_job(1))

        first = await store.claim(JobId("job-1"), place(1), now_ms=10)
        second = await store.claim(JobId("job-1"), place(2), now_ms=11)

        [attempt] = await store.attempts(1)
    assert (first, second) == (b'{"prompt":"secret words"}', None)
    assert (attempt.number, attempt.worker_id, attempt.dispatched_ms) == (1, "w", 10)


@pytest.mark.parametrize("state", sorted(FINAL))
async def test_a_final_job_keeps_no_prompt_not_even_in_the_file(tmp_path: Path, state: State) -> None:
    path = tmp_path / "o.db"
    async with opened(path) as store:
        await store.enqueue(new_job(1))
        await bring(store, JobId("job-1"), state)

        [(request,)] = rows(path, "SELECT request FROM jobs")

    assert request is None
    assert b"secret words" not in path.read_bytes()


async def test_a_settled_job_has_its_figures_and_its_attempt_an_outcome(tmp_path: Path) -> None:
    async with opened(tmp_path / "o.db") as store:
        await store.enqueue(new_job(1))
        await bring(store, JobId("job-1"), State.RUNNING)

        state = await store.settle(JobId("job-1"), Move.COMPLETE, COMPLETED)

        row = await store.get("job-1")
        [attempt] = await store.attempts(1)
    assert state is State.COMPLETED
    assert row is not None
    assert (row.tokens_in, row.tokens_out, row.pieces, row.stop_reason, row.started_ms) == (3, 2, 2, "eos", 11)
    assert (attempt.outcome, attempt.ended_ms) == ("completed", 5_000)


async def test_a_key_belongs_to_one_job_of_its_owner(tmp_path: Path) -> None:
    async with opened(tmp_path / "o.db") as store:
        first = await store.enqueue(new_job(1, owner="a", idempotency_key="k"))
        again = await store.enqueue(new_job(2, owner="a", idempotency_key="k"))
        other = await store.enqueue(new_job(3, owner="b", idempotency_key="k"))
        without = [await store.enqueue(new_job(seq, owner="a")) for seq in (4, 5)]

        found = await store.by_key("a", "k")
        kept = [row.seq for row in await store.page(Filter(limit=10))]

    assert (first, again, other, without) == (True, False, True, [True, True])
    assert found is not None
    assert found.id == "job-1"
    assert kept == [5, 4, 3, 1]


FILTERS: list[tuple[Filter, list[int]]] = [
    (Filter(limit=3), [9, 8, 7]),
    (Filter(limit=10, before_seq=4), [3, 2, 1]),
    (Filter(limit=10, before_seq=1), []),
    (Filter(limit=10, state=State.FAILED), [6, 3]),
    (Filter(limit=10, model="even"), [8, 6, 4, 2]),
    (Filter(limit=10, priority="batch"), [9, 7, 5, 3, 1]),
    (Filter(limit=10, session_id="s1"), [7, 4, 1]),
    (Filter(limit=10, owner="nobody"), []),
    (Filter(limit=1, state=State.QUEUED, model="even", session_id="s2", before_seq=8), [2]),
]


@pytest.mark.parametrize(("wanted", "expected"), FILTERS, ids=str)
async def test_a_page_holds_the_newest_jobs_that_match(tmp_path: Path, wanted: Filter, expected: list[int]) -> None:
    async with opened(tmp_path / "o.db") as store:
        for seq in range(1, 10):
            model, priority = ("odd", "batch") if seq % 2 else ("even", "interactive")
            job = new_job(seq, model=model, priority=priority, session_id=f"s{seq % 3}")
            await store.enqueue(job)
        for seq in (3, 6):
            await store.settle(JobId(f"job-{seq}"), Move.FAIL, ENDED)

        found = [row.seq for row in await store.page(wanted)]

    assert found == expected


async def test_output_is_read_from_the_chunk_that_holds_an_index(tmp_path: Path) -> None:
    written: list[int] = []
    async with opened(tmp_path / "o.db") as store:
        await store.enqueue(new_job(1))
        chunks = [(first, 3, b"abc%d" % first) for first in range(0, 60, 3)]
        for first, count, events in chunks:
            store.append(1, Chunk(first=first, count=count, events=events), done=lambda: written.append(1))
        store.append(1, Chunk(first=3, count=3, events=b"written twice"), done=lambda: written.append(1))
        await store.writer.flush()

        everything = await store.output(1, start=0, limit=100)
        from_five = await store.output(1, start=5, limit=2)
        beyond = await store.output(1, start=60)
        generated = await store.generated(1)

    assert everything == chunks
    assert from_five == chunks[1:3]
    assert beyond == []
    assert (generated.pieces, generated.ids) == (60, None)
    assert len(written) == len(chunks) + 1


async def test_the_tokens_behind_an_output_come_back_as_they_were_written(tmp_path: Path) -> None:
    async with opened(tmp_path / "o.db") as store:
        await store.enqueue(new_job(1))
        for first, ids, held in ((0, [7, 2**31 - 1], "be"), (2, [5], "")):
            chunk = Chunk(first=first, count=2, events=b"ab", ids=array("i", ids).tobytes(), held=held)
            store.append(1, chunk, done=lambda: None)
        await store.writer.flush()
        known = await store.generated(1)
        store.append(1, Chunk(first=4, count=1, events=b"c", held="x"), done=lambda: None)
        await store.writer.flush()
        unknown = await store.generated(1)

    assert known == Generated(pieces=4, ids=array("i", [7, 2**31 - 1, 5]), held="")
    assert unknown == Generated(pieces=5, ids=None, held="x")


async def test_where_a_job_runs_is_known_until_its_attempt_ends_and_not_a_moment_longer(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    async with opened(path) as store:
        await store.enqueue(new_job(1))
        await store.claim(JobId("job-1"), place(1), now_ms=10)
        first = await store.whereabouts(1)
        await store.requeue(JobId("job-1"), outcome="WORKER_LOST", not_before_ms=0, now_ms=11)
        between = await store.whereabouts(1)
        await store.claim(JobId("job-1"), place(2, worker_id="x"), now_ms=12)
        second = await store.whereabouts(1)
        await store.settle(JobId("job-1"), Move.FAIL, ENDED)
        after = await store.whereabouts(1)
        await store.checkpoint()

    assert (first, between, second, after) == (place(1), None, place(2, worker_id="x"), None)
    assert place(1).token.encode() not in path.read_bytes()


async def test_erasing_takes_the_output_and_purging_the_job_of_those_that_ended_before(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    async with opened(path) as store:
        for seq in (1, 2, 3):
            await store.enqueue(new_job(seq))
            await bring(store, JobId(f"job-{seq}"), State.RUNNING)
            store.append(seq, Chunk(first=0, count=1, events=b"the output"), done=lambda: None)
        await store.settle(JobId("job-1"), Move.COMPLETE, replace(COMPLETED, finished_ms=100))
        await store.settle(JobId("job-2"), Move.COMPLETE, replace(COMPLETED, finished_ms=200))

        erased = await store.erase_outputs(finished_from_ms=0, finished_before_ms=200)
        kept = rows(path, "SELECT job_seq FROM output ORDER BY job_seq")
        row = await store.get("job-1")
        purged = await store.purge(finished_before_ms=201)
        tables = [("seq", "jobs"), ("job_seq", "output"), ("job_seq", "attempts")]
        left = [rows(path, f"SELECT {column} FROM {table}") for column, table in tables]

    assert (erased, kept) == (1, [(2,), (3,)])
    assert row is not None
    assert (row.output_sha256, row.tokens_out) == ("ab", 2)
    assert (purged, left) == (2, [[(3,)], [(3,)], [(3,)]])


async def test_what_is_not_final_is_found_again_in_order(tmp_path: Path) -> None:
    states = list(State)
    async with opened(tmp_path / "o.db") as store:
        for seq, state in enumerate(states, start=1):
            await store.enqueue(new_job(seq))
            await bring(store, JobId(f"job-{seq}"), state)

    async with opened(tmp_path / "o.db") as store:
        found = [row.state for row in await store.unfinished(after_seq=0, limit=100)]
        last = await store.last_seq()

    assert found == [state for state in states if state not in FINAL]
    assert last == len(states)


async def test_one_busy_worker_does_not_make_what_was_said_of_others_be_forgotten(tmp_path: Path) -> None:
    async with opened(tmp_path / "db") as store:
        store.keep_worker("quiet", -1)
        for number in range(MOST_KEPT):
            store.keep_worker("busy", float(number))
        await store.writer.flush()
        beside_one = await store.kept_workers()
        for number in range(MOST_KEPT):
            store.keep_worker(f"w{number}", 1)
        await store.writer.flush()
        last = await store.kept_workers()

    assert beside_one == [("quiet", -1.0), ("busy", MOST_KEPT - 1.0)]
    assert [worker_id for worker_id, _ in last] == [f"w{number}" for number in range(MOST_KEPT)]
