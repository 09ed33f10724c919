"""What it is worth to go on where a conversation's beginning was computed: python -m tests.bench.affinity [MODEL].

Two workers with four slots each, and six conversations at once: each begins with a text of its own, and its turns come
with their whole history, as clients of chat APIs send it, after a time to think. With `prefix_affinity` and without it,
the same in both. Prints how long the first token of later turns took, which part of their prompts was not computed anew
and how many turns went to the worker of the turn before. Without MODEL, one of 26 M random parameters is made.
"""

from __future__ import annotations

import asyncio
import json
import platform
import random
import statistics
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import gguf
import psutil
import uvloop

from llorch.client import Client
from llorch.wire.pools import PoolList, Spawned, SpawnWorker
from llorch.wire.tasks import Accepted, Task
from tests.bench.roles import llorch
from tests.support import models

SHAPE = models.Shape(n_embd=512, n_layer=8, n_head=8, n_ff=1408, ctx=2048)
CONVERSATIONS = 6
TURNS = 4
ROUNDS = 2
OPENING_WORDS = 150
TOKENS = 16
WORKERS = 2
SLOTS = 4
CTX = 2048
THINK_S = 2.0
POLL_S = 0.1


async def _ask(client: Client, ref: str, said: list[dict[str, str]]) -> tuple[Task, str]:
    """Send a conversation; return the job once it has ended, and the answer."""
    body = {"model": ref, "messages": said, "max_tokens": TOKENS, "temperature": 0, "timeout_ms": 1_800_000}
    accepted = await client.send("POST", "/v2/tasks", Accepted, body=body)
    tokens = [json.loads(event.data) async for event in client.follow(accepted.events_url) if event.kind == "token"]
    return await client.send("GET", f"/v2/tasks/{accepted.job_id}", Task), "".join(token["t"] for token in tokens)


async def _converse(client: Client, ref: str, chance: random.Random) -> list[Task]:
    """Hold one conversation; return its jobs."""
    opening = " ".join(
        f"{chance.choice(models.SYLLABLES)}{chance.choice(models.SYLLABLES)}" for _ in range(OPENING_WORDS)
    )
    said = [{"role": "system", "content": opening}]
    tasks = []
    for turn in range(TURNS):
        await asyncio.sleep(chance.uniform(0, THINK_S))
        said.append({"role": "user", "content": f"{turn} ba be bi"})
        task, answer = await _ask(client, ref, said)
        said.append({"role": "assistant", "content": answer})
        tasks.append(task)
    return tasks


async def _workers(client: Client, ref: str) -> None:
    """Start the workers and wait for them."""
    while not (pools := (await client.send("GET", "/v2/pools", PoolList)).pools):
        await asyncio.sleep(POLL_S)
    for _ in range(WORKERS):
        path = f"/v2/pools/{pools[0].pool_id}/workers/spawn"
        await client.send("POST", path, Spawned, body=SpawnWorker(model_ref=ref, slots=SLOTS, ctx=CTX))
    while sum(worker.status == "ready" for worker in pools[0].workers) < WORKERS:
        await asyncio.sleep(POLL_S)
        pools = (await client.send("GET", "/v2/pools", PoolList)).pools


async def _measure(url: str, ref: str, seed: int) -> list[list[Task]]:
    """Hold all conversations; return the jobs of each."""
    async with Client(url) as client:
        await _workers(client, ref)
        await _converse(client, ref, random.Random(f"warm {seed}"))
        async with asyncio.TaskGroup() as group:
            talks = [
                group.create_task(_converse(client, ref, random.Random(f"{seed} {number}")))
                for number in range(CONVERSATIONS)
            ]
        return [talk.result() for talk in talks]


def _report(name: str, talks: list[list[Task]]) -> None:
    later = [task for talk in talks for task in talk[1:]]
    first_ms = sorted(int(task.timings.first_token_ms or 0) - task.timings.submitted_ms for task in later)
    cached = sum(int(task.tokens_cached or 0) for task in later) / sum(int(task.tokens_in or 0) for task in later)
    same = sum(a.worker_id == b.worker_id for talk in talks for a, b in pairwise(talk)) / len(later)
    print(
        f"{name}: {len(later)} later turns, first token p50 {statistics.median(first_ms):.0f} ms, "
        f"p90 {first_ms[len(first_ms) * 9 // 10]} ms; {cached:.0%} of the prompt tokens reused, "
        f"{same:.0%} at the same worker",
        flush=True,
    )


def _run(folder: str, ref: str, seed: int, *, affinity: bool) -> list[list[Task]]:
    env = {"LLORCH_ORCHESTRATOR_PREFIX_AFFINITY": str(affinity).lower(), "LLORCH_WORKER_THREADS": "1"}
    data = f"{folder}/data {seed} {affinity}"
    with llorch("serve", "all", "--port", "0", "--pool-port", "0", "--data-dir", data, env=env) as whole:
        return uvloop.run(_measure(whole.url, ref, seed))


def main() -> None:
    """Make a model if none is given, measure, print."""
    print(f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(sys.argv[1] if len(sys.argv) > 1 else f"{folder}/random.gguf").resolve()
        if not model.exists():
            models.make(model, SHAPE, quant=gguf.GGMLQuantizationType.Q4_0)
        found: dict[bool, list[list[Task]]] = {True: [], False: []}
        for seed in range(ROUNDS):
            for affinity in (True, False):
                found[affinity] += _run(folder, f"file:{model}", seed, affinity=affinity)
            for affinity, name in ((False, "without affinity"), (True, "with affinity")):
                _report(name, found[affinity])


if __name__ == "__main__":
    main()
