"""The client when what it speaks to, or the client itself, goes away under a reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from llorch.client import Client
from llorch.edge import Endpoint, create_app, stream
from llorch.errors import Unreachable
from llorch.metrics import HttpMetrics
from llorch.serve import running
from llorch.sse import KEEPALIVE


def endless(left: list[web.StreamResponse], *, break_first: bool = False) -> web.Application:
    """Return a server of one stream that begins and never ends; what its handler returned is put into *left*."""

    async def blocks() -> AsyncIterator[bytes]:
        yield KEEPALIVE
        await asyncio.Event().wait()

    async def events(request: web.Request) -> web.StreamResponse:
        if break_first:
            assert request.transport is not None
            request.transport.close()
        response = await stream(request, blocks())
        left.append(response)
        return response

    async def lifetime(_app: web.Application) -> AsyncIterator[None]:
        yield

    endpoint = Endpoint("GET", "/events", events, "Stream.", events=True)
    return create_app([endpoint], lifetime, metrics=HttpMetrics(CollectorRegistry()))


async def test_a_client_that_is_closed_under_a_reader_tells_it_so() -> None:
    async with running(endless([]), "127.0.0.1", 0) as url, Client(url, what="the worker") as client:
        reading = client.blocks("/events")
        await anext(reading)
        await client.__aexit__()

        with pytest.raises(Unreachable, match="not there any more"):
            await anext(reading)


async def test_a_reader_that_left_before_the_answer_began_is_no_failure_of_the_server() -> None:
    left: list[web.StreamResponse] = []
    async with running(endless(left, break_first=True), "127.0.0.1", 0) as url, Client(url) as client:
        with pytest.raises(Unreachable):
            await anext(client.blocks("/events"))

        assert {response.status for response in left} == {200}  # a GET is tried once more
