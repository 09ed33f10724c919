"""The life of jobs on a real database next to a model of it: whatever is asked in whatever order, the two agree.

Each step asks the store for something that may or may not be possible then. The model knows the transition table and
nothing of SQL. Reopening the file is a step like any other.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llorch.job import FINAL, JobId, Move, State, after
from roles.orchestrator.state.rows import Chunk, Ending, JobRow
from roles.orchestrator.state.store import Store
from tests.support.storing import new_job, opened, place

T = TypeVar("T")
MEMORY = Path("/dev/shm")
"""A flush costs nothing there: this is about what is written, not about power cuts."""
ENDS = (Move.COMPLETE, Move.FAIL, Move.CANCEL, Move.CONFIRM_CANCEL)
jobs = st.integers(0, 3)
"""Some job, counted from the newest."""


@dataclass(slots=True)
class Life:
    """What should be true of one job."""

    seq: int
    id: JobId
    state: State = State.QUEUED
    outcomes: list[str | None] = field(default_factory=list)
    written: list[bytes] = field(default_factory=list)
    final: JobRow | None = None


class StoreAgainstAModel(RuleBasedStateMachine):
    """A store in a file of its own, and the lives of its jobs."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.path = Path(self.folder.name) / "steps.db"
        self.lives: list[Life] = []
        self.touched: list[Life] = []
        self.keys: dict[str, Life] = {}
        self.now_ms = 10_000
        self.ask(self.open())

    def teardown(self) -> None:
        self.touched = self.lives
        try:
            self.ask(self.check())
        finally:
            self.ask(self.close())
            self.runner.close()
            self.folder.cleanup()

    def ask(self, question: Coroutine[Any, Any, T]) -> T:
        self.now_ms += 1
        return self.runner.run(question)

    async def open(self) -> None:
        self.store = await Store(self.path).__aenter__()
        self.writer = asyncio.get_running_loop().create_task(self.store.writer.run())

    async def close(self) -> None:
        await self.store.writer.flush()
        self.writer.cancel()
        with suppress(asyncio.CancelledError):
            await self.writer
        await self.store.__aexit__()

    def life(self, back: int) -> Life:
        life = self.lives[-1 - back % len(self.lives)]
        self.touched = [life]
        return life

    @rule(key=st.sampled_from([None, None, "a", "b"]))
    def enqueue(self, key: str | None) -> None:
        seq = 1 + max((life.seq for life in self.lives), default=0)
        life = Life(seq, JobId(f"job-{seq}"))

        async def enqueued() -> bool:
            return await self.store.enqueue(new_job(seq, id=life.id, idempotency_key=key))

        assert self.ask(enqueued()) is (key not in self.keys)
        if key not in self.keys:
            self.lives.append(life)
            self.touched = [life]
            if key is not None:
                self.keys[key] = life

    @precondition(lambda self: self.lives)
    @rule(back=jobs)
    def claim(self, back: int) -> None:
        life = self.life(back)

        async def claimed() -> bytes | None:
            number = len(life.outcomes) + 1
            return await self.store.claim(life.id, place(number), now_ms=self.now_ms)

        assert self.ask(claimed()) == (new_job(1).request if life.state is State.QUEUED else None)
        if self.moved(life, Move.CLAIM):
            life.outcomes.append(None)

    @precondition(lambda self: self.lives)
    @rule(back=jobs)
    def start(self, back: int) -> None:
        life = self.life(back)

        async def started() -> None:
            self.store.start(life.id, engine="e", tokens_in=3, event_serial=self.now_ms, now_ms=self.now_ms)
            await self.store.writer.flush()

        self.ask(started())
        self.moved(life, Move.START)

    @precondition(lambda self: any(life.state in {State.RUNNING, State.CANCELLING} for life in self.lives))
    @rule(data=st.data(), count=st.integers(1, 3), again=st.booleans())
    def write(self, data: st.DataObject, count: int, *, again: bool) -> None:
        running = [life for life in self.lives if life.state in {State.RUNNING, State.CANCELLING}]
        life = data.draw(st.sampled_from(running))
        self.touched = [life]
        first = len(life.written)
        blocks = [b"event: token\nid: %d.0\ndata: {}\n\n" % (first + n + 1) for n in range(count)]

        async def written() -> None:
            on_disk = asyncio.Event()
            self.store.append(life.seq, Chunk(first=first, count=count, events=b"".join(blocks)), done=on_disk.set)
            if again:  # what an abandoned attempt says late
                self.store.append(life.seq, Chunk(first=first, count=1, events=b"other\n\n"), done=lambda: None)
            await on_disk.wait()
            await self.store.writer.flush()

        self.ask(written())
        life.written += blocks

    @precondition(lambda self: self.lives)
    @rule(back=jobs)
    def requeue(self, back: int) -> None:
        life = self.life(back)

        asked = self.store.requeue(life.id, outcome="WORKER_LOST", not_before_ms=0, now_ms=self.now_ms)

        possible = after(life.state, Move.REQUEUE) is not None
        assert self.ask(asked) is possible
        if self.moved(life, Move.REQUEUE):
            life.outcomes[-1] = "WORKER_LOST"

    @precondition(lambda self: self.lives)
    @rule(back=jobs)
    def ask_to_end(self, back: int) -> None:
        life = self.life(back)

        has_worker = life.state in {State.DISPATCHED, State.RUNNING}
        assert self.ask(self.store.cancelling(life.id)) is has_worker
        if has_worker:
            life.state = State.CANCELLING

    @precondition(lambda self: self.lives)
    @rule(back=jobs, moves=st.lists(st.sampled_from(ENDS), min_size=1, max_size=4))
    def settle(self, back: int, moves: list[Move]) -> None:
        life = self.life(back)

        async def settled() -> list[State | None]:
            async with asyncio.TaskGroup() as tasks:  # at once: they may share a transaction
                asked = [tasks.create_task(self.store.settle(life.id, move, self.ending(life, move))) for move in moves]
            return [task.result() for task in asked]

        for move, result in zip(moves, self.ask(settled()), strict=True):
            reached = after(life.state, move)
            assert result == (reached if reached in FINAL else None)
            if reached in FINAL:
                life.state = reached
                if life.outcomes and life.outcomes[-1] is None:
                    life.outcomes[-1] = "E" if move is not Move.COMPLETE else "completed"

    @rule()
    def reopen(self) -> None:
        self.ask(self.close())
        self.ask(self.open())
        self.touched = self.lives

    def ending(self, life: Life, move: Move) -> Ending:
        code = None if move is Move.COMPLETE else "E"
        return Ending(finished_ms=self.now_ms, event_serial=self.now_ms, pieces=len(life.written), error_code=code)

    def moved(self, life: Life, move: Move) -> bool:
        reached = after(life.state, move)
        life.state = reached or life.state
        return reached is not None

    @invariant()
    def what_is_on_disk_is_what_should_be(self) -> None:
        self.ask(self.check())

    async def check(self) -> None:
        unfinished = [row.id for row in await self.store.unfinished(after_seq=0, limit=1_000)]
        assert unfinished == [life.id for life in self.lives if life.state not in FINAL]
        for life in self.touched:
            row = await self.store.get(life.id)
            assert row is not None
            assert row.state is life.state
            await self.check_end(life, row)
            attempts = await self.store.attempts(life.seq)
            assert [(attempt.number, attempt.outcome) for attempt in attempts] == [*enumerate(life.outcomes, start=1)]
            assert all((attempt.ended_ms is None) == (attempt.outcome is None) for attempt in attempts)
            chunks = await self.store.output(life.seq, start=0, limit=1_000)
            assert b"".join(events for _, _, events in chunks) == b"".join(life.written)
            assert (await self.store.generated(life.seq)).pieces == len(life.written)

    async def check_end(self, life: Life, row: JobRow) -> None:
        """A final row has an end and no prompt, and never changes again; another has neither."""
        kept = "SELECT request IS NOT NULL FROM jobs WHERE seq = ?"
        [has_request] = await self.store.writer.read(lambda db: db.execute(kept, (life.seq,)).fetchone())
        assert bool(has_request) is (life.state not in FINAL)
        assert (row.final_event is not None) is (life.state in FINAL)
        if life.state in FINAL:
            life.final = life.final or row
            assert row == life.final


TestStoreAgainstAModel = StoreAgainstAModel.TestCase
TestStoreAgainstAModel.settings = settings(max_examples=60, stateful_step_count=40)


async def test_a_job_that_ends_while_it_waits_for_its_next_attempt_keeps_how_the_last_one_ended(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        job = new_job(1)
        await store.enqueue(job)
        await store.claim(job.id, place(1), now_ms=10)
        await store.requeue(job.id, outcome="WORKER_LOST", not_before_ms=0, now_ms=20)

        await store.settle(job.id, Move.FAIL, Ending(finished_ms=30, event_serial=30, error_code="QUEUE_TIMEOUT"))

        [attempt] = await store.attempts(1)
        assert (attempt.ended_ms, attempt.outcome) == (20, "WORKER_LOST")
