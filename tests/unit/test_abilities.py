"""What a model can do, by its architecture and pooling."""

from __future__ import annotations

import pytest

from llorch.abilities import LAST, MEAN, RANK, abilities, batch_of, pooling_of


@pytest.mark.parametrize(
    ("architecture", "told", "pooling", "can"),
    [
        ("llama", 0, 0, ("text-gen",)),
        ("bert", 0, MEAN, ("embedding",)),
        ("bert", 2, 2, ("embedding",)),
        ("qwen3", LAST, LAST, ("embedding",)),
        ("bert", RANK, RANK, ("rerank",)),
        ("qwen3", RANK, RANK, ("rerank",)),
    ],
)
def test_a_model_is_for_what_its_pooling_says_and_an_encoder_for_embeddings(
    architecture: str, told: int, pooling: int, can: tuple[str, ...]
) -> None:
    assert pooling_of(architecture, told) == pooling
    assert abilities(pooling) == can


@pytest.mark.parametrize(("pooling", "expected"), [(0, 128), (MEAN, 512), (RANK, 512), (LAST, 128)])
def test_a_text_is_computed_at_once_unless_its_last_token_says_it_all(pooling: int, expected: int) -> None:
    assert batch_of(pooling, ctx=512, batch=128) == expected
