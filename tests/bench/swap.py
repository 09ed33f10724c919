"""What it costs when two models share memory for one: python -m tests.bench.swap.

Requests for both in turn, 10 and 100 of them in flight, next to the best order there is: all of the first model, then
all of the second, with as many in flight. Prints both times, the ratio, and how often a model was loaded.
"""

from __future__ import annotations

import asyncio
import json
import platform
import tempfile
import time
from pathlib import Path

import psutil
import uvloop

from llorch.client import Client
from llorch.wire.decisions import DecisionList
from tests.bench.load import stream
from tests.bench.roles import Process, llorch
from tests.support import models

SHAPE = models.Shape(n_embd=384, n_layer=6, n_head=6, n_ff=1024, ctx=256)
ROOM_BYTES = 106 * 2**20
"""One of the two fits."""
JOBS = 200
TOKENS = 32
SLOTS = 4


async def _serve(port: int, refs: list[str], *, in_flight: int) -> float:
    """Send a job for each reference, so many at a time; return the seconds for all."""
    waiting = iter(refs)
    before = time.perf_counter()

    async def client() -> None:
        for ref in waiting:
            body = {"model": ref, "prompt": "one two", "max_tokens": TOKENS, "temperature": 0, "timeout_ms": 1_800_000}
            seen = await stream(port, "/v2/tasks", json.dumps(body).encode(), b"event: token")
            assert seen.ended, seen

    async with asyncio.TaskGroup() as tasks:
        for _ in range(in_flight):
            tasks.create_task(client())
    return time.perf_counter() - before


async def _loads(url: str, *, since_ms: int) -> int:
    async with Client(url) as client:
        found = await client.send("GET", "/v2/decisions", DecisionList, params={"limit": "512"})
    lines = [line for summary in found.decisions if summary.time_ms >= since_ms for line in summary.decisions]
    return sum(line.kind == "start_worker" for line in lines)


def _measure(whole: Process, first: str, second: str, in_flight: int) -> None:
    uvloop.run(_serve(whole.port, [first], in_flight=1))
    ideal_s = uvloop.run(_serve(whole.port, [first] * (JOBS // 2) + [second] * (JOBS // 2), in_flight=in_flight))
    uvloop.run(_serve(whole.port, [first], in_flight=1))
    since_ms = time.time_ns() // 1_000_000
    mixed_s = uvloop.run(_serve(whole.port, [first, second] * (JOBS // 2), in_flight=in_flight))
    loads = uvloop.run(_loads(whole.url, since_ms=since_ms))
    print(
        f"{JOBS} jobs of {TOKENS} tokens, {in_flight} in flight: in turn {mixed_s:.1f} s with {loads} loads, "
        f"one model after the other {ideal_s:.1f} s, ratio {mixed_s / ideal_s:.2f}",
        flush=True,
    )


def main() -> None:
    """Make the two models, measure, print."""
    print(f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "first.gguf", Path(folder) / "second.gguf"
        models.make(first, SHAPE)
        second.hardlink_to(first)
        env = {
            "LLORCH_POOL_MODELS_DIR": folder,
            "LLORCH_POOL_MEMORY_LIMIT_BYTES": str(ROOM_BYTES),
            "LLORCH_WORKER_SLOTS": str(SLOTS),
            "LLORCH_WORKER_THREADS": "1",
        }
        arguments = ("--port", "0", "--pool-port", "0", "--data-dir", f"{folder}/data")
        with llorch("serve", "all", *arguments, env=env) as whole:
            for in_flight in (10, 100):
                _measure(whole, f"file:{first}", f"file:{second}", in_flight)


if __name__ == "__main__":
    main()
