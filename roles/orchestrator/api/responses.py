"""The address of OpenAI's Responses API: every request is a job like any other, and nothing is kept between them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiohttp import web

from llorch.edge import Endpoint, read, reply, stream
from llorch.errors import LlorchError
from llorch.job import JobId
from llorch.sse import KEEPALIVE
from llorch.wire import events
from llorch.wire.responses import ResponseReply, ResponsesRequest
from roles.orchestrator.api.dialogue import jobs, room, steps, whole
from roles.orchestrator.api.openai import spoken
from roles.orchestrator.dialects import responses as words
from roles.orchestrator.dialects import responses_replies as replies


async def respond(request: web.Request) -> web.StreamResponse:
    """POST /v1/responses."""
    asked = await read(request, ResponsesRequest)
    created_s = int(time.time())
    async with jobs(request, [words.task(asked, room=room(request, asked.model))]) as [job]:
        headers = {"X-Job-Id": job}
        if asked.stream:
            written = replies.Events(job, asked, created_s=created_s)
            async with aclosing(_stream(request, job, written)) as blocks:
                return await stream(request, blocks, headers=headers)
        answer = await whole(request, job)
        told = replies.whole_reply(answer, asked, created_s=created_s, ended_s=int(time.time()))
        return reply(told, headers=headers)


async def _stream(request: web.Request, job: JobId, written: replies.Events) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(steps(request, job)) as found:
            async for step in found:
                if isinstance(step, events.Started):
                    yield written.first()
                elif isinstance(step, events.Token):
                    yield written.piece(step)
                elif isinstance(step, events.End):
                    yield written.last(step, ended_s=int(time.time()))
                else:
                    yield KEEPALIVE
    except LlorchError as error:
        yield written.failed(error)


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/responses",
        respond,
        "OpenAI's responses, without a state between requests. With `stream` the answer is its event stream.",
        body=ResponsesRequest,
        replies={200: ResponseReply},
        refusals=(404, 409, 429, 502, 503, 504, 507),
        events=True,
        words=spoken("input"),
    ),
)
