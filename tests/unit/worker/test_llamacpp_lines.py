"""What llama.cpp's lines tell: text, tokens, how far a prompt is read, what a draft model guessed, why it is over."""

from __future__ import annotations

import json

import pytest

from llorch.errors import EngineFailed
from roles.worker.backend import Chunk
from roles.worker.backend.llamacpp_lines import LineReader


def line(**said: object) -> bytes:
    return b"data: " + json.dumps(said).encode()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"content": "a", "tokens": [7], "tokens_predicted": 3}, Chunk("a", 3, ids=[7])),
        ({"prompt_progress": {"total": 9, "processed": 4}, "tokens": [0]}, Chunk(prefilled=4, prefill_total=9)),
        ({"stop": True, "stop_type": "limit", "tokens_predicted": 5}, Chunk(tokens_out=5, stop="max_tokens")),
        ({"stop": True, "stop_type": "eos", "content": "z"}, Chunk("z", stop="eos")),
        (
            {"content": "a", "tokens": [7], "tokens_predicted": 3, "timings": {"draft_n": 4, "draft_n_accepted": 2}},
            Chunk("a", 3, ids=[7], drafted=4, accepted=2),
        ),
        ({"content": "a", "timings": {"predicted_n": 1}}, Chunk("a", ids=[])),
    ],
)
def test_a_line_becomes_a_chunk(said: dict[str, object], expected: Chunk) -> None:
    assert LineReader(0).read(line(**said)) == expected


def test_only_so_many_other_tokens_are_told_as_were_asked_for() -> None:
    others = [{"token": name, "logprob": -1.0, "bytes": [1]} for name in "abc"]
    told = [{"token": "a", "logprob": -1.0, "bytes": [1], "top_logprobs": others}]

    [logprob] = LineReader(2).read(line(content="a", tokens=[1], completion_probabilities=told)).logprobs

    assert [one.token for one in logprob.top_logprobs] == ["a", "b"]


@pytest.mark.parametrize("said", [line(error={"message": "no"}), b'error: {"message": "no"}'])
def test_an_error_is_the_end(said: bytes) -> None:
    with pytest.raises(EngineFailed):
        LineReader(0).read(said)
