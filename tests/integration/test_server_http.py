"""Servers that speak OpenAI's API: what does not stop is refused, never kept, and what is ready is known to be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

import pytest
from aiohttp import web

from llorch import server_http
from llorch.serve import running
from llorch.server_facts import Cards
from llorch.server_http import Refusal, ServerHttp

LIMIT_BYTES = 256 * 1024


@asynccontextmanager
async def endless(data: bytes, *, end: bytes | None = None) -> AsyncIterator[str]:
    """Serve *data* for ever, or to just below the limit and then *end*."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionResetError):
            sent = 0
            while end is None or sent + len(data) + len(end) <= LIMIT_BYTES:
                await response.write(data)
                sent += len(data)
            await response.write(end)
        return response

    app = web.Application()
    app.add_routes([web.route("*", "/{path:.*}", answer)])
    async with running(app, "127.0.0.1", 0) as url:
        yield url


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAX_ANSWER_BYTES", "MAX_PROBE_BYTES", "MAX_LINE_BYTES"):
        monkeypatch.setattr(server_http, name, LIMIT_BYTES)


async def test_an_answer_that_does_not_end_is_refused() -> None:
    async with endless(b" " * 1024) as url, ServerHttp(url) as http:
        with pytest.raises(Refusal, match=f"it gave an answer of more than {LIMIT_BYTES} bytes"):
            await http.ask("GET", "/models", None, Cards, timeout_s=30)
        with pytest.raises(Refusal, match=f"it gave an answer of more than {LIMIT_BYTES} bytes"):
            await http.get(url)


async def test_an_answer_up_to_the_limit_is_read() -> None:
    async with endless(b" " * 1024, end=b'{"data": []}') as url, ServerHttp(url) as http:
        assert await http.cards() == []
        assert (await http.get(url)).endswith(b'{"data": []}')


async def test_a_line_that_does_not_end_is_refused_and_many_lines_are_not() -> None:
    async with (
        endless(b"data: {}\n\n" * 1000) as lines,
        endless(b"data: {}" * 1000) as line,
        ServerHttp(lines) as sound,
        ServerHttp(line) as broken,
    ):
        seen = 0
        async with aclosing(sound.lines("/completions", {})) as found:
            async for texts in found:
                assert set(texts) == {b"{}"}
                seen += len(texts) * len(b"data: {}\n\n")
                if seen > 2 * LIMIT_BYTES:
                    break
        with pytest.raises(Refusal, match=f"it sent a line of more than {LIMIT_BYTES} bytes"):
            await anext(broken.lines("/completions", {}))


@pytest.mark.parametrize(
    ("status", "healthy"),
    [(200, True), (404, True), (401, True), (403, True), (405, True), (501, True), (503, False), (500, False)],
)
async def test_a_server_that_tells_nothing_of_its_health_takes_requests(status: int, *, healthy: bool) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status)

    app = web.Application()
    app.router.add_get("/health", answer)
    async with running(app, "127.0.0.1", 0) as url, ServerHttp(url) as http:
        assert await http.healthy() is healthy
