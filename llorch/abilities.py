"""What a model can do, from what its GGUF file says of its architecture and its pooling. Pure.

Source: `llm_arch` and `llama_pooling_type` of https://github.com/ggml-org/llama.cpp (src/llama-arch.cpp,
include/llama.h).
"""

from __future__ import annotations

from llorch.wire.embedding import Capability

MEAN, LAST, RANK = 1, 3, 4
"""Kinds of pooling; 0 is none, and 2 takes the first token's."""
ENCODERS = frozenset(
    {
        *("bert", "eurobert", "gemma-embedding", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert"),
        *("nomic-bert", "nomic-bert-moe", "t5encoder"),
    }
)
"""Architectures that read a text as a whole, have no KV cache, and generate none."""


def pooling_of(architecture: str, told: int) -> int:
    """Return how a model's vectors become one; 0 where it is made to generate text.

    Args:
        architecture: As the file says.
        told: The pooling that the file says, 0 where it says none. An encoder's is the mean then.
    """
    return told or (MEAN if architecture in ENCODERS else 0)


def abilities(pooling: int) -> tuple[Capability, ...]:
    """Return what a model with that pooling can do.

    One that generates text could be made to give vectors too; which pooling would make them useful, nobody has said.
    """
    if not pooling:
        return ("text-gen",)
    return ("rerank",) if pooling == RANK else ("embedding",)


def batch_of(pooling: int, *, ctx: int, batch: int) -> int:
    """Return how many tokens are computed at once: a text is read as a whole, unless its last token says it all."""
    return batch if pooling in {0, LAST} else max(ctx, batch)
