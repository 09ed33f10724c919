"""What llama.cpp is told, and what its words mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llorch import errors
from llorch.wire.tasks import MAX_SEED, Sampling
from roles.worker.backend.llamacpp_options import RANDOM_SEED, completion, load_error, parse_split, quant_kind


def test_every_sampling_field_is_passed_on() -> None:
    sampling = Sampling(temperature=0.5, top_p=0.9, top_k=7, min_p=0.1, repetition_penalty=1.3, stop=["x"])

    body = completion([1, 2], sampling, max_tokens=9, seed=5, reuse_prompt=True)

    named = ("prompt", "n_predict", "temperature", "top_p", "top_k", "min_p", "repeat_penalty", "seed", "cache_prompt")
    assert [body[name] for name in named] == [[1, 2], 9, 0.5, 0.9, 7, 0.1, 1.3, 5, True]
    assert "stop" not in body


@pytest.mark.parametrize("off", [0.0, 1.0])
def test_a_penalty_of_0_or_1_is_off(off: float) -> None:
    body = completion([1], Sampling(repetition_penalty=off), max_tokens=1, seed=0, reuse_prompt=False)

    assert body["repeat_penalty"] == 1.0


@given(st.integers(0, MAX_SEED))
def test_no_seed_ever_means_random(seed: int) -> None:
    sent = completion([1], Sampling(), max_tokens=1, seed=seed, reuse_prompt=False)["seed"]

    assert isinstance(sent, int)
    assert 0 <= sent < RANDOM_SEED


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("all F32", "F32"),
        ("F16", "F16"),
        ("Q4_0", "Q4_0"),
        ("Q4_K - Medium", "Q4_K_M"),
        ("Q2_K - Medium", "Q2_K"),
        ("IQ2_XXS - 2.0625 bpw", "IQ2_XXS"),
        ("(guessed) Q8_0", "Q8_0"),
        ("", ""),
    ],
)
def test_quantisations_get_their_common_names(said: str, name: str) -> None:
    assert quant_kind(said) == name


@pytest.mark.parametrize(
    ("complaints", "kind", "part"),
    [
        (["x: error loading model: unknown model architecture: 'zebra'"], errors.ModelIncompatible, "'zebra'"),
        (["x: error loading model: tensor 'a' is corrupted or incomplete", "later"], errors.ModelInvalid, "tensor 'a'"),
        (["x: failed to load model from y", "ggml: out of memory"], errors.EngineFailed, "out of memory"),
        ([], errors.EngineFailed, "signal 9"),
    ],
)
def test_a_failed_load_gives_the_error_that_fits(
    complaints: list[str], kind: type[errors.LlorchError], part: str
) -> None:
    error = load_error(complaints, status=-9)

    assert type(error) is kind
    assert part in error.message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", {}),
        ("cuda:0 = 17, cuda:2 = 16", {0: 17, 2: 16}),
        ("1=1,0=2", {1: 1, 0: 2}),
        ("cuda:127=9", {127: 9}),
    ],
)
def test_a_split_names_devices_and_their_parts(text: str, parts: dict[int, int]) -> None:
    assert parse_split(text) == parts


@pytest.mark.parametrize(
    "text",
    ["cuda:0", "cuda:0=", "cuda:0=x", "=5", "cuda:0=0", "cuda:0=-1", "cuda:0=1,0=2", "cuda:128=1", "0=65537"],
)
def test_what_is_no_split_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(errors.InvalidConfiguration, match="--split: expected devices with their parts") as refused:
        parse_split(text)

    assert "\n" not in refused.value.message
