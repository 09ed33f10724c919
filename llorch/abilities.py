"""What a model can do, from what its GGUF file says of its architecture and its pooling, and what was asked for. Pure.

A model that writes is made to give vectors, too, only where somebody has said how: its file does not tell which pooling
makes them useful. llama.cpp's own server refuses as well; Ollama takes the last token's vector without a word.

Sources: `llm_arch` and `llama_pooling_type` of https://github.com/ggml-org/llama.cpp (src/llama-arch.cpp,
include/llama.h), `handle_embeddings_impl` of its server; `runner/llamarunner/runner.go` of
https://github.com/ollama/ollama.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from llorch.errors import ModelIncompatible
from llorch.wire.embedding import Capability
from llorch.wire.engine_options import EngineOptions

MEAN, CLS, LAST, RANK = 1, 2, 3, 4
"""Kinds of pooling; 0 is none, and `CLS` takes the first token's."""
NUMBERS: Mapping[str, int] = {"mean": MEAN, "cls": CLS, "last": LAST}
ENCODERS = frozenset(
    {
        *("bert", "eurobert", "gemma-embedding", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert"),
        *("nomic-bert", "nomic-bert-moe", "t5encoder"),
    }
)
"""Architectures that read a text as a whole, have no KV cache, and generate none."""


def pooling_of(architecture: str, told: int) -> int:
    """Return how a model's vectors become one, as it was made; 0 where it was made to generate text.

    Args:
        architecture: As the file says.
        told: The pooling that the file says, 0 where it says none. An encoder's is the mean then.
    """
    return told or (MEAN if architecture in ENCODERS else 0)


def pooled(own: int, options: EngineOptions) -> int:
    """Return how a model's vectors become one: as is asked for, else as its own is."""
    return NUMBERS.get(options.pooling, own)


def abilities(own: int) -> tuple[Capability, ...]:
    """Return what a model was made for whose own pooling is that."""
    if not own:
        return ("text-gen",)
    return ("rerank",) if own == RANK else ("embedding",)


def able(made_for: Collection[str], options: EngineOptions) -> tuple[str, ...]:
    """Return what a model can do with these options: one that writes embeds, too, where a pooling is asked for."""
    more = ("embedding",) if options.pooling and "text-gen" in made_for else ()
    return (*made_for, *more)


def check_pooling(own: int, options: EngineOptions) -> None:
    """Refuse a pooling that cannot be.

    Raises:
        ModelIncompatible: The model reranks, or has another model beside it that would have to take part.
    """
    if options.pooling and own == RANK:
        raise ModelIncompatible("pooling: this model reranks, and what makes its scores is its own")
    if options.pooling and (options.draft or options.projector):
        raise ModelIncompatible("pooling: not together with a draft model or a projector")


def batch_of(pooling: int, *, ctx: int, batch: int) -> int:
    """Return how many tokens are computed at once: a text is read as a whole, unless its last token says it all."""
    return batch if pooling in {0, LAST} else max(ctx, batch)
