"""What a worker is expected to take, against what the engine takes."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import pytest

from roles.pool.model_cache import gguf
from roles.pool.model_cache.catalogue import ASSETS
from roles.pool.worker_lifecycle.estimate import estimate
from tests.support import models
from tests.support.engine_memory import Taken, measure
from tests.support.models import Q4_0, Shape

MIB = 2**20
WITHIN = 0.15
SHAPES = {
    "heads as many as keys": (Shape(512, 8, 8, 1408, 4096), None, 4, 2048, 128),
    "fewer keys than heads": (Shape(1024, 6, 16, 2816, 8192, n_kv_head=4), None, 4, 4096, 128),
    "large heads, eight slots": (Shape(512, 6, 4, 2048, 4096, n_kv_head=2, head=256), None, 8, 4096, 128),
    "one long slot": (Shape(512, 8, 8, 1408, 32768), None, 1, 32768, 128),
    "large vocabulary, large batch": (Shape(512, 4, 8, 1408, 2048, n_kv_head=2, unused=60_000), None, 2, 2048, 512),
    "4 bits": (Shape(1024, 16, 16, 2816, 4096, n_kv_head=4), Q4_0, 4, 4096, 128),
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="what backs a process's pages is told by Linux alone"),
]


@cache
def baseline() -> Taken:
    """Return what the engine process takes with next to no model."""
    return measure(ASSETS / "haiku.gguf", slots=1, ctx=96)


@pytest.mark.parametrize("name", SHAPES)
def test_the_estimate_is_what_the_engine_takes(tmp_path: Path, name: str) -> None:
    shape, quant, slots, ctx, batch = SHAPES[name]
    path = models.make(tmp_path / "m.gguf", shape, quant=quant)
    with path.open("rb") as file:
        metadata = gguf.read(file, path.stat().st_size)

    expected = estimate(metadata, slots=slots, ctx=ctx, batch=batch)
    taken = measure(path, slots=slots, ctx=ctx, batch=batch)

    without = baseline()
    in_file = taken.file - without.file - min(taken.copied, taken.mapped)
    resident = taken.anonymous - without.anonymous + max(0, in_file)
    print(
        f"{name}: expected {expected.total_bytes / MIB:.0f} MiB "
        f"({expected.weights_bytes / MIB:.1f} + {expected.kv_bytes / MIB:.1f} + {expected.compute_bytes / MIB:.1f}), "
        f"buffers {taken.buffers / MIB:.0f} ({taken.mapped / MIB:.1f}/{taken.copied / MIB:.1f} + {taken.kv / MIB:.1f} "
        f"+ {taken.compute / MIB:.1f}), resident {resident / MIB:.0f}"
    )
    assert expected.kv_bytes == pytest.approx(taken.kv, rel=0.01)
    assert expected.compute_bytes == pytest.approx(taken.compute, rel=0.25)
    assert expected.total_bytes == pytest.approx(taken.buffers, rel=WITHIN)
    assert expected.total_bytes == pytest.approx(resident, rel=WITHIN)
