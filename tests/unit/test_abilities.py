"""What a model can do, by its architecture and pooling."""

from __future__ import annotations

import pytest

from llorch.abilities import LAST, MEAN, RANK, abilities, pooling_of


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
