"""A scripted day: three pools of different sizes, six models, real workers; who makes room for whom is known before.

The sizes are made small by `memory_limit_bytes`; the models are random weights, whose size on disk is most of what a
worker takes. Every request is made when the one before has ended, so that what is idle is certain.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from llorch.wire.decisions import DecisionList, DecisionRecord
from llorch.wire.pools import PoolList
from roles.orchestrator.scheduler.journal import Entry, replay
from tests.e2e.processes import Role, orchestrator_role, role, text_of
from tests.support import models

MIB = 2**20
SIZES_MIB = {"small": 106, "middle": 176, "large": 290}
SHAPES = {
    ("a", "b"): models.Shape(n_embd=384, n_layer=6, n_head=6, n_ff=1024, ctx=256),
    ("c", "d"): models.Shape(n_embd=384, n_layer=6, n_head=6, n_ff=1024, ctx=8192),
    ("e", "f"): models.Shape(n_embd=512, n_layer=8, n_head=8, n_ff=1408, ctx=8192),
}
"""Two models of each size: one of each fits into a pool of its size, beside nothing else."""


@dataclass(slots=True)
class Day:
    """The system on its day, and what was seen of it."""

    orchestrator: Role
    folder: Path
    texts: list[str] = field(default_factory=list)
    most_held: dict[str, int] = field(default_factory=dict)

    def ref(self, name: str) -> str:
        """Return the reference of a model."""
        return f"file:{self.folder / name}.gguf"

    async def ask(self, name: str) -> None:
        """Ask a model for a few tokens and wait for them."""
        accepted = await self.orchestrator.submit(model=self.ref(name), prompt="ba", max_tokens=4)
        self.texts.append(text_of(await self.orchestrator.events(accepted.job_id)))

    async def watch(self) -> None:
        """Remember the most that the workers of each pool have held, heartbeat by heartbeat."""
        while True:
            for pool in (await self.orchestrator.client.send("GET", "/v2/pools", PoolList)).pools:
                held = sum(w.memory_bytes for w in pool.workers if w.status not in {"stopped", "failed"})
                self.most_held[pool.pool_id] = max(self.most_held.get(pool.pool_id, 0), held)
            await asyncio.sleep(0.05)

    async def records(self) -> list[DecisionRecord]:
        """Return the decision log, whole."""
        client = self.orchestrator.client
        found = await client.send("GET", "/v2/decisions", DecisionList, params={"limit": "512"})
        paths = [f"/v2/decisions/{summary.seq}" for summary in found.decisions]
        return [await client.send("GET", path, DecisionRecord) for path in paths]


def named(ref: str) -> str:
    """Return the name of a model from its reference."""
    return Path(ref).stem


def starts(records: Sequence[DecisionRecord]) -> list[tuple[str, str]]:
    """Return which worker was started where, in order."""
    decisions = [decision for record in records for decision in record.decisions]
    return [(named(d["model_ref"]), d["pool_id"]) for d in decisions if d["kind"] == "start_worker"]


def evictions(records: Sequence[DecisionRecord]) -> list[tuple[str, str]]:
    """Return which model had to go for which, in order."""
    found: list[tuple[str, str]] = []
    for record in records:
        stopped = [named(d["model_ref"]) for d in record.decisions if d["kind"] == "stop_worker"]
        rooms = [d for d in record.decisions if d["kind"] == "make_room"]
        found += [(model, named(rooms[0]["model_ref"])) for model in stopped if rooms]
    return found


@pytest.fixture(name="day")
async def _day(tmp_path: Path) -> AsyncIterator[Day]:
    """Start the system."""
    folder = tmp_path / "models"
    folder.mkdir()
    for (first, second), shape in SHAPES.items():
        models.make(folder / f"{first}.gguf", shape)
        (folder / f"{second}.gguf").hardlink_to(folder / f"{first}.gguf")
    async with AsyncExitStack() as stack:
        orchestrator = await stack.enter_async_context(orchestrator_role(tmp_path))
        for pool_id, size_mib in SIZES_MIB.items():
            env = {
                "LLORCH_POOL_MODELS_DIR": str(folder),
                "LLORCH_POOL_MEMORY_LIMIT_BYTES": str(size_mib * MIB),
                "LLORCH_WORKER_SLOTS": "1",
                "LLORCH_WORKER_THREADS": "1",
            }
            arguments = ("--port", "0", "--data-dir", str(tmp_path / pool_id), "--pool-id", pool_id)
            pool = role("pool", *arguments, "--orchestrator", orchestrator.url, log=tmp_path / "log", env=env)
            await stack.enter_async_context(pool)
        yield Day(orchestrator, folder)


@pytest.mark.slow
async def test_a_day_of_six_models_on_three_pools(day: Day) -> None:
    async with asyncio.TaskGroup() as tasks:
        watch = tasks.create_task(day.watch(), name="watch")
        for name in "acebdface":
            async with asyncio.TaskGroup() as both:
                both.create_task(day.ask(name), name=f"first of {name}")
                both.create_task(day.ask(name), name=f"second of {name}")
        watch.cancel()
    records = await day.records()

    entries = [
        msgspec.convert({"seq": r.seq, "snapshot": r.snapshot, "decisions": r.decisions}, Entry) for r in records
    ]
    homes = dict(zip("abcdef", ("small", "small", "middle", "middle", "large", "large"), strict=True))
    assert len(day.texts) == 18
    assert all(day.texts)
    assert starts(records) == [(name, homes[name]) for name in "acebdface"]
    assert evictions(records) == [("a", "b"), ("c", "d"), ("e", "f"), ("b", "a"), ("d", "c"), ("f", "e")]
    assert all(held <= SIZES_MIB[pool_id] * MIB for pool_id, held in day.most_held.items())
    assert [replay(entry) for entry in entries] == [entry.decisions for entry in entries]
    assert [entry.digest for entry in entries] == [record.digest for record in records]
