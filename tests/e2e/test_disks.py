"""The disk under the queue is full, read-only, locked or damaged: a real file system, real processes, a real model."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, closing, suppress
from pathlib import Path

import pytest

from llorch.errors import RemoteError
from llorch.sse import Event
from tests.e2e.processes import Role, pool_role, role, run, text_of, until
from tests.support import disks, models

STEADY = models.Shape(n_embd=320, n_layer=6, n_head=5, n_ff=864, ctx=512)
pytestmark = pytest.mark.slow


@pytest.fixture
def steady(tmp_path: Path) -> str:
    """Return a model that takes some milliseconds a token."""
    return f"file:{models.make(tmp_path / 'steady.gguf', STEADY)}"


def orchestrator(data: Path, log: Path, port: str = "0") -> AbstractAsyncContextManager[Role]:
    """Run an orchestrator that keeps its state in *data*."""
    return role("orchestrator", "--port", port, "--data-dir", str(data), log=log)


async def finished(system: Role, job_id: str, seen: list[Event]) -> AsyncIterator[Event]:
    """Follow a job to its end, over broken connections; keep what comes in *seen*."""
    async for event in system.follow(job_id):
        seen.append(event)
        yield event


async def refusal(system: Role, **task: object) -> str | None:
    """Submit; return the code of the refusal, None when there was none."""
    try:
        await system.submit(**task)
    except RemoteError as error:
        return error.code
    return None


def sound(database: Path) -> bool:
    """Tell whether SQLite finds nothing wrong."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        return bool(db.execute("PRAGMA integrity_check").fetchone() == ("ok",))


async def test_a_full_disk_refuses_new_jobs_and_costs_those_it_has_nothing(tmp_path: Path, steady: str) -> None:
    task = {"model": steady, "prompt": "one two three", "max_tokens": 150, "temperature": 0}
    log = tmp_path / "orchestrator.log"
    with disks.small(tmp_path / "disk", 4) as disk:
        async with orchestrator(disk, log) as system, pool_role(tmp_path, system.url):
            undisturbed = text_of(await system.events((await system.submit(**task)).job_id))
            job = await system.submit(**task)
            accepted: list[str] = []
            codes: list[str] = []
            seen: list[Event] = []
            filler: Path | None = None
            async for event in finished(system, job.job_id, seen):
                if event.id == "20.0":
                    filler = disks.fill(disk)
                    while not codes:
                        try:
                            accepted.append((await system.submit(**{**task, "max_tokens": 1})).job_id)
                        except RemoteError as error:
                            codes.append(f"{error.status} {error.code}")
                elif event.id == "100.0":
                    assert filler is not None
                    filler.unlink()

                    async def accepts() -> bool:
                        return await refusal(system, **{**task, "max_tokens": 1}) is None

                    await until(accepts)
            others = [await system.events(job_id) for job_id in accepted]
            alive = system.process.returncode is None
            done = await system.task(job.job_id)
        assert sound(disk / "orchestrator.db")

    assert codes == ["507 DISK_FULL"]
    assert text_of(seen) == undisturbed
    assert (seen[-1].kind, done.status, done.attempts) == ("end", "completed", 1)
    assert [events[-1].kind for events in others] == ["end"] * len(others)
    assert alive
    assert "Traceback" not in log.read_text()


async def test_a_disk_that_turns_read_only_stops_new_jobs_and_a_repair_loses_none(tmp_path: Path, steady: str) -> None:
    task = {"model": steady, "prompt": "one two three", "max_tokens": 150, "temperature": 0}
    log = tmp_path / "orchestrator.log"
    disk = disks.FailingDisk(tmp_path / "disk.img", tmp_path / "disk")
    try:
        async with orchestrator(disk.folder, log) as first, pool_role(tmp_path, first.url):
            undisturbed = text_of(await first.events((await first.submit(**task)).job_id))
            job = await first.submit(**task)
            port = first.url.rpartition(":")[2]
            before: list[Event] = []
            code = None
            async for event in finished(first, job.job_id, before):
                if event.id == "20.0":
                    disk.fail()
                    code = await refusal(first, **task)
                elif event.id == "60.0":
                    break
            alive = first.process.returncode is None
            await first.stop(signal.SIGKILL)
            disk.repair()
            async with orchestrator(disk.folder, log, port) as second:
                after = [event async for event in second.follow(job.job_id, before[-1].id)]
                whole = await second.events(job.job_id)
            assert sound(disk.folder / "orchestrator.db")
    finally:
        with suppress(OSError, ValueError):
            disk.unmount()

    assert code == "DISK_FULL"  # SQLite sees an input/output error: the disk is full or fails
    assert alive
    assert after[-1].kind == "end"
    tokens = [event for event in [*before, *after] if event.kind == "token"]
    assert text_of(tokens) == text_of(whole) == undisturbed
    assert "Traceback" not in log.read_text()


async def test_a_read_only_data_directory_is_refused_at_the_start_and_left_as_it_is(tmp_path: Path) -> None:
    with disks.small(tmp_path / "disk", 4) as disk:
        async with orchestrator(disk, tmp_path / "log") as system:
            job = await system.submit(model="haiku", prompt="x")
        before = {path.name: path.read_bytes() for path in disk.rglob("*") if path.is_file()}

        disks.read_only(disk, on=True)
        refused = await run("serve", "orchestrator", "--port", "0", "--data-dir", str(disk))
        left = {path.name: path.read_bytes() for path in disk.rglob("*") if path.is_file()}
        disks.read_only(disk, on=False)
        async with orchestrator(disk, tmp_path / "log") as system:
            found = await system.task(job.job_id)

    assert refused.status != 0
    assert refused.stderr.count("\n") == 1
    assert "Read-only file system" in refused.stderr
    assert left == before
    assert found.status == "queued"


@pytest.mark.parametrize("damage", ["garbage", "truncated", "middle"])
async def test_a_damaged_database_is_refused_with_what_to_do_and_left_as_it_is(tmp_path: Path, damage: str) -> None:
    data = tmp_path / "data"
    async with orchestrator(data, tmp_path / "log") as system:
        for _ in range(30):
            await system.submit(model="haiku", prompt="x" * 2_000)
    file = data / "orchestrator.db"
    whole = file.read_bytes()
    broken = {
        "garbage": os.urandom(len(whole)),
        "truncated": whole[: len(whole) // 2],
        "middle": whole[:8192] + os.urandom(8192) + whole[16384:],
    }[damage]
    file.write_bytes(broken)

    refused = await run("serve", "orchestrator", "--port", "0", "--data-dir", str(data))

    assert refused.status != 0
    assert refused.stderr.count("\n") == 1, refused.stderr
    assert "llorch dev backup" in refused.stderr
    assert file.read_bytes() == broken
    file.write_bytes(whole)
    async with orchestrator(data, tmp_path / "log") as system:
        listed = await system.client.send("GET", "/v2/tasks?limit=200", dict)
    assert len(listed["tasks"]) == 30


async def test_a_database_that_another_process_holds_locked_stops_new_jobs_until_it_is_free(
    tmp_path: Path, steady: str
) -> None:
    task = {"model": steady, "prompt": "one two three", "max_tokens": 150, "temperature": 0}
    data = tmp_path / "data"
    async with orchestrator(data, tmp_path / "log") as system, pool_role(tmp_path, system.url):
        undisturbed = text_of(await system.events((await system.submit(**task)).job_id))
        job = await system.submit(**task)
        seen: list[Event] = []
        code = None
        async for event in finished(system, job.job_id, seen):
            if event.id == "20.0":
                with closing(sqlite3.connect(data / "orchestrator.db", isolation_level=None)) as holder:
                    holder.execute("BEGIN IMMEDIATE")
                    code = await refusal(system, **task)
                    holder.execute("ROLLBACK")

        async def accepts() -> bool:
            return await refusal(system, **{**task, "max_tokens": 1}) is None

        await until(accepts)
        done = await system.task(job.job_id)

    assert code == "STORAGE_UNAVAILABLE"
    assert text_of(seen) == undisturbed
    assert (seen[-1].kind, done.status, done.attempts) == ("end", "completed", 1)
    assert json.loads(seen[-1].data)["tokens_out"] == 150
