"""Jobs for many models at once: the one loop that decides leaves the others their turn."""

from __future__ import annotations

import asyncio
from pathlib import Path

from llorch.errors import InsufficientMemory
from roles.orchestrator.core import Orchestrator
from roles.orchestrator.queue.placement import AT_ONCE
from tests.support.orchestrating import QUIET, ScriptedWorker, orchestrator, scripted

REFS = [f"file:/models/{number}.gguf" for number in range(4 * AT_ONCE)]


async def test_others_have_their_turn_after_every_few_models(tmp_path: Path) -> None:
    worker = ScriptedWorker(refusal=InsufficientMemory("it does not fit"))
    async with scripted(worker), orchestrator(tmp_path, **QUIET) as system:
        for ref in REFS:
            await system.submit(model=ref)
        async with asyncio.timeout(20):
            while len(before := words(system.core)) < len(REFS):
                await asyncio.sleep(0)
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            counting = tasks.create_task(fresh_at_each_turn(system.core, before))
            await system.register(worker, workers=[])  # all that wait are looked at
        fresh = counting.result()

    assert sum(fresh) == len(REFS)
    assert max(fresh) <= AT_ONCE


async def fresh_at_each_turn(core: Orchestrator, before: dict[str, str]) -> list[int]:
    """Return of how many models another word than *before* was new, at each turn of the event loop until all were."""
    changed: set[str] = set()
    fresh: list[int] = []
    while len(changed) < len(before):
        now = {ref for ref, word in words(core).items() if word != before[ref]} - changed
        changed |= now
        fresh.append(len(now))
        await asyncio.sleep(0)
    return fresh


def words(core: Orchestrator) -> dict[str, str]:
    """Return the last word on every model on which there is one."""
    journal = core.dispatcher.placement.journal
    return {ref: last.text for ref in REFS if (last := journal.last(ref)) is not None}
