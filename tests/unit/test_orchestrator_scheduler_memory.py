"""What a worker takes: the pool's own figure, and the KV cache of other slots or another context."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llorch.policy import ModelPolicy
from llorch.wire.pools import Model
from roles.orchestrator.scheduler.memory import need

MODEL = Model(
    model_ref="m",
    size_bytes=1,
    architecture="llama",
    quantization="Q4_0",
    context_length=1_000,
    vocab_size=1,
    max_token_bytes=1,
    kv_cell_bytes=10,
    memory_bytes=50_000,
    memory_slots=4,
    memory_ctx=500,
)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (ModelPolicy(), 50_000),
        (ModelPolicy(slots=8), 50_000 + 2_000 * 11),
        (ModelPolicy(ctx=250), 50_000 - 1_000 * 11),
        (ModelPolicy(ctx=9_999), 50_000 + 2_000 * 11),
        (ModelPolicy(slots=1, ctx=100), 50_000 - 1_900 * 11),
        (ModelPolicy(kv_type="q8_0"), 50_000 - 2_000 * 5 * 11 // 10),
        (ModelPolicy(kv_type="f32"), 50_000 + 2_000 * 11),
        (ModelPolicy(draft="file:/unknown"), 50_000),
    ],
)
def test_slots_and_context_change_the_cache_alone(policy: ModelPolicy, expected: int) -> None:
    assert need(MODEL, policy, means=str.__eq__) == expected


def test_the_files_of_that_pool_beside_the_model_are_counted() -> None:
    draft = replace(MODEL, model_ref="file:/d", memory_bytes=3_000, kv_cell_bytes=0)
    adapter = replace(MODEL, model_ref="file:/a", kind="adapter", weights_bytes=100)
    projector = replace(MODEL, model_ref="file:/p", kind="projector", weights_bytes=1_000)
    policy = ModelPolicy(lora=("file:/a:0.5",), draft="file:/d", projector="file:/p")

    assert need(MODEL, policy, [draft, adapter, projector], means=str.__eq__) == 50_000 + 3_000 + 110 + 1_100


def test_a_pool_that_does_not_say_leaves_it_open() -> None:
    old = Model(
        model_ref="m",
        size_bytes=1,
        architecture="llama",
        quantization="Q4_0",
        context_length=1_000,
        vocab_size=1,
        max_token_bytes=1,
    )

    assert need(old, ModelPolicy(slots=8), means=str.__eq__) == 0
