"""How the memory that a worker will take grows with what it is asked for."""

from __future__ import annotations

from dataclasses import replace

from roles.pool.worker_lifecycle.estimate import estimate, kv_bytes
from tests.unit.test_pool_worker_lifecycle_preflight import MODEL

A_CELL = 2 * 2 * (16 + 16) * 2


def test_a_total_is_all_parts_and_a_tenth() -> None:
    found = estimate(MODEL, slots=2, ctx=512)

    assert found.weights_bytes == 2000
    assert found.total_bytes == (2000 + found.kv_bytes + found.compute_bytes) * 11 // 10


def test_the_cache_grows_with_slots_and_in_steps_with_their_context() -> None:
    assert kv_bytes(MODEL, slots=1, ctx=1, batch=128) == 256 * A_CELL
    assert kv_bytes(MODEL, slots=3, ctx=257, batch=128) == 3 * 512 * A_CELL
    assert kv_bytes(replace(MODEL, kv_heads=(1, 0)), slots=1, ctx=256, batch=128) == 256 * A_CELL // 4


def test_a_layer_with_a_sliding_window_keeps_the_window_and_a_batch() -> None:
    sliding = replace(MODEL, sliding_window=512, sliding=(True, False))

    assert kv_bytes(sliding, slots=1, ctx=8192, batch=128) == (768 + 8192) * A_CELL // 2
    assert kv_bytes(sliding, slots=1, ctx=256, batch=128) == 256 * A_CELL


def test_compute_buffers_grow_with_the_batch() -> None:
    small, large = (estimate(MODEL, slots=1, ctx=512, batch=batch).compute_bytes for batch in (128, 512))

    assert small < large <= 4 * small
