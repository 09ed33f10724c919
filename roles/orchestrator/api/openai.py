"""Addresses of OpenAI's API: every request is a job, or several, like any other."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import wraps

from aiohttp import web

from llorch import models
from llorch.edge import Endpoint, bearer, correlation_id, read, reply, stream
from llorch.errors import LlorchError
from llorch.job import JobId
from llorch.log import fingerprint
from llorch.models import BUILTIN_ALIASES
from llorch.sse import KEEPALIVE, Splitter
from llorch.wire import events
from llorch.wire.events import START
from llorch.wire.openai import (
    Asked,
    ChatCompletion,
    ChatRequest,
    Completion,
    CompletionRequest,
    ModelCard,
    ModelCards,
)
from llorch.wire.tasks import SubmitTask
from roles.orchestrator.api.keys import CORE
from roles.orchestrator.core import Orchestrator
from roles.orchestrator.dialects import openai as words
from roles.orchestrator.dialects.answer import Answer, Step
from roles.orchestrator.dialects.answer import read as read_events

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _in_its_words(handler: Handler) -> Handler:
    """Answer errors of *handler* as OpenAI's clients expect them."""

    @wraps(handler)
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except LlorchError as error:
            headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
            return reply(words.error_reply(error, correlation_id(request)), status=error.status, headers=headers)

    return handle


@_in_its_words
async def chat(request: web.Request) -> web.StreamResponse:
    """POST /v1/chat/completions."""
    asked = await read(request, ChatRequest)
    tasks = words.chat_tasks(asked, room=_room(request.app[CORE], asked))
    return await _answer(request, asked, tasks, chat=True)


@_in_its_words
async def complete(request: web.Request) -> web.StreamResponse:
    """POST /v1/completions."""
    asked = await read(request, CompletionRequest)
    tasks = words.completion_tasks(asked, room=_room(request.app[CORE], asked))
    return await _answer(request, asked, tasks, chat=False)


async def cards(request: web.Request) -> web.Response:
    """GET /v1/models."""
    return reply(ModelCards(data=[ModelCard(id=name) for name in _names(request.app[CORE])]))


@_in_its_words
async def card(request: web.Request) -> web.Response:
    """GET /v1/models/{id}: an alias, or a reference with all its slashes."""
    name = request.match_info["id"]
    models.resolve(name, request.app[CORE].aliases)
    return reply(ModelCard(id=name))


async def _answer(request: web.Request, asked: Asked, tasks: Sequence[SubmitTask], *, chat: bool) -> web.StreamResponse:
    """Submit the jobs, follow them, and cancel them if the client leaves."""
    core, created_s = request.app[CORE], int(time.time())
    owner = fingerprint(bearer(request)) if bearer(request) else ""
    jobs: list[JobId] = []
    try:
        for task in tasks:
            accepted = await core.submissions.submit(
                task, key=None, owner=owner, correlation_id=correlation_id(request)
            )
            jobs.append(JobId(accepted.job_id))
        headers = {"X-Job-Id": jobs[0]}
        if asked.stream:
            wanted = asked.stream_options is not None and asked.stream_options.include_usage
            chunks = words.Chunks(jobs[0], name=asked.model, created_s=created_s, chat=chat, with_usage=wanted)
            correlation = correlation_id(request)
            async with aclosing(_stream(core, jobs, chunks, owner=owner, correlation=correlation)) as blocks:
                return await stream(request, blocks, headers=headers)
        answers = [await _whole(core, job, owner) for job in jobs]
        build = words.chat_reply if chat else words.completion_reply
        return reply(build(answers, name=asked.model, created_s=created_s), headers=headers)
    finally:
        for job in jobs:
            core.dispatcher.abandon(job)


async def _stream(
    core: Orchestrator, jobs: Sequence[JobId], chunks: words.Chunks, *, owner: str, correlation: str
) -> AsyncGenerator[bytes, None]:
    """Yield the answers as they come, one behind the other; what is not text yet is a comment."""
    ends: list[events.End] = []
    try:
        for index, job in enumerate(jobs):
            async with aclosing(_steps(core, job, owner)) as steps:
                async for step in steps:
                    if isinstance(step, events.Started):
                        chunks.engine = chunks.engine or step.engine
                        if step.first_token == 0:
                            yield chunks.first(index)
                    elif isinstance(step, events.Token):
                        yield chunks.text(index, step.t)
                    elif isinstance(step, events.End):
                        ends.append(step)
                        yield chunks.end(index, step)
                    else:
                        yield KEEPALIVE
        yield chunks.last(ends)
    except LlorchError as error:
        yield words.error_event(error, correlation)


async def _whole(core: Orchestrator, job: JobId, owner: str) -> Answer:
    parts: list[str] = []
    engine = ""
    async with aclosing(_steps(core, job, owner)) as steps:
        async for step in steps:
            if isinstance(step, events.Token):
                parts.append(step.t)
            elif isinstance(step, events.Started):
                engine = engine or step.engine
            elif isinstance(step, events.End):
                return Answer(job, "".join(parts), engine, step)
    raise LlorchError("the job's events ended before the job did")


async def _steps(core: Orchestrator, job: JobId, owner: str) -> AsyncGenerator[Step, None]:
    splitter = Splitter()
    async with aclosing(await core.follow(job, START, owner=owner)) as blocks:
        async for data in blocks:
            for step in read_events(splitter, data):
                yield step


def _room(core: Orchestrator, asked: Asked) -> int | None:
    """Return the context of the model that is asked for, if a pool has told it."""
    model = core.fleet.model(models.resolve(asked.model, core.aliases))
    return None if model is None else model.context_length


def _names(core: Orchestrator) -> list[str]:
    aliases = {**BUILTIN_ALIASES, **core.aliases}
    files = {ref for record in core.fleet.online() for ref in record.models}
    return sorted(aliases) + sorted(files - set(aliases.values()))


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/chat/completions",
        chat,
        "OpenAI's chat. With `stream` the answer is its event stream.",
        body=ChatRequest,
        replies={200: ChatCompletion},
        events=True,
    ),
    Endpoint(
        "POST",
        "/v1/completions",
        complete,
        "OpenAI's plain completion.",
        body=CompletionRequest,
        replies={200: Completion},
        events=True,
    ),
    Endpoint("GET", "/v1/models", cards, "Models that can be asked for.", replies={200: ModelCards}),
    Endpoint("GET", "/v1/models/{id:.+}", card, "One of them.", replies={200: ModelCard}),
)
