"""Addresses of other programs' APIs for embeddings and reranking: every request is one job, like any other."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
from aiohttp import web

from llorch.edge import Endpoint, read, reply, reply_in_pieces
from llorch.wire.ollama import EmbedRequest, Embeds, OldEmbeddings, OldEmbedRequest
from llorch.wire.openai_embeddings import EmbeddingRequest, Embeddings, Reranked, RerankRequest
from llorch.wire.tasks import SubmitTask
from roles.orchestrator import answers
from roles.orchestrator.api.dialogue import jobs, whole
from roles.orchestrator.api.keys import CORE
from roles.orchestrator.api.ollama import WORDS as OLLAMA
from roles.orchestrator.api.ollama import called
from roles.orchestrator.api.openai import WORDS
from roles.orchestrator.dialects import embeddings as words
from roles.orchestrator.dialects.answer import Answer


async def embeddings(request: web.Request) -> web.Response:
    """POST /v1/embeddings."""
    asked = await read(request, EmbeddingRequest)
    return await _answered(request, words.embedding_task(asked), lambda answer: words.embeddings(answer, asked))


async def rerank(request: web.Request) -> web.Response:
    """POST /v1/rerank."""
    asked = await read(request, RerankRequest)
    return await _answered(request, words.rerank_task(asked), lambda answer: words.reranked(answer, asked))


async def embed(request: web.Request) -> web.Response:
    """POST /api/embed."""
    began_ns = time.perf_counter_ns()
    asked = await read(request, EmbedRequest)
    task = words.embed_task(asked, await called(request.app[CORE], asked.model))
    if task is None:
        return reply(Embeds(model=asked.model, embeddings=[]))

    def build(answer: Answer) -> Embeds:
        return words.embeds(answer, asked, total_ns=time.perf_counter_ns() - began_ns)

    return await _answered(request, task, build)


async def embed_one(request: web.Request) -> web.Response:
    """POST /api/embeddings."""
    asked = await read(request, OldEmbedRequest)
    task = words.embed_task(asked, await called(request.app[CORE], asked.model))
    return reply(OldEmbeddings([])) if task is None else await _answered(request, task, words.old_embedding)


async def _answered(request: web.Request, task: SubmitTask, build: Callable[[Answer], msgspec.Struct]) -> web.Response:
    async with jobs(request, [task]) as [job]:
        answer = await whole(request, job)
        pieces = await answers.told([answer], lambda: build(answer))
    return reply_in_pieces(pieces, headers={"X-Job-Id": job})


_REFUSALS = (404, 409, 429, 502, 503, 504, 507)
ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/embeddings",
        embeddings,
        "OpenAI's embeddings: a vector of length 1 for each input.",
        body=EmbeddingRequest,
        replies={200: Embeddings},
        refusals=_REFUSALS,
        words=WORDS,
    ),
    Endpoint(
        "POST",
        "/v1/rerank",
        rerank,
        "Documents by how much they have to do with a query, as llama.cpp's server and vLLM have it.",
        body=RerankRequest,
        replies={200: Reranked},
        refusals=_REFUSALS,
        words=WORDS,
    ),
    Endpoint(
        "POST",
        "/api/embed",
        embed,
        "Ollama's embeddings.",
        body=EmbedRequest,
        replies={200: Embeds},
        refusals=_REFUSALS,
        words=OLLAMA,
    ),
    Endpoint(
        "POST",
        "/api/embeddings",
        embed_one,
        "Ollama's older way to embed one text.",
        body=OldEmbedRequest,
        replies={200: OldEmbeddings},
        refusals=_REFUSALS,
        words=OLLAMA,
    ),
)
