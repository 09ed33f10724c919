"""What the engine torch takes, and what a pool counts for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")

from roles.pool.model_cache import checkpoint
from roles.pool.worker_lifecycle.engines import installed
from roles.pool.worker_lifecycle.estimate import estimate
from roles.worker.backend import Prompt
from roles.worker.backend.torch_engine import Torch
from tests.support import checkpoints, engines
from tests.support.engines import generate
from tests.support.models import Shape

SHAPES = [Shape(n_embd=512, n_layer=8, n_head=8, n_kv_head=4, n_ff=1408, ctx=512), Shape(ctx=512)]


@pytest.mark.parametrize("shape", SHAPES, ids=["26M", "tiny"])
async def test_the_estimate_is_within_15_percent_of_what_full_slots_take(tmp_path: Path, shape: Shape) -> None:
    folder = checkpoints.make(tmp_path, shape)
    counted = estimate(checkpoint.read(folder), slots=2, ctx=512).total_bytes / 1.1

    async with asyncio.TaskGroup() as tasks:
        engine = Torch(tasks, folder, slots=2, threads=1)
        await engine.load(lambda _: None)
        tokens = (await engine.tokenize(Prompt(text="bake kilo dumi lani " * 200)))[:500]
        async with asyncio.TaskGroup() as both:
            for _ in range(2):
                both.create_task(generate(engines.torch(), engine, tokens, max_tokens=5))
        taken = psutil.Process(engine._process.pid).memory_info().rss
        await engine.close()

    assert taken == pytest.approx(counted, rel=0.15)


def test_torch_is_found_with_what_it_computes_on() -> None:
    assert "cpu" in installed()["torch"]
