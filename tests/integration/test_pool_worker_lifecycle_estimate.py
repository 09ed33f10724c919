"""What a worker is expected to take, against what the engine takes."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import pytest

from llorch.abilities import batch_of, pooled
from llorch.wire.engine_options import EngineOptions, KvType, Pooling
from roles.pool.model_cache import gguf
from roles.pool.model_cache.catalogue import ASSETS
from roles.pool.worker_lifecycle.estimate import Estimate, estimate
from roles.pool.worker_lifecycle.extras import Extra, Extras
from tests.support import models
from tests.support.beside import make_adapter, make_projector
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

    expected = estimate(metadata(path), slots=slots, ctx=ctx, batch=batch)
    taken = measure(path, slots=slots, ctx=ctx, batch=batch)

    compare(name, expected, taken)


@pytest.mark.parametrize("kv_type", ["q8_0", "q4_0"])
def test_the_estimate_holds_for_other_types_of_the_cache(tmp_path: Path, kv_type: KvType) -> None:
    path, options = models.make(tmp_path / "m.gguf", Shape(512, 8, 8, 1408, 8192)), EngineOptions(kv_type=kv_type)

    expected = estimate(metadata(path), slots=8, ctx=8192, extras=Extras(options))
    taken = measure(path, slots=8, ctx=8192, options=options)

    compare(kv_type, expected, taken)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_the_estimate_holds_for_a_model_that_embeds_too(tmp_path: Path, pooling: Pooling) -> None:
    path, options = models.make(tmp_path / "m.gguf", Shape(512, 8, 8, 1408, 2048)), EngineOptions(pooling=pooling)
    number = pooled(metadata(path).pooling, options)

    expected = estimate(metadata(path), slots=4, ctx=2048, extras=Extras(options))
    taken = measure(path, slots=4, ctx=2048, batch=batch_of(number, ctx=2048, batch=128), pooling=number)

    compare(pooling, expected, taken, resident_within=WITHIN if pooling == "last" else 0.6)


def test_the_estimate_holds_with_a_draft_model_and_an_adapter(tmp_path: Path) -> None:
    shape, _, slots, ctx, batch = SHAPES["heads as many as keys"]
    path = models.make(tmp_path / "m.gguf", shape)
    draft = models.make(tmp_path / "d.gguf", Shape(256, 8, 4, 768, 4096), seed=2)
    adapter = make_adapter(tmp_path / "a.gguf", shape)
    options = EngineOptions(lora=(str(adapter),), draft=str(draft))
    extras = Extras(
        options,
        lora=[Extra("file:a", adapter, metadata(adapter))],
        draft=Extra("file:d", draft, metadata(draft)),
    )

    expected = estimate(metadata(path), slots=slots, ctx=ctx, batch=batch, extras=extras)
    taken = measure(path, slots=slots, ctx=ctx, batch=batch, options=options)

    compare("draft and adapter", expected, taken, compute_within=0.5)


def test_the_estimate_holds_with_a_projector(tmp_path: Path) -> None:
    shape, _, slots, ctx, batch = SHAPES["heads as many as keys"]
    path = models.make(tmp_path / "m.gguf", shape)
    projector = make_projector(tmp_path / "p.gguf", shape, image=672, width=512, layers=8)
    options = EngineOptions(projector=str(projector))
    extras = Extras(options, projector=Extra("file:p", projector, metadata(projector)))

    expected = estimate(metadata(path), slots=slots, ctx=ctx, batch=batch, extras=extras)
    taken = measure(path, slots=slots, ctx=ctx, batch=batch, options=options)

    untold = metadata(projector).weights_bytes
    compare("projector", expected, taken, resident_within=0.2, untold_bytes=untold)


def metadata(path: Path) -> gguf.Metadata:
    with path.open("rb") as file:
        return gguf.read(file, path.stat().st_size)


def compare(
    name: str,
    expected: Estimate,
    taken: Taken,
    *,
    compute_within: float = 0.25,
    resident_within: float = WITHIN,
    untold_bytes: int = 0,
) -> None:
    """Show what was expected and taken, and hold the one against the other.

    llama.cpp does not tell of the buffer for a projector's weights, *untold_bytes*; and what it has for a picture and a
    larger batch is not resident before there was one.
    """
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
    assert expected.compute_bytes == pytest.approx(taken.compute, rel=compute_within)
    assert expected.total_bytes == pytest.approx(taken.buffers + untold_bytes, rel=WITHIN)
    assert expected.total_bytes == pytest.approx(resident, rel=resident_within)
