"""Which files go beside a model, told before a process is started."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llorch.errors import BackendUnavailable, ModelIncompatible
from llorch.wire.engine_options import EngineOptions, KvType
from llorch.wire.pools import Engine
from roles.pool.model_cache.gguf import Metadata, Tokens
from roles.pool.worker_lifecycle.extras import Extra, Extras, alike, check_extras
from tests.unit.test_pool_worker_lifecycle_preflight import MODEL

PATH = Path("/models/beside.gguf")
WIDE = replace(MODEL, key_length=64, value_length=64)
ADAPTER = replace(MODEL, kind="adapter", adapter="lora")
PROJECTOR = replace(MODEL, kind="projector", architecture="clip")


def tokens(*names: str, kind: str = "gpt2", ends: tuple[int, ...] = (0, 1)) -> Tokens:
    stored = b"".join(len(name).to_bytes(8, "little") + name.encode() for name in names)
    return Tokens(kind, ends, len(names), stored)


SOME = tokens(*(f"t{number}" for number in range(300)))


def beside(metadata: Metadata, ref: str = "file:/x.gguf") -> Extra:
    return Extra(ref, PATH, metadata)


def refusal(extras: Extras, *, model: Metadata = WIDE, engine: Engine = "llamacpp") -> str:
    with pytest.raises((ModelIncompatible, BackendUnavailable)) as refused:
        check_extras(model, extras, engine)
    return refused.value.message


def test_what_goes_together_is_let_through() -> None:
    check_extras(
        WIDE,
        Extras(
            EngineOptions(kv_type="q8_0"),
            lora=[beside(ADAPTER)],
            draft=beside(WIDE),
            projector=beside(PROJECTOR),
            tokens=(SOME, SOME),
        ),
        "llamacpp",
    )
    check_extras(MODEL, Extras(), "torch")


@pytest.mark.parametrize(
    ("extras", "said"),
    [
        (Extras(lora=[beside(MODEL)]), "lora: file:/x.gguf is a model, not an adapter"),
        (Extras(lora=[beside(replace(ADAPTER, adapter="ia3"))]), "lora: file:/x.gguf is an adapter, but none of LoRA"),
        (
            Extras(lora=[beside(replace(ADAPTER, architecture="qwen2"))]),
            "lora: file:/x.gguf is for models of the architecture 'qwen2', this one is 'llama'",
        ),
        (Extras(draft=beside(ADAPTER)), "draft: file:/x.gguf is an adapter, not a model"),
        (
            Extras(draft=beside(MODEL), tokens=(SOME, tokens("a", "b"))),
            "draft: file:/x.gguf has another vocabulary than the model",
        ),
        (Extras(draft=beside(MODEL)), "draft: file:/x.gguf has another vocabulary than the model"),
        (Extras(projector=beside(MODEL)), "projector: file:/x.gguf is a model, not a projector"),
        (
            Extras(EngineOptions(pooling="last", draft="file:/x.gguf"), draft=beside(WIDE), tokens=(SOME, SOME)),
            "pooling: not together with a draft model or a projector",
        ),
    ],
)
def test_what_does_not_is_told_with_the_file(extras: Extras, said: str) -> None:
    assert refusal(extras) == said


@pytest.mark.parametrize("kv_type", ["q8_0", "q4_0", "iq4_nl"])
def test_a_quantised_cache_needs_heads_of_whole_blocks(kv_type: KvType) -> None:
    options = Extras(EngineOptions(kv_type=kv_type))

    assert refusal(options, model=MODEL) == (
        f"kv_type {kv_type} stores 32 numbers together, and the heads of the model have 16; use f16"
    )
    check_extras(WIDE, options, "llamacpp")


def test_the_draft_model_has_the_same_cache() -> None:
    extras = Extras(EngineOptions(kv_type="q8_0"), draft=beside(MODEL), tokens=(SOME, SOME))

    assert "the heads of the draft model have 16" in refusal(extras)


def test_another_engine_has_none_of_it() -> None:
    extras = Extras(EngineOptions(kv_type="q8_0", draft="file:/d"))

    assert refusal(extras, engine="torch") == "the engine torch does not have kv_type, draft; llamacpp does"


def test_vocabularies_may_differ_at_their_ends_alone() -> None:
    names = [f"t{number}" for number in range(300)]

    assert alike(SOME, tokens(*names, "more"))
    assert alike(tokens(*names, "more"), SOME)
    assert alike(SOME, tokens("x", "y", "z", "u", "v", *names[5:]))
    assert not alike(SOME, tokens(*names[:150], "other", *names[151:]))
    assert not alike(SOME, tokens(*names[:100]))
    assert not alike(SOME, tokens(*names, kind="llama"))
    assert not alike(SOME, tokens(*names, ends=(0, 2)))
    assert not alike(tokens(), tokens())


def test_paths_take_the_place_of_references() -> None:
    options = EngineOptions(lora=("file:/a:0.5",), draft="file:/d", projector="file:/p")
    extras = Extras(
        options,
        [Extra("file:/a", Path("/1"), ADAPTER)],
        Extra("file:/d", Path("/2"), MODEL),
        beside(PROJECTOR, "file:/p"),
    )

    assert extras.located == EngineOptions(lora=("/1:0.5",), draft="/2", projector=str(PATH))
