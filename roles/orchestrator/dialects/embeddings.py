"""Embeddings and reranking in the words of other APIs: what they ask for, and what a job's lines are to them. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import UNSET

from llorch.wire.codec import FieldProblem, invalid
from llorch.wire.embedding import Rerank, read_score, read_vector, vector_line
from llorch.wire.ollama import EmbedRequest, Embeds, OldEmbeddings, OldEmbedRequest
from llorch.wire.openai_embeddings import (
    Document,
    Embedded,
    EmbeddingRequest,
    Embeddings,
    Ranked,
    ReadUsage,
    Reranked,
    RerankRequest,
)
from llorch.wire.tasks import SubmitTask
from roles.orchestrator.dialects.answer import Answer
from roles.orchestrator.dialects.ollama import NS_PER_MS, keeping
from roles.orchestrator.dialects.openai import submission


def embedding_task(asked: EmbeddingRequest) -> SubmitTask:
    """Return the job that a request for embeddings is.

    Raises:
        InvalidRequest: Its input is neither texts nor tokens, or empty.
    """
    return submission(
        {
            "model": asked.model,
            "input": _inputs(asked.input),
            "truncate": asked.truncate or False,
            "priority": asked.priority,
            "session_id": asked.session_id,
        }
    )


def embeddings(answer: Answer, asked: EmbeddingRequest) -> Embeddings:
    """Return the vectors that a job has made.

    Raises:
        InvalidRequest: They have fewer dimensions than were asked for.
        EngineFailed: One of them is none.
    """
    in_base64 = asked.encoding_format == "base64"
    data = [
        Embedded(index=index, embedding=_embedding(line, asked.dimensions, in_base64=in_base64))
        for index, line in enumerate(answer.text.splitlines())
    ]
    return Embeddings(data=data, model=asked.model, usage=_usage(answer))


def rerank_task(asked: RerankRequest) -> SubmitTask:
    """Return the job that a request for reranking is; raises as `embedding_task` does."""
    return submission(
        {
            "model": asked.model,
            "rerank": Rerank(asked.query, _texts(asked)),
            "truncate": asked.truncate or False,
            "priority": asked.priority,
            "session_id": asked.session_id,
        }
    )


def reranked(answer: Answer, asked: RerankRequest) -> Reranked:
    """Return the documents in the order of their scores; of those with the same, the first one first.

    Raises:
        EngineFailed: One of them is none.
    """
    scores = [read_score(line) for line in answer.text.splitlines()]
    texts = _texts(asked)
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    results = [
        Ranked(
            index=index,
            relevance_score=scores[index],
            document=Document(texts[index]) if asked.return_documents else UNSET,
        )
        for index in order[: asked.top_n]
    ]
    return Reranked(id=f"rerank-{answer.job_id}", model=asked.model, results=results, usage=_usage(answer))


def embed_task(asked: EmbedRequest | OldEmbedRequest, name: str) -> SubmitTask | None:
    """Return the job that a request of Ollama's API is, for the model *name*; None where there is nothing to embed.

    Raises:
        InvalidRequest: As `embedding_task` does.
    """
    found = ollama_inputs(asked)
    if not found:
        return None
    cuts = not isinstance(asked, EmbedRequest) or asked.truncate is not False
    return submission({"model": name, "input": found, "truncate": cuts, "keep_alive": keeping(asked)})


def ollama_inputs(asked: EmbedRequest | OldEmbedRequest) -> list[str]:
    """Return the texts of a request of Ollama's API."""
    if isinstance(asked, OldEmbedRequest):
        return [asked.prompt] if asked.prompt else []
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    return [] if texts == [""] else list(texts)


def embeds(answer: Answer, asked: EmbedRequest, *, total_ns: int) -> Embeds:
    """Return the vectors that a job has made, as Ollama tells them; raises as `embeddings` does."""
    return Embeds(
        model=asked.model,
        embeddings=[_cut(read_vector(line), asked.dimensions) for line in answer.text.splitlines()],
        total_duration=total_ns,
        load_duration=answer.end.queue_ms * NS_PER_MS,
        prompt_eval_count=answer.end.tokens_in,
    )


def old_embedding(answer: Answer) -> OldEmbeddings:
    """Return the one vector that a job has made; raises as `reranked` does."""
    return OldEmbeddings(embedding=read_vector(answer.text))


def _inputs(given: str | Sequence[str | int | list[int]]) -> list[str] | list[list[int]]:
    given = [given] if isinstance(given, str) else given
    texts = [each for each in given if isinstance(each, str)]
    tokens = [each for each in given if isinstance(each, int)]
    lists = [each for each in given if isinstance(each, list)]
    if len(texts) == len(given) and all(texts):
        return texts
    if len(tokens) == len(given) and min(tokens) >= 0:
        return [tokens]
    if len(lists) == len(given):
        return lists
    raise invalid([FieldProblem("input", "expected a text, token ids, or a list of either; no text is empty")])


def _embedding(line: str, dimensions: int | None, *, in_base64: bool) -> list[float] | str:
    vector = read_vector(line)
    if in_base64 and dimensions is None:
        return line
    vector = _cut(vector, dimensions)
    return vector_line(vector).rstrip("\n") if in_base64 else vector


def _cut(vector: list[float], dimensions: int | None) -> list[float]:
    """Return the first *dimensions* of a vector, of length 1 again."""
    if dimensions is None:
        return vector
    if dimensions > len(vector):
        raise invalid([FieldProblem("dimensions", f"the model's vectors have {len(vector)}")])
    kept = vector[:dimensions]
    length = math.hypot(*kept)
    return [each / length for each in kept] if length else kept


def _texts(asked: RerankRequest) -> list[str]:
    return [each if isinstance(each, str) else each.text for each in asked.documents]


def _usage(answer: Answer) -> ReadUsage:
    return ReadUsage(answer.end.tokens_in, answer.end.tokens_in)
