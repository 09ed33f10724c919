"""A server of OpenAI's chat completions that costs next to nothing: words without a model behind them.

So what is measured in front of it is whatever stands there. It writes each word by itself, as an engine does: at once,
or one in GAP_MS milliseconds. Usage: python -m tests.bench.chat_source NAME GAP_MS
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from llorch.edge import Endpoint, create_app, read, reply, stream
from llorch.metrics import HttpMetrics
from llorch.serve import Site, run, serve

WORD = " word"


class Options(msgspec.Struct, frozen=True):
    """`stream_options`."""

    include_usage: bool = False


class Chat(msgspec.Struct, frozen=True):
    """What it looks at of a request."""

    max_tokens: int
    stream: bool = False
    stream_options: Options | None = None


class _Source:
    def __init__(self, name: str, gap_s: float) -> None:
        self._name = name
        self._gap_s = gap_s

    async def models(self, request: web.Request) -> web.Response:
        card = {"id": self._name, "object": "model", "created": 0, "owned_by": "bench"}
        return reply({"object": "list", "data": [card]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        asked = await read(request, Chat)
        usage = {"prompt_tokens": 1, "completion_tokens": asked.max_tokens, "total_tokens": 1 + asked.max_tokens}
        if asked.stream:
            wanted = usage if asked.stream_options is not None and asked.stream_options.include_usage else None
            return await stream(request, self._events(asked.max_tokens, wanted))
        await asyncio.sleep(self._gap_s * asked.max_tokens)
        message = {"role": "assistant", "content": WORD * asked.max_tokens}
        choice = {"index": 0, "message": message, "finish_reason": "length"}
        return reply(self._head("chat.completion") | {"choices": [choice], "usage": usage})

    async def _events(self, count: int, usage: object) -> AsyncIterator[bytes]:
        yield self._event([_choice({"role": "assistant", "content": ""})])
        word = self._event([_choice({"content": WORD})])
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for number in range(1, count + 1):
            if self._gap_s:
                await asyncio.sleep(began_s + number * self._gap_s - loop.time())
            yield word
        yield self._event([_choice({}, "length")])
        if usage is not None:
            yield self._event([], usage)
        yield b"data: [DONE]\n\n"

    def _event(self, choices: list[object], usage: object = None) -> bytes:
        chunk = self._head("chat.completion.chunk") | {"choices": choices} | ({"usage": usage} if usage else {})
        return b"data: " + msgspec.json.encode(chunk) + b"\n\n"

    def _head(self, kind: str) -> dict[str, object]:
        return {"id": "chatcmpl-bench", "object": kind, "created": 0, "model": self._name}


def _choice(delta: dict[str, str], reason: str | None = None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "finish_reason": reason}


async def _lifetime(app: web.Application) -> AsyncIterator[None]:
    yield


def main() -> int:
    """Serve until told to stop."""
    source = _Source(sys.argv[1], float(sys.argv[2]) / 1e3)
    app = create_app(
        [
            Endpoint("GET", "/v1/models", source.models, "Its one model."),
            Endpoint("POST", "/v1/chat/completions", source.chat, "Words."),
        ],
        _lifetime,
        metrics=HttpMetrics(CollectorRegistry()),
    )

    async def served() -> int:
        return await serve([Site(app, "127.0.0.1", 0)])

    return run(served)


if __name__ == "__main__":
    sys.exit(main())
