"""Addresses of OpenAI's API: every request is a job, or several, like any other."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial

from aiohttp import web
from msgspec import UNSET

from llorch.edge import Endpoint, Words, correlation_id, read, reply, stream
from llorch.errors import LlorchError
from llorch.job import JobId
from llorch.models import BUILTIN_ALIASES
from llorch.sse import KEEPALIVE
from llorch.wire import events
from llorch.wire.openai import ApiErrorReply, Asked, ChatRequest, CompletionRequest, ModelCard, ModelCards
from llorch.wire.openai_replies import ChatCompletion, Completion
from llorch.wire.tasks import SubmitTask
from roles.orchestrator.api.dialogue import jobs, room, steps, whole
from roles.orchestrator.api.keys import CORE
from roles.orchestrator.core import Orchestrator
from roles.orchestrator.dialects import openai as words
from roles.orchestrator.dialects import openai_replies as replies
from roles.orchestrator.dialects.too_long import PromptField
from roles.orchestrator.interleave import interleaved


def spoken(asked: PromptField) -> Words:
    """Return how an address tells what went wrong, whose requests have the prompt in that field."""
    return Words(ApiErrorReply, partial(replies.error_reply, asked=asked), "X-Request-Id")


WORDS = spoken("messages")


async def chat(request: web.Request) -> web.StreamResponse:
    """POST /v1/chat/completions."""
    asked = await read(request, ChatRequest)
    tasks = words.chat_tasks(asked, room=room(request, asked.model))
    return await _answer(request, asked, tasks, chat=True)


async def complete(request: web.Request) -> web.StreamResponse:
    """POST /v1/completions."""
    asked = await read(request, CompletionRequest)
    tasks = words.completion_tasks(asked, room=room(request, asked.model))
    return await _answer(request, asked, tasks, chat=False)


async def cards(request: web.Request) -> web.Response:
    """GET /v1/models."""
    core = request.app[CORE]
    return reply(ModelCards(data=[_card(core, name) for name in _names(core)]))


async def card(request: web.Request) -> web.Response:
    """GET /v1/models/{id}: an alias, or a reference with all its slashes."""
    return reply(_card(request.app[CORE], request.match_info["id"]))


async def _answer(request: web.Request, asked: Asked, tasks: Sequence[SubmitTask], *, chat: bool) -> web.StreamResponse:
    created_s = int(time.time())
    async with jobs(request, tasks) as accepted:
        headers = {"X-Job-Id": accepted[0]}
        if asked.stream:
            wanted = asked.stream_options is not None and asked.stream_options.include_usage
            chunks = replies.Chunks(accepted[0], name=asked.model, created_s=created_s, chat=chat, with_usage=wanted)
            async with aclosing(_stream(request, accepted, chunks)) as blocks:
                return await stream(request, blocks, headers=headers)
        answers = [await whole(request, job) for job in accepted]
        build = replies.chat_reply if chat else replies.completion_reply
        return reply(build(answers, name=asked.model, created_s=created_s), headers=headers)


async def _stream(
    request: web.Request, accepted: Sequence[JobId], chunks: replies.Chunks
) -> AsyncGenerator[bytes, None]:
    """Yield all answers as they come; what is not text yet is a comment."""
    ends: list[events.End] = []
    try:
        async with aclosing(interleaved([steps(request, job) for job in accepted])) as found:
            async for index, step in found:
                if isinstance(step, events.Started):
                    chunks.engine = chunks.engine or step.engine
                    yield chunks.first(index)
                elif isinstance(step, events.Token):
                    yield chunks.piece(index, step)
                elif isinstance(step, events.End):
                    ends.append(step)
                    yield chunks.end(index, step)
                else:
                    yield KEEPALIVE
        yield chunks.last(ends)
    except LlorchError as error:
        yield chunks.failed(error, correlation_id(request))


def _card(core: Orchestrator, name: str) -> ModelCard:
    known = core.fleet.model(core.names.here(name))
    plain = known is None or known.capabilities == ["text-gen"]
    return ModelCard(id=name, capabilities=UNSET if known is None or plain else known.capabilities)


def _names(core: Orchestrator) -> list[str]:
    aliases = {**BUILTIN_ALIASES, **core.aliases}
    files = {model.model_ref for record in core.fleet.online() for model in record.servable} - set(aliases.values())
    return sorted(aliases) + sorted(name for ref in files for name in core.names.shown(ref) or [ref])


_REFUSALS = (404, 409, 429, 502, 503, 504, 507)
ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/chat/completions",
        chat,
        "OpenAI's chat. With `stream` the answer is its event stream.",
        body=ChatRequest,
        replies={200: ChatCompletion},
        refusals=_REFUSALS,
        events=True,
        words=WORDS,
    ),
    Endpoint(
        "POST",
        "/v1/completions",
        complete,
        "OpenAI's plain completion.",
        body=CompletionRequest,
        replies={200: Completion},
        refusals=_REFUSALS,
        events=True,
        words=spoken("prompt"),
    ),
    Endpoint("GET", "/v1/models", cards, "Models that can be asked for.", replies={200: ModelCards}, words=WORDS),
    Endpoint("GET", "/v1/models/{id:.+}", card, "One of them.", replies={200: ModelCard}, words=WORDS),
)
