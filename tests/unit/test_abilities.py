"""What a model can do, by its architecture and pooling."""

from __future__ import annotations

import pytest

from llorch.abilities import CLS, LAST, MEAN, RANK, abilities, able, batch_of, check_pooling, pooled, pooling_of
from llorch.errors import ModelIncompatible
from llorch.wire.engine_options import PLAIN, EngineOptions, Pooling


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


@pytest.mark.parametrize(("wanted", "expected"), [("mean", MEAN), ("cls", CLS), ("last", LAST)])
def test_what_is_asked_for_overrules_what_the_file_says(wanted: Pooling, expected: int) -> None:
    options = EngineOptions(pooling=wanted)

    assert [pooled(own, options) for own in (0, MEAN, LAST)] == [expected] * 3
    assert [pooled(own, PLAIN) for own in (0, MEAN, LAST, RANK)] == [0, MEAN, LAST, RANK]


def test_a_model_that_writes_embeds_too_where_a_pooling_is_asked_for_and_no_other_can_more() -> None:
    options = EngineOptions(pooling="last")

    assert able(["text-gen"], PLAIN) == ("text-gen",)
    assert able(["text-gen"], options) == ("text-gen", "embedding")
    assert able(["embedding"], options) == ("embedding",)


@pytest.mark.parametrize(
    ("own", "options", "problem"),
    [
        (RANK, EngineOptions(pooling="mean"), "this model reranks"),
        (0, EngineOptions(pooling="mean", draft="file:/d.gguf"), "not together with a draft model"),
        (0, EngineOptions(pooling="mean", projector="file:/p.gguf"), "not together with a draft model or a projector"),
    ],
)
def test_a_pooling_that_cannot_be_is_refused(own: int, options: EngineOptions, problem: str) -> None:
    with pytest.raises(ModelIncompatible, match=problem):
        check_pooling(own, options)
    check_pooling(own, PLAIN)
    check_pooling(0, EngineOptions(pooling="last"))
