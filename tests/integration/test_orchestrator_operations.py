"""What operators ask of a real orchestrator: the queue at a glance, and purging, while it works."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from llorch.wire.operations import Overview, Purged
from llorch.wire.tasks import CancelReply
from roles.orchestrator.app import DATABASE
from roles.orchestrator.clock import now_ms
from tests.integration.test_orchestrator_api import refused
from tests.integration.test_store import rows
from tests.support.orchestrating import ScriptedWorker, System, both, orchestrator
from tests.support.scripts import until_cancelled
from tests.support.storing import new_job, opened


async def overview(system: System, query: str = "") -> Overview:
    return await system.client.send("GET", f"/v2/queue{query}", Overview)


async def purge(system: System, **wanted: object) -> Purged:
    return await system.client.send("POST", "/v2/tasks/purge", Purged, body=wanted)


def shown(found: Overview) -> list[tuple[str, str]]:
    return [(job.job_id, job.status) for job in found.jobs]


async def test_the_overview_shows_what_runs_what_waits_and_what_has_ended(tmp_path: Path) -> None:
    worker = ScriptedWorker(until_cancelled, slots=1)
    async with both(tmp_path, worker) as system:
        running = await system.submit(max_tokens=9)
        await system.reached(running.job_id, "running")
        batch = await system.submit(priority="batch")
        waiting = [await system.submit(session_id="s") for _ in range(3)]
        everything = await overview(system)
        first = await overview(system, "?limit=1")
        await system.client.send("DELETE", f"/v2/tasks/{waiting[0].job_id}", CancelReply)
        later = await overview(system, f"?finished_since_ms={everything.time_ms}")

    assert shown(everything) == [
        (running.job_id, "running"),
        *((job.job_id, "queued") for job in [*waiting, batch]),
    ]
    assert (everything.waiting, everything.running) == ({"interactive": 3, "batch": 1}, 1)
    assert [job.queue_position for job in everything.jobs[1:]] == [0, 1, 2, 3]
    assert shown(first) == shown(everything)[:2]
    assert (first.waiting, first.running) == (everything.waiting, 1)
    assert shown(later)[-1] == (waiting[0].job_id, "cancelled")
    assert later.jobs[-1].error_code == "CANCELLED"


@pytest.mark.parametrize("query", ["?limit=0", "?limit=201", "?limit=x", "?finished_since_ms=-1", "?nonsense=1"])
async def test_an_overview_that_cannot_be_understood_is_refused(query: str, tmp_path: Path) -> None:
    async with orchestrator(tmp_path) as system:
        error = await refused(system.client, "GET", f"/v2/queue{query}")

    assert (error.status, error.code) == (400, "INVALID_REQUEST")


async def test_a_purge_erases_what_has_ended_and_nothing_else(tmp_path: Path) -> None:
    async with both(tmp_path, ScriptedWorker()) as system:
        done = [await system.submit(max_tokens=2) for _ in range(3)]
        for job in done:
            await system.reached(job.job_id, "completed")
        system.advance(60_000)
        waiting = await system.submit(model="file:/models/another.gguf")
        counted = await purge(system, older_than_ms=30_000, dry_run=True)
        kept = rows(tmp_path / DATABASE, "SELECT count(*) FROM jobs")
        texts = await purge(system, older_than_ms=30_000, outputs_only=True)
        others = await purge(system, older_than_ms=0, statuses=["failed", "cancelled"])
        erased = await purge(system, older_than_ms=0, statuses=["completed"])
        again = await purge(system, older_than_ms=0)
        left = rows(tmp_path / DATABASE, "SELECT id, state FROM jobs")

    assert counted == Purged(jobs={"completed": 3}, outputs=3)
    assert kept == [(4,)]
    assert texts == Purged(jobs={"completed": 3}, outputs=3)
    assert erased == Purged(jobs={"completed": 3}, outputs=0)
    assert others == again == Purged(jobs={}, outputs=0)
    assert left == [(waiting.job_id, "queued")]


async def test_nothing_of_a_purged_text_is_left_in_the_files(tmp_path: Path) -> None:
    async with both(tmp_path, ScriptedWorker()) as system:
        job = await system.submit(prompt="a word that is nowhere else", max_tokens=2)
        await system.reached(job.job_id, "completed")
        before = _bytes_in(tmp_path)
        await purge(system, older_than_ms=0, outputs_only=True)
        after = _bytes_in(tmp_path)

    assert b"nowhere else" in before
    assert b"nowhere else" not in after


async def test_submissions_are_accepted_while_many_jobs_are_purged(tmp_path: Path) -> None:
    async with opened(tmp_path / DATABASE) as store:
        ended = [store.enqueue(new_job(number)) for number in range(1, 5_001)]
        await asyncio.wait(ended)
        ends = ("UPDATE jobs SET state = 'failed', finished_ms = ? + seq", (now_ms() - 60_000,))
        await store.writer.write(lambda db: db.execute(*ends))

    accepted = 0
    async with orchestrator(tmp_path) as system, asyncio.TaskGroup() as tasks:
        purging = tasks.create_task(purge(system, older_than_ms=1))
        while not purging.done():
            await system.submit()
            accepted += 1
        left = rows(tmp_path / DATABASE, "SELECT count(*) FROM jobs WHERE finished_ms IS NOT NULL")

    assert purging.result() == Purged(jobs={"failed": 5_000}, outputs=0)
    assert left == [(0,)]
    assert accepted > 2


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"older_than_ms": -1},
        {"older_than_ms": 1, "statuses": ["running"]},
        {"older_than_ms": 1, "statuses": []},
        {"older_than_ms": 1, "everything": True},
    ],
    ids=str,
)
async def test_a_purge_that_cannot_be_understood_is_refused_and_erases_nothing(
    wanted: dict[str, object], tmp_path: Path
) -> None:
    async with orchestrator(tmp_path) as system:
        job = await system.submit()
        await system.client.send("DELETE", f"/v2/tasks/{job.job_id}", CancelReply)
        error = await refused(system.client, "POST", "/v2/tasks/purge", body=wanted)
        left = await system.show(job.job_id)

    assert (error.status, error.code) == (400, "INVALID_REQUEST")
    assert left.status == "cancelled"


def _bytes_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file())
