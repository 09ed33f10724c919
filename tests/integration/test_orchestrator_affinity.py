"""Conversations through HTTP: each goes on where its beginning was computed, or waits for that while it pays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from llorch.wire.codec import encode
from llorch.wire.decisions import DecisionList, DecisionRecord
from llorch.wire.events import WorkerEnd
from llorch.wire.tasks import Accepted, Explanation
from roles.orchestrator.scheduler.journal import Entry, replay
from tests.support.orchestrating import REF, ScriptedWorker, System, orchestrator, scripted
from tests.support.scripts import Call

DOCUMENT = {"role": "system", "content": "It was a dark and stormy night. " * 100}
PREFILL_MS = 5_000
WAITING = "wait for the test"
GONE_ON = ", and had computed"


class Script:
    """Answers with one word, as a worker does that reuses what it has computed."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.read = False

    async def __call__(self, call: Call) -> None:
        """Answer; the first time, reading takes long."""
        await call.started()
        await call.token("yes")
        if WAITING in str(call.body.messages):
            await self.go_on.wait()
        ended = WorkerEnd(
            tokens_in=1_000,
            tokens_out=1,
            stop_reason="eos",
            prefill_ms=10 if self.read else PREFILL_MS,
            decode_ms=100,
            tokens_cached=990 if self.read else 0,
        )
        self.read = True
        await call.send("end", encode(ended))


@asynccontextmanager
async def two_workers(folder: Path, script: Script, *, affinity: bool = True) -> AsyncIterator[System]:
    """Serve an orchestrator and two workers with two slots each; `a` is the one that is taken where both are alike."""
    one, two = (ScriptedWorker(script=script, slots=2, worker_id=name) for name in "ab")
    async with scripted(one), scripted(two), orchestrator(folder, token="", prefix_affinity=affinity) as system:
        await system.register(one, pool_id="one")
        await system.register(two, pool_id="two")
        yield system


async def send(system: System, *messages: dict[str, str]) -> str:
    """Submit a conversation; return the job's id."""
    body = {"model": REF, "messages": messages, "max_tokens": 4}
    return (await system.client.send("POST", "/v2/tasks", Accepted, body=body)).job_id


async def ask(system: System, *said: str) -> str:
    """Send a conversation about the document; return the job's id."""
    turns = [{"role": "assistant" if number % 2 else "user", "content": turn} for number, turn in enumerate(said)]
    return await send(system, DOCUMENT, *turns)


async def explained(system: System, job_id: str) -> Explanation:
    """Return why a job is where it is."""
    return await system.client.send("GET", f"/v2/tasks/{job_id}/explain", Explanation)


async def a_job_that_is_held_back(system: System) -> str:
    """Have the document computed by one worker, whose slot is busy then; return a job that waits for it."""
    for number in range(8):
        await system.reached(await ask(system, f"question {number}"), "completed")
    await system.reached(await ask(system, WAITING), "running")
    held = await ask(system, "and another question")
    async with asyncio.timeout(20):
        while "a busy slot" not in (await explained(system, held)).text:
            pass
    return held


@pytest.mark.parametrize(("affinity", "expected"), [(True, "a"), (False, "b")])
async def test_a_conversation_goes_on_where_it_was_computed_though_another_worker_has_less_to_do(
    tmp_path: Path, expected: str, *, affinity: bool
) -> None:
    script = Script()
    async with two_workers(tmp_path, script, affinity=affinity) as system:
        first = await system.reached(await ask(system, "what?"), "completed")
        again = await system.reached(await ask(system, "why?"), "completed")
        busy = await system.reached(await send(system, {"role": "user", "content": WAITING}), "running")
        second = await system.reached(await ask(system, "what?", "yes", "really?"), "completed")
        why = await explained(system, second.job_id)
        script.go_on.set()
        await system.reached(busy.job_id, "completed")

    assert (first.worker_id, again.worker_id, busy.worker_id) == ("a", "a", "a")
    assert second.worker_id == expected
    assert ("it had computed" in why.text) is affinity


async def test_a_job_waits_for_the_slot_that_has_its_beginning_and_gets_it(tmp_path: Path) -> None:
    script = Script()
    async with two_workers(tmp_path, script) as system:
        job_id = await a_job_that_is_held_back(system)
        waiting = await explained(system, job_id)
        script.go_on.set()
        task = await system.reached(job_id, "completed")
        why = await explained(system, job_id)
        found = await system.client.send("GET", "/v2/decisions", DecisionList, params={"limit": "512"})
        records = [
            await system.client.send("GET", f"/v2/decisions/{each.seq}", DecisionRecord) for each in found.decisions
        ]

    entries = [
        msgspec.convert({"seq": each.seq, "snapshot": each.snapshot, "decisions": each.decisions}, Entry)
        for each in records
    ]
    assert waiting.reason == "slot"
    assert waiting.text.startswith("It waits because a busy slot of worker a of pool one has the beginning")
    assert task.worker_id == "a"
    assert GONE_ON in why.text
    assert [line.about for each in found.decisions for line in each.decisions if line.kind == "hold"] == [
        f"job {job_id}"
    ]
    assert [replay(entry) for entry in entries] == [entry.decisions for entry in entries]


async def test_a_job_does_not_wait_for_its_favourite_for_ever(tmp_path: Path) -> None:
    script = Script()
    async with two_workers(tmp_path, script) as system:
        job_id = await a_job_that_is_held_back(system)
        system.advance(PREFILL_MS)
        task = await system.reached(job_id, "completed")
        script.go_on.set()

    assert task.worker_id == "b"
