"""Everything breaks at random, and no promise does: each accepted job is done once, each reader sees one whole text.

`LLORCH_CHAOS_SEED` chooses another plan (`random` draws one), `LLORCH_CHAOS_S` says for how many seconds things break,
`LLORCH_CHAOS_JOBS` how many jobs there are.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.chaos import Town, town
from tests.e2e.clients import Clients, reference_key
from tests.e2e.processes import until
from tests.support import models
from tests.support.auditor import OnDisk, Reference, audit, reference_of, text_of
from tests.support.plans import STOPS, FaultPlan, Plan, draw
from tests.support.transcripts import Habits, Transcript, follow

SECONDS = float(os.environ.get("LLORCH_CHAOS_S", "25"))
JOBS = int(os.environ.get("LLORCH_CHAOS_JOBS", "200"))
CHOSEN = os.environ.get("LLORCH_CHAOS_SEED", "1")
SEED = random.getrandbits(32) if CHOSEN == "random" else int(CHOSEN)
SETTLE_S = 240.0
STEADY = models.Shape(n_embd=320, n_layer=6, n_head=5, n_ff=864, ctx=512)
"""Some milliseconds a token on one thread: jobs last long enough to be hit."""
LIKELIEST = {"logprobs": True, "top_logprobs": 2}


async def _read(http: aiohttp.ClientSession, job_id: str, reader: str) -> Transcript:
    transcript = Transcript(job_id, reader)
    await follow(http, transcript, Habits(), random.Random(0))
    return transcript


async def _submit(http: aiohttp.ClientSession, body: dict[str, object]) -> str:
    async with http.post("/v2/tasks", json=body) as response:
        assert response.status == 202, await response.text()
        return str((await response.json())["job_id"])


async def _references(url: str, plan: Plan) -> dict[str, Reference]:
    """Run every job that has one right text undisturbed; return the texts."""
    texts = {}
    held = max(map(len, STOPS)) - 1
    async with aiohttp.ClientSession(url) as http:
        for key, body in {reference_key(job): job.plain for job in plan.jobs if job.exact}.items():
            transcript = await _read(http, await _submit(http, body | LIKELIEST), "reference")
            assert transcript.events[-1].kind == "end", transcript.events[-1]
            texts[key] = reference_of(transcript.events, held=held)
    return texts


async def _break(place: Town, faults: list[FaultPlan]) -> None:
    begun_s = asyncio.get_running_loop().time()
    for fault in faults:
        await asyncio.sleep(max(0.0, begun_s + fault.at_s - asyncio.get_running_loop().time()))
        await place.break_something(fault)


async def _slots_free(place: Town) -> bool | None:
    for pool in place.pools:
        for worker in await place.workers(pool):
            if worker.status in {"ready", "busy"} and isinstance(worker.uri, str):
                async with aiohttp.ClientSession() as http, http.get(f"{worker.uri}/health") as response:
                    if (await response.json())["slots_busy"]:
                        return None
    return True


async def _run(place: Town, plan: Plan, clients: Clients) -> list[Transcript]:
    """Carry the plan out; return what readers see who come when all is over."""
    try:
        async with asyncio.timeout(SECONDS + SETTLE_S), asyncio.TaskGroup() as tasks:
            upkeep = tasks.create_task(place.keep_workers())
            async with asyncio.TaskGroup() as used:
                used.create_task(_break(place, plan.faults))
                for job in plan.jobs:
                    used.create_task(clients.use(job))
            await until(place.ready, 60)
            upkeep.cancel()
    except TimeoutError:
        raise AssertionError("\n".join(["not done in time", *clients.unfinished(), str(place.counts)])) from None
    await place.orchestrator.kill()
    await place.orchestrator.start()
    async with aiohttp.ClientSession(place.orchestrator.url) as http, asyncio.TaskGroup() as tasks:
        late = [tasks.create_task(_read(http, job_id, "late reader")) for job_id in clients.jobs]
    return [task.result() for task in late]


async def _still_serves(place: Town, plan: Plan, references: dict[str, Reference]) -> None:
    """Every slot is free again, and as many jobs as there are slots run at once and say what they should."""
    await until(lambda: _slots_free(place), 90)
    exact = next(job for job in plan.jobs if job.exact and job.body["model"] == place.model_ref)
    async with aiohttp.ClientSession(place.orchestrator.url) as http:
        ids = [await _submit(http, exact.plain) for _ in range(6)]
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            readers = [tasks.create_task(_read(http, job_id, "fresh")) for job_id in ids]
    texts = {text_of(reader.result().events) for reader in readers}
    assert texts == {references[reference_key(exact)].text}


def _database(file: Path) -> tuple[dict[str, OnDisk], list[str]]:
    db = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    db.row_factory = sqlite3.Row
    found: dict[str, OnDisk] = {}
    try:
        problems = [str(row[0]) for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
        for row in db.execute("SELECT * FROM jobs").fetchall():
            seq = (row["seq"],)
            attempts = db.execute("SELECT * FROM attempts WHERE job_seq = ? ORDER BY number", seq).fetchall()
            output = db.execute("SELECT first, count, events FROM output WHERE job_seq = ? ORDER BY first", seq)
            found[row["id"]] = OnDisk(
                row=dict(row), attempts=[dict(a) for a in attempts], output=[tuple(o) for o in output.fetchall()]
            )
        keys = db.execute("SELECT count(*), count(DISTINCT idempotency_key) FROM jobs WHERE idempotency_key NOT NULL")
        jobs, distinct = keys.fetchone()
        problems += [f"{jobs} jobs for {distinct} idempotency keys"] * (jobs != distinct)
    finally:
        db.close()
    return found, problems


def _tracebacks(folder: Path) -> list[str]:
    logs = [*folder.glob("*.log"), *folder.glob("pool-*/**/*.log")]
    return [f"{log.name}: a traceback" for log in logs if "Traceback" in log.read_text("utf-8", "replace")]


def _report(place: Town, clients: Clients, disk: dict[str, OnDisk]) -> None:
    outcomes = Counter(str(a["outcome"]) for job in disk.values() for a in job.attempts)
    ends = Counter(str(job.row["error_code"] or job.row["state"]) for job in disk.values())
    events = sum(len(t.events) for job in clients.jobs.values() for t in job.transcripts)
    cut = {"ends of client connections cut": place.front.broken, "of worker connections": place.gateway.cuts}
    print(f"\nbroken     {dict(place.counts)} {cut}")
    print(f"clients    {dict(clients.counts)}, events read {events}")
    print(f"attempts   {dict(outcomes)}")
    print(f"jobs ended {dict(ends)}")


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + SETTLE_S + 400)
async def test_whatever_breaks_each_accepted_job_is_done_once_and_each_reader_sees_one_whole_text(
    tmp_path: Path,
) -> None:
    print(f"LLORCH_CHAOS_SEED={SEED} LLORCH_CHAOS_S={SECONDS:g} LLORCH_CHAOS_JOBS={JOBS}")
    steady = models.make(tmp_path / "steady.gguf", STEADY)
    plan = draw(SEED, seconds=SECONDS, jobs=JOBS, models=[("haiku", 40), (f"file:{steady}", 80)])

    async with town(tmp_path, f"file:{steady}") as place:
        references = await _references(place.orchestrator.url, plan)
        clients = Clients(place.front.url, references)
        late = await _run(place, plan, clients)
        await _still_serves(place, plan, references)
        statuses = await place.stop()
        disk, broken = _database(tmp_path / "orchestrator" / "orchestrator.db")
        _report(place, clients, disk)
        orphans = [f"left behind: {part} {process.pid}" for process, part in place.alive()]

    for transcript in late:
        clients.jobs[transcript.job_id].transcripts.append(transcript)
    problems = [problem for job in clients.jobs.values() for problem in audit(job, disk.get(job.job_id))]
    ended = [
        f"{role.arguments[0]} ended by itself: {role.ends}" for role in [place.orchestrator, *place.pools] if role.ends
    ]
    found = [*clients.problems, *problems, *broken, *orphans, *ended, *_tracebacks(tmp_path)]
    print("\n".join(["problems", *found]))
    assert found == []
    assert len(clients.jobs) == JOBS
    assert set(statuses.values()) == {0}
