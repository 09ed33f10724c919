"""Addresses of Anthropic's Messages API: every request is a job like any other."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiohttp import web

from llorch.edge import Endpoint, Words, correlation_id, read, reply, stream
from llorch.errors import LlorchError, NoPool, NotReady
from llorch.job import JobId
from llorch.wire import events
from llorch.wire.anthropic import CountRequest, MessageErrorReply, MessageReply, MessagesRequest, TokensCounted
from llorch.wire.workers import TokenCount
from roles.orchestrator.api.dialogue import jobs, room, steps, whole
from roles.orchestrator.api.keys import CORE
from roles.orchestrator.dialects import anthropic as words
from roles.orchestrator.dialects import anthropic_replies as replies

WORDS = Words(MessageErrorReply, replies.error_reply, "Request-Id")


async def messages(request: web.Request) -> web.StreamResponse:
    """POST /v1/messages."""
    asked = await read(request, MessagesRequest)
    async with jobs(request, [words.task(asked, room=room(request, asked.model))]) as [job]:
        headers = {"X-Job-Id": job}
        if asked.stream:
            async with aclosing(_stream(request, job, asked)) as blocks:
                return await stream(request, blocks, headers=headers)
        return reply(replies.whole_reply(await whole(request, job), asked), headers=headers)


async def count(request: web.Request) -> web.StreamResponse:
    """POST /v1/messages/count_tokens: what the model's own tokeniser says."""
    asked = await read(request, CountRequest)
    core = request.app[CORE]
    client = core.fleet.any_client(core.names.here(asked.model))
    if not core.fleet.online():
        raise NoPool("no pool is online, so nobody can count; start one with: llorch serve pool", retry_after_s=5)
    if client is None:
        raise NotReady("no worker has this model loaded, so nobody can count; send a message first", retry_after_s=5)
    counted = await client.send("POST", "/count", TokenCount, body=words.count(asked))
    return reply(TokensCounted(counted.tokens))


async def _stream(request: web.Request, job: JobId, asked: MessagesRequest) -> AsyncGenerator[bytes, None]:
    written = replies.Events(job, asked)
    try:
        async with aclosing(steps(request, job)) as found:
            async for step in found:
                if isinstance(step, events.Started):
                    yield written.first(tokens_in=step.tokens_in)
                elif isinstance(step, events.Token):
                    yield written.piece(step)
                elif isinstance(step, events.End):
                    yield written.last(step)
                else:
                    yield replies.PING
    except LlorchError as error:
        yield replies.error_event(error, correlation_id(request))


_REFUSALS = (404, 409, 429, 502, 503, 504, 507)
ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/messages",
        messages,
        "Anthropic's messages. With `stream` the answer is its event stream.",
        body=MessagesRequest,
        replies={200: MessageReply},
        refusals=_REFUSALS,
        events=True,
        words=WORDS,
    ),
    Endpoint(
        "POST",
        "/v1/messages/count_tokens",
        count,
        "How many tokens a message is, by the model's own tokeniser; a worker must have the model loaded.",
        body=CountRequest,
        replies={200: TokensCounted},
        refusals=_REFUSALS,
        words=WORDS,
    ),
)
