"""What the engine ctransformers takes, and what a pool counts for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

pytest.importorskip("ctransformers", reason="the extra ctransformers is not installed")

from roles.pool.model_cache import old_forms
from roles.pool.worker_lifecycle.engines import installed
from roles.pool.worker_lifecycle.estimate import estimate
from roles.worker.backend import Prompt
from roles.worker.backend.ctransformers_engine import CTransformers
from tests.support import engines, old_models
from tests.support.engines import generate
from tests.support.models import Shape

SHAPES = [Shape(n_embd=512, n_layer=8, n_head=8, n_ff=1408), Shape()]


@pytest.mark.parametrize("shape", SHAPES, ids=["26M", "tiny"])
async def test_the_estimate_is_within_15_percent_of_what_a_full_slot_takes(tmp_path: Path, shape: Shape) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(old_models.llama(shape))
    with path.open("rb") as file:
        metadata = old_forms.read(file, path.stat().st_size)
    counted = estimate(metadata, slots=1, ctx=512, engine="ctransformers").total_bytes / 1.1

    async with asyncio.TaskGroup() as tasks:
        engine = CTransformers(tasks, path, threads=1, ctx=512)
        await engine.load(lambda _: None)
        tokens = (await engine.tokenize(Prompt(text="bake kilo dumi lani " * 200)))[:500]
        await generate(engines.ctransformers(), engine, tokens, max_tokens=5)
        taken = psutil.Process(engine._process.pid).memory_info().rss
        await engine.close()

    assert taken == pytest.approx(counted, rel=0.15)


def test_ctransformers_is_found_and_computes_on_the_cpu_alone() -> None:
    assert installed()["ctransformers"] == {"cpu"}
