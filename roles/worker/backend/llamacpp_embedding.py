"""Embeddings and scores over llama.cpp's own API: the bodies of its `/v1/embeddings` and `/v1/rerank`, in types.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md, checked against the server inside
xllamacpp.
"""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Sequence

import msgspec

from roles.worker.backend.llamacpp_http import EngineHttp

PROBE = "a"


class _Vector(msgspec.Struct, frozen=True):
    index: int
    embedding: str


class _Vectors(msgspec.Struct, frozen=True):
    data: list[_Vector]


class _Score(msgspec.Struct, frozen=True):
    index: int
    relevance_score: float | None


class _Usage(msgspec.Struct, frozen=True):
    total_tokens: int


class _Scores(msgspec.Struct, frozen=True):
    results: list[_Score]
    usage: _Usage


async def vectors(http: EngineHttp, inputs: Sequence[Sequence[int]]) -> list[array[float]]:
    """Return a vector of length 1 for each input.

    Raises:
        EngineFailed: The engine does not answer, or not with vectors.
    """
    body = {"input": inputs, "encoding_format": "base64"}
    found = await http.ask("POST", "/v1/embeddings", body, _Vectors, slots=len(inputs))
    return [_vector(each.embedding) for each in sorted(found.data, key=lambda each: each.index)]


async def scores(http: EngineHttp, query: str, documents: Sequence[str]) -> list[float]:
    """Return a score for each document; raises as `vectors` does."""
    found = await _rank(http, query, documents)
    told = sorted(found.results, key=lambda each: each.index)
    return [float("nan") if each.relevance_score is None else each.relevance_score for each in told]


async def overhead(http: EngineHttp, probe_tokens: int) -> int:
    """Return how many tokens there are around a query and a document; *probe_tokens* is how many `PROBE` is."""
    return (await _rank(http, PROBE, [PROBE])).usage.total_tokens - 2 * probe_tokens


async def _rank(http: EngineHttp, query: str, documents: Sequence[str]) -> _Scores:
    body = {"query": query, "documents": documents}
    return await http.ask("POST", "/v1/rerank", body, _Scores, slots=len(documents))


def _vector(encoded: str) -> array[float]:
    found = array("f", base64.b64decode(encoded))
    if sys.byteorder == "big":
        found.byteswap()
    return found
