"""Addresses of Ollama's API: every request for text is a job like any other, every model is one that a pool has."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiohttp import web

from llorch.edge import Endpoint, Words, query, read, reply, stream
from llorch.errors import InvalidRequest, LlorchError
from llorch.job import JobId
from llorch.wire import events
from llorch.wire.ollama import (
    Asked,
    ChatLine,
    GenerateLine,
    OllamaChat,
    OllamaError,
    OllamaGenerate,
    OllamaVersion,
)
from llorch.wire.tasks import SubmitTask
from roles.orchestrator.api.dialogue import jobs, room, steps, whole
from roles.orchestrator.api.keys import CORE
from roles.orchestrator.clock import now_ms
from roles.orchestrator.core import Orchestrator
from roles.orchestrator.dialects import ollama as words
from roles.orchestrator.dialects.answer import Gathering
from roles.orchestrator.dialects.ollama_models import wanted

SPOKEN = "0.12.11"
"""The version of Ollama whose API this is: clients ask before they use what is new."""
IN_LINES = {"Content-Type": "application/x-ndjson"}
WORDS = Words(OllamaError, words.error_reply)


async def chat(request: web.Request) -> web.StreamResponse:
    """POST /api/chat."""
    asked = await read(request, OllamaChat)
    name = await called(request.app[CORE], asked.model)
    task = words.chat_task(asked, name, room=room(request, name))
    return await _answer(request, asked, task, chat=True, loads=not asked.messages)


async def generate(request: web.Request) -> web.StreamResponse:
    """POST /api/generate."""
    asked = await read(request, OllamaGenerate)
    name = await called(request.app[CORE], asked.model)
    task = words.generate_task(asked, name, room=room(request, name))
    return await _answer(request, asked, task, chat=False, loads=not asked.prompt)


async def version(request: web.Request) -> web.Response:
    """GET /api/version."""
    query(request)
    return reply(OllamaVersion(SPOKEN))


async def here(request: web.Request) -> web.Response:
    """GET /: what Ollama's own command asks first."""
    query(request)
    return web.Response(text="llorch is running, and speaks Ollama's API")


async def unable(request: web.Request) -> web.Response:
    """What of Ollama's API there is nothing behind."""
    raise InvalidRequest(f"{request.path} is not supported by llorch")


async def called(core: Orchestrator, name: str) -> str:
    """Return the name that llorch has for what a client of Ollama's API calls *name*.

    Raises:
        LlorchError: It means a file of a repository, and no single one can be found.
    """
    meant = wanted(name, core.names.known)
    return meant if isinstance(meant, str) else await core.names.quantised(meant.repo, meant.quantisation)


async def _answer(
    request: web.Request, asked: Asked, task: SubmitTask, *, chat: bool, loads: bool
) -> web.StreamResponse:
    began_ns = time.perf_counter_ns()
    lines = words.Lines(asked.model, chat=chat)
    core = request.app[CORE]
    unloads = loads and task.keep_alive == 0
    if unloads and core.fleet.any_client(core.names.here(task.model)) is None:
        return reply(lines.whole(words.Answered(), words.UNLOADED, now_ms=now_ms()))
    async with jobs(request, [task]) as [job]:
        headers = {"X-Job-Id": job}
        if asked.stream is not False and not loads:
            async with aclosing(_lines(request, job, lines, began_ns)) as blocks:
                return await stream(request, blocks, headers=headers | IN_LINES)
        answer = await whole(request, job)
        if loads:
            done = words.UNLOADED if unloads else words.LOADED
            return reply(lines.whole(words.Answered(), done, now_ms=now_ms()), headers=headers)
        done = words.done(answer.end, total_ns=time.perf_counter_ns() - began_ns)
        return reply(lines.whole(words.answered(answer), done, now_ms=now_ms()), headers=headers)


async def _lines(request: web.Request, job: JobId, lines: words.Lines, began_ns: int) -> AsyncGenerator[bytes, None]:
    """Yield the answer as it comes; a line without text where others would send a comment."""
    gathering = Gathering(job)
    try:
        async with aclosing(steps(request, job)) as found:
            async for step in found:
                if isinstance(step, events.End):
                    done = words.done(step, total_ns=time.perf_counter_ns() - began_ns)
                    calls = gathering.answer(step).tool_calls
                    yield lines.calls(calls, now_ms=now_ms()) + lines.last(done, now_ms=now_ms())
                elif isinstance(step, events.Token):
                    gathering.add(step)
                    if line := lines.piece(step, now_ms=now_ms()):
                        yield line
                elif step is None:
                    yield lines.alive(now_ms=now_ms())
    except LlorchError as error:
        yield words.error_line(error)


_REFUSALS = (404, 409, 429, 502, 503, 504, 507)
_UNABLE = ("create", "copy", "push")
ENDPOINTS = (
    Endpoint(
        "POST",
        "/api/chat",
        chat,
        "Ollama's chat, in lines unless `stream` is false.",
        body=OllamaChat,
        replies={200: ChatLine},
        refusals=_REFUSALS,
        lines=True,
        words=WORDS,
    ),
    Endpoint(
        "POST",
        "/api/generate",
        generate,
        "Ollama's completion, in lines unless `stream` is false.",
        body=OllamaGenerate,
        replies={200: GenerateLine},
        refusals=_REFUSALS,
        lines=True,
        words=WORDS,
    ),
    Endpoint(
        "GET",
        "/api/version",
        version,
        "The version of Ollama whose API this is.",
        replies={200: OllamaVersion},
        words=WORDS,
    ),
    Endpoint("GET", "/", here, "Something answers here.", media_type="text/plain", words=WORDS),
    *(Endpoint("POST", f"/api/{name}", unable, "Not supported: always refused.", words=WORDS) for name in _UNABLE),
)
