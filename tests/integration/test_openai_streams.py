"""A worker whose server writes its stream in another shape: llama.cpp's own, behind a gateway that reshapes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from msgspec import convert

from llorch.serve import running
from llorch.settings import Server
from tests.support.servers import LlamaServer, llama_server
from tests.support.workers import Worker, last, text_of, worker

HAIKU = Path(__file__).parents[2] / "llorch/assets/haiku.gguf"
JOB: dict[str, Any] = {"prompt": "Write a haiku about rain", "temperature": 0, "max_tokens": 8}
Reshape = Callable[[bytes], bytes]


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    with llama_server(HAIKU, tmp_path_factory.mktemp("server")) as server:
        yield server


@asynccontextmanager
async def behind(server: LlamaServer, reshape: Reshape) -> AsyncIterator[Worker]:
    """Run a worker of a server that looks like one of no known kind; its lines are passed on as *reshape* says."""

    async def passed_on(request: web.Request) -> web.StreamResponse:
        if request.path == "/props":
            return web.Response(status=404)
        body, generates = await request.read(), request.path == "/v1/completions"
        async with http.request(request.method, request.path, data=body or None, headers=dict(request.headers)) as came:
            answer = web.StreamResponse(status=came.status)
            await answer.prepare(request)
            async for line in came.content:
                await answer.write(reshape(line) if generates else line)
            return answer

    app = web.Application()
    app.add_routes([web.route("*", "/{path:.*}", passed_on)])
    keys: dict[str, Any] = {"engine": "openai", "model_ref": f"server:other/{LlamaServer.name}"}
    async with (
        aiohttp.ClientSession(server.url.removesuffix("/v1")) as http,
        running(app, "127.0.0.1", 0) as url,
        worker(Path("server:other/x"), **keys, server=convert({"url": url}, Server)) as found,
    ):
        yield found


def as_it_is(line: bytes) -> bytes:
    return line


def in_characters(line: bytes) -> bytes:
    """Cut the text of a piece into pieces of one character, as a server does that filters what it puts out."""
    if not line.startswith(b"data: {"):
        return line
    told = msgspec.json.decode(line.removeprefix(b"data: "))
    text = told["choices"][0].get("text", "") if told["choices"] else ""
    if len(text) < 2:
        return line
    pieces = [told | {"choices": [told["choices"][0] | {"text": character}]} for character in text]
    return b"\n".join(b"data: " + msgspec.json.encode(piece) + b"\n" for piece in pieces)


async def test_a_text_that_comes_in_pieces_smaller_than_tokens_is_whole_and_counted_by_the_server(
    server: LlamaServer,
) -> None:
    ends = []
    for reshape in (as_it_is, in_characters):
        async with behind(server, reshape) as found:
            events = await found.execute("job", **JOB)
            told = last(events)
            ends.append((text_of(events), told["stop_reason"], told["tokens_in"], told["tokens_out"]))

    assert ends[0] == ends[1]
    assert ends[0][1:] == ("max_tokens", 7, 8)
    assert len(ends[0][0]) > 8
