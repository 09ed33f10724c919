"""What other APIs ask of embeddings and reranking, and how a job's lines are told to them."""

from __future__ import annotations

import math

import pytest

from llorch.errors import InvalidRequest
from llorch.wire.embedding import Rerank, score_line, vector_line
from llorch.wire.events import End
from llorch.wire.ollama import EmbedRequest, OldEmbedRequest
from llorch.wire.openai_embeddings import Document, EmbeddingRequest, RerankRequest
from roles.orchestrator.dialects.answer import Answer
from roles.orchestrator.dialects.embeddings import (
    embed_task,
    embedding_task,
    embeddings,
    embeds,
    old_embedding,
    rerank_task,
    reranked,
)

VECTORS = [[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]]


def answer(*lines: str) -> Answer:
    end = End(tokens_in=9, tokens_out=0, stop_reason="eos", queue_ms=2, first_token_ms=3, decode_time_ms=4)
    return Answer("j", "".join(lines), "llamacpp", end)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([5, 6], [[5, 6]]), ([[5], [6, 7]], [[5], [6, 7]])],
)
def test_an_input_is_a_text_or_tokens_or_a_list_of_either(
    given: str | list[str | int | list[int]], expected: object
) -> None:
    task = embedding_task(EmbeddingRequest(model="m", input=given))

    assert (task.input, task.truncate, task.on_disconnect) == (expected, False, "cancel")


@pytest.mark.parametrize("given", ["", ["a", ""], ["a", 5], [[5], "a"], [5, -1], [True, 1.5]])
def test_any_other_input_is_refused_by_name(given: str | list[str | int | list[int]]) -> None:
    with pytest.raises(InvalidRequest, match="input"):
        embedding_task(EmbeddingRequest(model="m", input=given))


def test_vectors_are_told_as_numbers_or_as_they_came() -> None:
    lines = [vector_line(vector) for vector in VECTORS]

    numbers = embeddings(answer(*lines), EmbeddingRequest(model="m", input="a"))
    encoded = embeddings(answer(*lines), EmbeddingRequest(model="m", input="a", encoding_format="base64"))

    assert [each.embedding for each in numbers.data] == [pytest.approx(vector) for vector in VECTORS]
    assert [each.embedding for each in encoded.data] == [line.rstrip("\n") for line in lines]
    assert [each.index for each in numbers.data] == [0, 1]
    assert (numbers.usage.prompt_tokens, numbers.usage.total_tokens) == (9, 9)


def test_fewer_dimensions_are_the_first_ones_made_as_long_as_before() -> None:
    asked = EmbeddingRequest(model="m", input="a", dimensions=2)

    found = embeddings(answer(vector_line([0.3, 0.4, 0.8])), asked).data[0].embedding

    assert isinstance(found, list)
    assert found == pytest.approx([0.6, 0.8])
    assert math.hypot(*found) == pytest.approx(1)
    with pytest.raises(InvalidRequest, match="dimensions: the model's vectors have 1"):
        embeddings(answer(vector_line([1.0])), asked)


def test_documents_come_with_the_highest_score_first_and_only_so_many() -> None:
    asked = RerankRequest(
        model="m", query="q", documents=["a", Document("b"), "c"], top_n=2, return_documents=True, truncate=True
    )

    task = rerank_task(asked)
    found = reranked(answer(*map(score_line, (-1.0, 2.5, 2.5))), asked)

    assert (task.rerank, task.truncate) == (Rerank("q", ["a", "b", "c"]), True)
    assert [(each.index, each.relevance_score, each.document) for each in found.results] == [
        (1, 2.5, Document("b")),
        (2, 2.5, Document("c")),
    ]
    assert (found.id, found.usage.total_tokens) == ("rerank-j", 9)


def test_ollama_cuts_what_is_too_long_unless_told_not_to() -> None:
    cutting = embed_task(EmbedRequest(model="m", input="a", keep_alive="5m"), "n")
    refusing = embed_task(EmbedRequest(model="m", input=["a", "b"], truncate=False), "n")
    old = embed_task(OldEmbedRequest(model="m", prompt="a"), "n")

    assert cutting is not None
    assert refusing is not None
    assert old is not None
    assert (cutting.model, cutting.input, cutting.truncate, cutting.keep_alive) == ("n", ["a"], True, 300.0)
    assert (refusing.input, refusing.truncate, old.input, old.truncate) == (["a", "b"], False, ["a"], True)


@pytest.mark.parametrize(
    "asked", [EmbedRequest(model="m"), EmbedRequest(model="m", input=[]), OldEmbedRequest(model="m")]
)
def test_nothing_to_embed_is_no_job(asked: EmbedRequest | OldEmbedRequest) -> None:
    assert embed_task(asked, "n") is None


def test_vectors_are_told_as_ollama_tells_them() -> None:
    found = embeds(answer(*map(vector_line, VECTORS)), EmbedRequest(model="m", input=["a", "b"]), total_ns=7)

    assert found.embeddings == [pytest.approx(vector) for vector in VECTORS]
    assert (found.total_duration, found.load_duration, found.prompt_eval_count) == (7, 2_000_000, 9)
    assert old_embedding(answer(vector_line([1.0]))).embedding == [1.0]
