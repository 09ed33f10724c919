"""What embeddings and reranking may be asked for with, and the lines of their token events."""

from __future__ import annotations

import json
import struct

import pytest

from llorch.errors import EngineFailed
from llorch.wire.codec import decode, encode
from llorch.wire.embedding import (
    MAX_INPUTS,
    kind_of,
    read_score,
    read_vector,
    score_line,
    vector_line,
)
from llorch.wire.tasks import SubmitTask
from llorch.wire.workers import Execute
from tests.support.refusals import refused


def asked(**fields: object) -> bytes:
    return json.dumps({"model": "m", **fields}).encode()


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"prompt": "a"}, "text-gen"),
        ({"messages": [{"role": "user", "content": "a"}]}, "text-gen"),
        ({"input": ["a", [0, 2**31 - 1]]}, "embedding"),
        ({"input": ["a"] * MAX_INPUTS, "truncate": True, "keep_alive": "5m"}, "embedding"),
        ({"rerank": {"query": "q", "documents": ["a", ""]}, "truncate": True}, "rerank"),
    ],
)
def test_a_job_is_for_what_its_one_shape_says(fields: dict[str, object], kind: str) -> None:
    task = decode(asked(**fields), SubmitTask)

    assert kind_of(task) == kind
    assert decode(encode(task), SubmitTask) == task


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prompt": "a", "input": ["a"]},
        {"input": ["a"], "rerank": {"query": "q", "documents": ["a"]}},
    ],
)
def test_none_or_several_shapes_are_refused(fields: dict[str, object]) -> None:
    problem = "exactly one of prompt, messages, input and rerank is required"
    assert ("prompt", problem) in refused(asked(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"input": []},
        {"input": [""]},
        {"input": [[]]},
        {"input": [[-1]]},
        {"input": [["a"]]},
        {"input": "a"},
        {"input": ["a"] * (MAX_INPUTS + 1)},
        {"rerank": {"query": "", "documents": ["a"]}},
        {"rerank": {"query": "q", "documents": []}},
        {"rerank": {"query": "q", "documents": ["a"], "top_n": 1}},
    ],
)
def test_what_is_no_input_is_refused(fields: dict[str, object]) -> None:
    [(field, _)] = refused(asked(**fields))

    assert field.startswith(next(iter(fields)))


def test_what_only_text_has_is_refused_by_name() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    body = asked(input=["a"], temperature=0, stop=["x"], tools=[tool], max_tokens=4, seed=1, logprobs=True)

    found = refused(body)

    assert ("temperature", "has no meaning for embeddings") in found
    assert {field for field, _ in found} >= {"temperature", "stop", "tools", "max_tokens", "seed", "logprobs"}
    assert refused(asked(prompt="a", truncate=True)) == [("truncate", "only for input and rerank")]


def test_a_worker_is_asked_with_the_same_fields() -> None:
    request = decode(b'{"job_id": "j", "input": ["a"], "first_token": 1}', Execute)

    assert (kind_of(request), request.input, request.first_token) == ("embedding", ["a"], 1)


@pytest.mark.parametrize("vector", [[0.0], [1.5, -2.25, 1e-30], [float(n) for n in range(1024)]])
def test_a_vector_survives_its_line(vector: list[float]) -> None:
    line = vector_line(vector)

    assert line.index("\n") == len(line) - 1
    assert read_vector(line) == list(struct.unpack(f"<{len(vector)}f", struct.pack(f"<{len(vector)}f", *vector)))


@pytest.mark.parametrize(
    "line",
    [
        *("", "\n", "AAA=", "not base64!", "AAAA\n", "AAA", "AAAAAA=", "é" * 8),
        *("AAAAAA==AAAAAA==", "AAAAAA==\nAAAAAA==\n", "AAAA AAAAAAA", "AAAA=AAAAAA="),
    ],
)
def test_what_is_no_vector_is_refused(line: str) -> None:
    with pytest.raises(EngineFailed, match="not a vector"):
        read_vector(line)


def test_a_number_that_does_not_fit_and_no_number_at_all_are_no_vector() -> None:
    for vector in ([1e39], [0.5, -1e300], []):
        with pytest.raises(EngineFailed, match="in it that is not a number"):
            vector_line(vector)


@pytest.mark.parametrize("entry", [float("nan"), float("inf"), float("-inf")])
def test_what_json_cannot_tell_is_no_vector_and_no_score(entry: float) -> None:
    for vector in ([1.0, entry], [entry, -entry], [entry]):
        with pytest.raises(EngineFailed, match="in it that is not a number"):
            vector_line(vector)
    with pytest.raises(EngineFailed, match="score is not a number"):
        score_line(entry)


@pytest.mark.parametrize("score", [0.0, -3.25, 1e-9, 12345.678])
def test_a_score_survives_its_line(score: float) -> None:
    assert read_score(score_line(score)) == score


@pytest.mark.parametrize("line", ["", "true", '"1"', "NaN", "[1]", "1 2", "1e999", "[" * 100_000])
def test_what_is_no_score_is_refused(line: str) -> None:
    with pytest.raises(EngineFailed, match="not a score"):
        read_score(line)
