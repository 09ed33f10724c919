"""What it is worth to go on where a conversation's beginning was computed: python -m tests.bench.affinity [MODEL].

Two workers with four slots each, and six conversations at once: each begins with a text of its own, and its turns come
with their whole history, as clients of chat APIs send it, after a time to think. With `prefix_affinity` and without it,
the same in both. Prints how long the first token of later turns took, which part of their prompts was not computed anew
and how many turns went to the worker of the turn before. The same for ten questions about one document that has been
asked about before, one soon after the other. Without MODEL, one of 26 M random parameters is made.
"""

from __future__ import annotations

import asyncio
import json
import platform
import random
import statistics
import sys
import tempfile
from dataclasses import dataclass
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
DOCUMENT_WORDS = 250
QUESTIONS = 10
BETWEEN_S = 0.4
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Found:
    """The jobs of each conversation, and those of the questions."""

    talks: list[list[Task]]
    questions: list[Task]


async def _ask(client: Client, ref: str, said: list[dict[str, str]]) -> tuple[Task, str]:
    """Send a conversation; return the job once it has ended, and the answer."""
    body = {"model": ref, "messages": said, "max_tokens": TOKENS, "temperature": 0, "timeout_ms": 1_800_000}
    accepted = await client.send("POST", "/v2/tasks", Accepted, body=body)
    tokens = [json.loads(event.data) async for event in client.follow(accepted.events_url) if event.kind == "token"]
    return await client.send("GET", f"/v2/tasks/{accepted.job_id}", Task), "".join(token["t"] for token in tokens)


async def _converse(client: Client, ref: str, chance: random.Random) -> list[Task]:
    """Hold one conversation; return its jobs."""
    said = [{"role": "system", "content": _words(chance, OPENING_WORDS)}]
    tasks = []
    for turn in range(TURNS):
        await asyncio.sleep(chance.uniform(0, THINK_S))
        said.append({"role": "user", "content": f"{turn} ba be bi"})
        task, answer = await _ask(client, ref, said)
        said.append({"role": "assistant", "content": answer})
        tasks.append(task)
    return tasks


async def _inquire(client: Client, ref: str, chance: random.Random) -> list[Task]:
    """Ask about a document, once to have it computed, then again and again; return the jobs of those questions."""
    document = {"role": "system", "content": _words(chance, DOCUMENT_WORDS)}

    async def ask(number: int) -> Task:
        await asyncio.sleep(number * BETWEEN_S)
        task, _ = await _ask(client, ref, [document, {"role": "user", "content": f"{number} ba be bi"}])
        return task

    await ask(0)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(ask(number)) for number in range(1, QUESTIONS + 1)]
    return [task.result() for task in asked]


def _words(chance: random.Random, count: int) -> str:
    return " ".join(f"{chance.choice(models.SYLLABLES)}{chance.choice(models.SYLLABLES)}" for _ in range(count))


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


async def _measure(url: str, ref: str, seed: int) -> Found:
    """Hold all conversations, then ask about the document."""
    async with Client(url) as client:
        await _workers(client, ref)
        await _converse(client, ref, random.Random(f"warm {seed}"))
        async with asyncio.TaskGroup() as group:
            talks = [
                group.create_task(_converse(client, ref, random.Random(f"{seed} {number}")))
                for number in range(CONVERSATIONS)
            ]
        return Found([talk.result() for talk in talks], await _inquire(client, ref, random.Random(f"document {seed}")))


def _report(name: str, found: Found) -> None:
    later = [task for talk in found.talks for task in talk[1:]]
    same = sum(a.worker_id == b.worker_id for talk in found.talks for a, b in pairwise(talk)) / len(later)
    print(f"{name}: {_told(later)}, {same:.0%} at the same worker; questions: {_told(found.questions)}", flush=True)


def _told(tasks: list[Task]) -> str:
    first_ms = sorted(int(task.timings.first_token_ms or 0) - task.timings.submitted_ms for task in tasks)
    cached = sum(int(task.tokens_cached or 0) for task in tasks) / sum(int(task.tokens_in or 0) for task in tasks)
    p50, p90 = statistics.median(first_ms), first_ms[len(first_ms) * 9 // 10]
    return f"{len(tasks)} jobs, first token p50 {p50:.0f} ms, p90 {p90} ms, {cached:.0%} of the prompt tokens reused"


def _run(folder: str, ref: str, seed: int, *, affinity: bool) -> Found:
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
        found = {True: Found([], []), False: Found([], [])}
        for seed in range(ROUNDS):
            for affinity in (True, False):
                one = _run(folder, f"file:{model}", seed, affinity=affinity)
                found[affinity].talks.extend(one.talks)
                found[affinity].questions.extend(one.questions)
            for affinity, name in ((False, "without affinity"), (True, "with affinity")):
                _report(name, found[affinity])


if __name__ == "__main__":
    main()
