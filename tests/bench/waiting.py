"""Measures a queue of 1 000 waiting jobs next to one of 1 000 000: python -m tests.bench.waiting [JOBS …].

The jobs are written with the store itself, because a client would take a quarter of an hour for a million. All else is
a client's view of a real orchestrator that is started on that database: how long the start takes, memory, submissions,
a page of the list, a position, a cancellation, and how fast jobs are given out to a worker that costs nothing. At the
end, the queue's own operations, in process.
"""

from __future__ import annotations

import asyncio
import platform
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import uvloop

from llorch.client import Client
from llorch.job import JobId
from llorch.wire.codec import encode
from llorch.wire.tasks import CancelReply, SubmitTask, Task, TaskPage
from roles.orchestrator.app import DATABASE
from roles.orchestrator.queue.order import JobQueue, Ticket
from tests.bench.load import submissions
from tests.bench.roles import Process, llorch, script
from tests.bench.source import REF
from tests.support.storing import new_job, opened

SIZES = (1_000, 1_000_000)
BATCH = 20_000
ASKED = 200
SERVED_S = 8.0
FAR_MS = 2**52


def _show(size: int, name: str, value: str) -> None:
    print(f"{size:>9,} waiting: {name:<52} {value}", flush=True)


def _ms(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    return f"p50 {ordered[len(ordered) // 2] * 1e3:.2f} ms, p99 {ordered[int(len(ordered) * 0.99)] * 1e3:.2f} ms"


async def _write(path: Path, size: int) -> float:
    """Put jobs on disk; return the seconds it took."""
    before = time.perf_counter()
    body = encode(SubmitTask(model=REF, prompt="Write a haiku about rain", max_tokens=8, seed=1))
    now_ms = time.time_ns() // 1_000_000
    async with opened(path) as store:
        for first in range(1, size + 1, BATCH):
            asked = [
                store.enqueue(
                    new_job(
                        seq, model=REF, model_ref=REF, request=body, session_id=f"s{seq % 100}", priority="batch",
                        tag=seq // 100, submitted_ms=now_ms, deadline_ms=now_ms + 30 * 86_400_000,
                    )
                )
                for seq in range(first, min(first + BATCH, size + 1))
            ]  # fmt: skip
            await asyncio.wait(asked)
    return time.perf_counter() - before


async def _times(ask: Callable[[int], Awaitable[object]], numbers: list[int]) -> list[float]:
    taken = []
    for number in numbers:
        before = time.perf_counter()
        await ask(number)
        taken.append(time.perf_counter() - before)
    return taken


async def _asked(role: Process, size: int) -> None:
    """Measure what single requests take."""
    chosen = random.Random(0).sample(range(1, size + 1), ASKED)
    async with Client(role.url) as client:
        page = await _times(lambda _: client.send("GET", "/v2/tasks?limit=50", TaskPage), chosen)
        deep = await _times(lambda n: client.send("GET", f"/v2/tasks?limit=50&cursor={n}", TaskPage), chosen)
        show = await _times(lambda n: client.send("GET", f"/v2/tasks/job-{n}", Task), chosen)
        gone = await _times(lambda n: client.send("DELETE", f"/v2/tasks/job-{n}", CancelReply), chosen)
    _show(size, "newest page of the list", _ms(page))
    _show(size, "some page of the list", _ms(deep))
    _show(size, "one job with its position", _ms(show))
    _show(size, "a cancellation, on disk", _ms(gone))


async def _done(client: Client) -> int:
    async with client.request("GET", "/metrics") as response:
        text = await response.text()
    lines = [line for line in text.splitlines() if line.startswith('orchd_tasks_dispatched_total{outcome="completed"}')]
    return int(float(lines[0].split()[1])) if lines else 0


async def _served(role: Process, size: int) -> None:
    """Measure how fast jobs are given out: to 256 slots that end each job at once."""
    with script("source", "8", role.url):
        async with Client(role.url) as client:
            while not await _done(client):
                await asyncio.sleep(0.01)
            first, before = await _done(client), time.perf_counter()
            last, now = first, before
            while now - before < SERVED_S and last < size * 0.7:
                await asyncio.sleep(0.05)
                last, now = await _done(client), time.perf_counter()
            async with client.request("GET", "/metrics") as response:
                text = await response.text()
    _show(size, "jobs dispatched, run and settled", f"{(last - first) / (now - before):,.0f} /s")
    count, total = (
        float(
            next(line.split()[1] for line in text.splitlines() if line.startswith(f"orchd_scheduling_latency_ms_{of}"))
        )
        for of in ("count", "sum")
    )
    _show(size, "one scheduling decision, mean", f"{total / count:.3f} ms")


def _order(size: int) -> None:
    """Measure the queue's own operations in this process."""
    queue = JobQueue()
    before = time.perf_counter()
    for seq in range(size):
        session = f"s{seq % 100}"
        queue.add(
            Ticket(
                id=JobId(f"j{seq}"), seq=seq, model_ref=REF, session_id=session, priority="batch", submitted_ms=0,
                tag=queue.next_tag("batch", session, model_ref=REF), deadline_ms=FAR_MS, correlation_id="c",
            )
        )  # fmt: skip
    _show(size, "in process: add one", f"{(time.perf_counter() - before) / size * 1e6:.1f} µs")
    chosen = [JobId(f"j{number}") for number in random.Random(0).sample(range(size), ASKED)]
    for name, ask in (
        ("position of one", queue.position),
        ("take the first out", lambda _: queue.take(queue.heads(REF, 1)[0].id)),
        ("remove any", queue.remove),
    ):
        before = time.perf_counter()
        for job_id in chosen:
            ask(job_id)
        _show(size, f"in process: {name}", f"{(time.perf_counter() - before) / ASKED * 1e6:.1f} µs")


def _measure(size: int) -> None:
    with tempfile.TemporaryDirectory() as data:
        seconds = uvloop.run(_write(Path(data) / DATABASE, size))
        _show(size, "written with the store", f"{size / seconds:,.0f} /s")
        _show(size, "database", f"{(Path(data) / DATABASE).stat().st_size / 1e6:,.0f} MB")
        env = {"LLORCH_ORCHESTRATOR_QUEUE_CAPACITY": "-1"}
        before = time.perf_counter()
        with llorch("serve", "orchestrator", "--port", "0", "--data-dir", data, env=env) as role:
            _show(size, "start to the ready line", f"{time.perf_counter() - before:.2f} s")
            _show(size, "memory of the orchestrator", f"{role.memory_mb():.0f} MB")
            latencies = uvloop.run(submissions(role.port, connections=64, seconds=4, model=REF))
            _show(size, "durable submissions, 64 connections", f"{len(latencies) / 4:,.0f} /s ({_ms(latencies)})")
            uvloop.run(_asked(role, size))
            uvloop.run(_served(role, size))
    _order(size)


def main() -> None:
    """Run all measurements and print them."""
    print(f"machine: {platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}", flush=True)
    for size in [int(size) for size in sys.argv[1:]] or SIZES:
        _measure(size)


if __name__ == "__main__":
    main()
