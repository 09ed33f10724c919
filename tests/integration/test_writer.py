"""The single writer: many writes, one commit, and each caller told of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from functools import partial
from pathlib import Path

import pytest

from llorch.errors import DiskFull, StorageUnavailable
from roles.orchestrator.state.store import Store
from roles.orchestrator.state.writer import ITS_OWN, MAX_BATCH, Operation
from tests.support import disks
from tests.support.storing import opened


def insert(value: int) -> Operation[int]:
    """Insert a number; return how many there are now, in this transaction."""

    def operation(db: sqlite3.Connection) -> int:
        db.execute("INSERT INTO numbers VALUES (?)", (value,))
        count: int = db.execute("SELECT count(*) FROM numbers").fetchone()[0]
        return count

    return operation


def make_table(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE numbers (value INTEGER PRIMARY KEY CHECK (value <> 13))")


def numbers(path: Path) -> list[int]:
    """Read with a second connection, which sees only what is committed."""
    db = sqlite3.connect(path)
    try:
        return [value for (value,) in db.execute("SELECT value FROM numbers ORDER BY value")]
    finally:
        db.close()


async def test_concurrent_writes_all_happen_in_order_and_share_commits(tmp_path: Path) -> None:
    commits: list[str] = []
    async with opened(tmp_path / "w.db") as store:
        await store.writer.write(make_table)
        await store.writer.read(
            lambda db: db.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
        )

        async with asyncio.TaskGroup() as tasks:
            writes = [tasks.create_task(store.writer.write(insert(n))) for n in range(100, 100 + 2 * MAX_BATCH)]

        assert [write.result() for write in writes] == list(range(1, 2 * MAX_BATCH + 1))
        assert numbers(tmp_path / "w.db") == list(range(100, 100 + 2 * MAX_BATCH))
        assert len(commits) <= 3


async def test_the_one_that_cannot_be_done_fails_alone(tmp_path: Path) -> None:
    async with opened(tmp_path / "w.db") as store:
        await store.writer.write(make_table)

        async with asyncio.TaskGroup() as tasks:
            good = [tasks.create_task(store.writer.write(insert(n))) for n in range(13)]
            bad = tasks.create_task(_error_of(store.writer.write(insert(13))))
            more = [tasks.create_task(store.writer.write(insert(n))) for n in range(14, 30)]

        assert isinstance(bad.result(), sqlite3.IntegrityError)
        assert [write.result() for write in [*good, *more]] == list(range(1, 30))
        assert numbers(tmp_path / "w.db") == [n for n in range(30) if n != 13]


async def _error_of(write: object) -> BaseException | None:
    try:
        await write  # type: ignore[misc]  # an awaitable
    except sqlite3.IntegrityError as error:
        return error
    return None


@pytest.mark.parametrize("value", [2**63, "half a character: \ud800", object()])
async def test_a_value_that_the_database_cannot_keep_fails_alone(value: object, tmp_path: Path) -> None:
    async with opened(tmp_path / "w.db") as store:
        await store.writer.write(make_table)
        async with asyncio.TaskGroup() as tasks:
            before = tasks.create_task(store.writer.write(insert(1)))
            wrong = store.writer.submit(lambda db: db.execute("INSERT INTO numbers VALUES (?)", (value,)).rowcount)
            behind = tasks.create_task(store.writer.write(insert(2)))
        with pytest.raises(ITS_OWN):
            await wrong

    assert (before.result(), behind.result(), numbers(tmp_path / "w.db")) == (1, 2, [1, 2])


async def test_a_write_whose_caller_left_happens_or_not_but_spoils_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "w.db") as store:
        await store.writer.write(make_table)

        async with asyncio.TaskGroup() as tasks:
            left = tasks.create_task(store.writer.write(insert(1)))
            stayed = tasks.create_task(store.writer.write(insert(2)))
            await asyncio.sleep(0)
            left.cancel()

        assert left.cancelled()
        assert stayed.result() in {1, 2}
        assert 2 in numbers(tmp_path / "w.db")


async def test_writes_nobody_waits_for_are_there_after_a_flush(tmp_path: Path) -> None:
    async with opened(tmp_path / "w.db") as store:
        await store.writer.write(make_table)
        for n in range(20):
            _ = store.writer.submit(insert(n if n != 13 else 99))

        await store.writer.flush()

        assert numbers(tmp_path / "w.db") == sorted(n if n != 13 else 99 for n in range(20))


async def full(store: Store, *, pages: int) -> None:
    """Let the database grow by *pages* only, until `emptied`."""
    [now] = await store.writer.read(lambda db: db.execute("PRAGMA page_count").fetchone())
    await store.writer.read(lambda db: db.execute(f"PRAGMA max_page_count = {now + pages}").close())


async def emptied(store: Store) -> None:
    """Give it space again."""
    await store.writer.read(lambda db: db.execute("PRAGMA max_page_count = 1000000").close())


def blob(db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO blobs VALUES (zeroblob(100000))")


async def test_a_full_disk_refuses_what_can_be_refused_and_spoils_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "w.db") as store:
        await store.writer.write(make_table)
        await store.writer.write(lambda db: db.execute("CREATE TABLE blobs (data BLOB)").close())
        await full(store, pages=2)

        with pytest.raises(DiskFull) as refused:
            await store.writer.write(blob, patient=False)
        small = await store.writer.write(insert(5), patient=False)

        assert refused.value.status == 507
        assert (small, numbers(tmp_path / "w.db")) == (1, [5])


def _note(done: list[str], name: str, _: object) -> None:
    done.append(name)


async def test_patient_writes_wait_for_space_in_order_while_others_are_refused_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path / "w.db") as store:
        await store.writer.write(make_table)
        await store.writer.write(lambda db: db.execute("CREATE TABLE blobs (data BLOB)").close())
        await full(store, pages=2)
        done: list[str] = []

        stuck: list[asyncio.Future[None] | asyncio.Future[int]] = [
            store.writer.submit(blob),
            store.writer.submit(insert(1)),
            store.writer.submit(insert(2)),
        ]
        for name, future in zip("abc", stuck, strict=True):
            future.add_done_callback(partial(_note, done, name))
        with pytest.raises(DiskFull):
            await store.writer.write(insert(3), patient=False)
        trouble = store.writer.trouble
        before = list(done)
        await emptied(store)
        for future in stuck:
            await future
        after = await store.writer.write(insert(4), patient=False)

        assert isinstance(trouble, DiskFull)
        assert (before, done) == ([], ["a", "b", "c"])
        assert (store.writer.trouble, after) == (None, 3)
        assert numbers(tmp_path / "w.db") == [1, 2, 4]


async def test_a_lock_that_another_process_holds_is_waited_out(tmp_path: Path) -> None:
    async with opened(tmp_path / "w.db") as store:
        await store.writer.write(make_table)
        await store.writer.read(lambda db: db.execute("PRAGMA busy_timeout = 10").close())
        other = sqlite3.connect(tmp_path / "w.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(StorageUnavailable) as refused:
            await store.writer.write(insert(1), patient=False)
        patient = store.writer.submit(insert(2))
        other.execute("ROLLBACK")
        other.close()

        assert await patient == 1
        assert (refused.value.status, refused.value.code) == (503, "STORAGE_UNAVAILABLE")
        assert numbers(tmp_path / "w.db") == [2]


async def test_a_log_that_cannot_be_emptied_on_a_full_disk_is_trouble_that_passes(tmp_path: Path) -> None:
    with disks.small(tmp_path / "disk", 4) as disk:
        async with opened(disk / "w.db") as store:
            await store.writer.write(make_table)
            for number in range(100, 100 + 2_000, 100):
                await store.writer.write(partial(_many, numbers=range(number, number + 100)))
            filler = disks.fill(disk)
            with pytest.raises(DiskFull):
                await store.checkpoint()
            patience = await store.writer.read(lambda db: db.execute("PRAGMA busy_timeout").fetchone())
            filler.unlink()
            await store.checkpoint()
            left = (disk / "w.db-wal").stat().st_size

    assert (patience, left) == ((5_000,), 0)


def _many(db: sqlite3.Connection, *, numbers: range) -> None:
    db.executemany("INSERT INTO numbers VALUES (?)", ((number,) for number in numbers))
