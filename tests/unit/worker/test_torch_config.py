"""What is read from a checkpoint's config.json, and what is refused."""

from __future__ import annotations

import json

import pytest

from llorch.errors import ModelIncompatible, ModelInvalid
from roles.worker.backend.torch_config import Rope, Shape, read_shape

LLAMA: dict[str, object] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 1000,
    "max_position_embeddings": 512,
    "eos_token_id": 2,
}


def read(**changed: object) -> Shape:
    return read_shape(json.dumps({**LLAMA, **changed}).encode())


def test_what_a_file_leaves_out_is_what_its_family_takes_for_granted() -> None:
    assert read() == Shape(
        family="llama",
        width=64,
        inner=160,
        layers=2,
        heads=4,
        kv_heads=4,
        head_dim=16,
        vocab_size=1000,
        context_length=512,
        norm_eps=1e-6,
        tied=False,
        rope=Rope(10_000.0, original_context=512),
        eos=(2,),
    )


def test_the_ends_of_the_generation_config_go_before_those_of_the_config() -> None:
    shape = read_shape(json.dumps(LLAMA).encode(), b'{"eos_token_id": [7, 8]}')

    assert shape.eos == (7, 8)


@pytest.mark.parametrize("field", ["rope_scaling", "rope_parameters"])
def test_the_older_and_the_newer_form_of_positions_are_the_same(field: str) -> None:
    stretch = {"rope_type": "llama3", "factor": 8, "original_max_position_embeddings": 128, "rope_theta": 500_000}

    assert read(**{field: stretch}).rope == Rope(500_000.0, "llama3", 8.0, 1.0, 4.0, 128)


def test_linear_positions_are_all_stretched_and_those_of_llama3_only_where_they_turn_slowly() -> None:
    plain = Rope(10_000.0).frequencies(64)
    linear = Rope(10_000.0, "linear", 2.0).frequencies(64)
    llama3 = Rope(10_000.0, "llama3", 8.0, 1.0, 4.0, 8192).frequencies(64)

    assert linear == [frequency / 2 for frequency in plain]
    assert llama3[0] == plain[0]
    assert llama3[-1] == plain[-1] / 8
    assert all(
        low <= frequency <= high for low, frequency, high in zip([f / 8 for f in plain], llama3, plain, strict=True)
    )


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"model_type": "gpt2"}, "'gpt2'"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"model_type": "qwen2", "use_sliding_window": True}, "sliding window"),
        ({"model_type": "mistral", "sliding_window": 4096}, "sliding window"),
        ({"hidden_act": "gelu"}, "'gelu'"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4}}, "'yarn'"),
    ],
    ids=str,
)
def test_what_is_not_computed_here_is_refused_by_name(changed: dict[str, object], named: str) -> None:
    with pytest.raises(ModelIncompatible, match=named):
        read(**changed)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'{"model_type": "llama"}',
        json.dumps({**LLAMA, "num_key_value_heads": 3}).encode(),
        json.dumps({**LLAMA, "hidden_size": -64}).encode(),
        json.dumps({**LLAMA, "rope_scaling": {"rope_type": "linear", "factor": 0}}).encode(),
    ],
    ids=str,
)
def test_a_damaged_file_is_refused(raw: bytes) -> None:
    with pytest.raises(ModelInvalid, match=r"config\.json"):
        read_shape(raw)
