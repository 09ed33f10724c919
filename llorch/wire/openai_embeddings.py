"""Embeddings as OpenAI's API has them, and reranking as llama.cpp's server and vLLM do. No I/O.

Sources: https://platform.openai.com/docs/api-reference/embeddings, the README of llama.cpp's server, and
https://docs.vllm.ai (rerank API). Fields that are not here are ignored; `priority`, `session_id` and `truncate` are
llorch's own.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from llorch.wire.embedding import MAX_INPUTS, Tokens
from llorch.wire.tasks import Priority

MAX_DIMENSIONS = 65_536
Name = Annotated[str, Meta(min_length=1, max_length=1024)]
SessionId = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$(?!\n)")]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What both have in common; with `truncate`, what is too long for the model is cut off."""

    model: Name
    truncate: bool | None = None
    priority: Priority = "interactive"
    session_id: SessionId | UnsetType = UNSET


class EmbeddingRequest(Asked, frozen=True, kw_only=True):
    """`POST /v1/embeddings`: a text, the tokens of one, or a list of either."""

    input: str | Annotated[list[str | int | Tokens], Meta(min_length=1, max_length=2**20)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=MAX_DIMENSIONS)] | None = None


class ReadUsage(msgspec.Struct, frozen=True):
    """The tokens that the model has read."""

    prompt_tokens: int
    total_tokens: int


class Embedded(msgspec.Struct, frozen=True, kw_only=True):
    """The vector of an input: numbers, or base64 of little-endian 32-bit floats."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class Embeddings(msgspec.Struct, frozen=True, kw_only=True):
    """All of them, in the order of the inputs."""

    data: list[Embedded]
    model: str
    usage: ReadUsage
    object: Literal["list"] = "list"


class Document(msgspec.Struct, frozen=True):
    """A document with its text in a field."""

    text: str


class RerankRequest(Asked, frozen=True, kw_only=True):
    """`POST /v1/rerank`."""

    query: Annotated[str, Meta(min_length=1)]
    documents: Annotated[list[str | Document], Meta(min_length=1, max_length=MAX_INPUTS)]
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool | None = None


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """A document by its place in the request, and how much it has to do with the query."""

    index: int
    relevance_score: float
    document: Document | UnsetType = UNSET


class Reranked(msgspec.Struct, frozen=True, kw_only=True):
    """The documents, the one with the highest score first."""

    id: str
    model: str
    results: list[Ranked]
    usage: ReadUsage
    object: Literal["list"] = "list"
