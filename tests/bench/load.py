"""Load on plain asyncio streams: cheap enough that the server, not the generator, is what is measured."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

TOKEN = b"event: token"
ENDS = (b"event: end", b"event: error", b'"stop":true', b"data: [DONE]")
TAIL = 4096
"""So many last bytes of an answer are kept."""


class Refused(RuntimeError):
    """The answer is an error."""


@dataclass(slots=True)
class Streamed:
    """What one reader saw; `tail` is the end of it, `total_s` the time to the mark of the end."""

    first_token_s: float = 0.0
    total_s: float = 0.0
    tokens: int = 0
    ended: bool = False
    tail: bytes = field(default=b"", repr=False)


def _request(path: str, body: bytes, *, accept: str = "application/json", more: str = "") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: {accept}\r\n"
        f"Content-Length: {len(body)}\r\n{more}\r\n"
    )
    return head.encode() + body


@asynccontextmanager
async def _posted(port: int, request: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, float]]:
    """Send a request on a connection of its own; give its answer, whose head has been read, and when it was sent.

    Raises:
        Refused: The answer is an error.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    try:
        before = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        status = head.partition(b"\r\n")[0]
        if b" 200 " not in status:
            raise Refused(f"{status.decode()}: {(await reader.read(TAIL)).decode(errors='replace')}")
        yield reader, before
    finally:
        writer.close()


async def submissions(port: int, *, connections: int, seconds: float, model: str) -> list[float]:
    """Submit on kept connections as fast as answers come; return the latency of each in seconds."""
    body = json.dumps({"model": model, "prompt": "Write a haiku about rain, please. " * 4, "max_tokens": 32}).encode()
    sent = _request("/v2/tasks", body)
    latencies: list[float] = []
    stop = time.perf_counter() + seconds

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (before := time.perf_counter()) < stop:
            writer.write(sent)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 202"), head
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            latencies.append(time.perf_counter() - before)
        writer.close()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(connections):
            tasks.create_task(one())
    return latencies


async def stream(port: int, path: str, body: bytes, mark: bytes | re.Pattern[bytes], *, more: str = "") -> Streamed:
    """Post and read the event stream that is the answer to its end.

    Args:
        port: On this machine.
        path: Of the address.
        body: JSON.
        mark: What every line has that brings a token.
        more: Header lines.
    """
    seen = Streamed()
    rest = b""
    async with _posted(port, _request(path, body, accept="text/event-stream", more=more)) as (reader, before):
        while data := await reader.read(2**18):
            found = rest + data
            end = found.rfind(b"\n") + 1
            lines, rest = found[:end], found[end:]
            fresh = lines.count(mark) if isinstance(mark, bytes) else len(mark.findall(lines))
            if fresh and not seen.tokens:
                seen.first_token_s = time.perf_counter() - before
            seen.tokens += fresh
            seen.tail = (seen.tail + lines[-TAIL:])[-TAIL:]
            if any(one in lines for one in ENDS):
                seen.ended = True
                break
        seen.total_s = time.perf_counter() - before
    return seen


async def whole(port: int, path: str, body: bytes, *, more: str = "") -> Streamed:
    """Post and read an answer that comes in one piece; *more* are header lines."""
    async with _posted(port, _request(path, body, more=f"Connection: close\r\n{more}")) as (reader, before):
        answer = await reader.read()
        return Streamed(total_s=time.perf_counter() - before, ended=True, tail=answer[-TAIL:])


async def kept_up(
    ask: Callable[[], Awaitable[Streamed]], *, in_flight: int, seconds: float
) -> tuple[list[Streamed], float]:
    """Ask again as soon as an answer has ended, for so long; return what each saw, and the seconds to the last end."""
    seen: list[Streamed] = []
    before = time.perf_counter()

    async def one() -> None:
        while True:
            seen.append(await ask())
            if time.perf_counter() - before >= seconds:
                break

    async with asyncio.TaskGroup() as tasks:
        for _ in range(in_flight):
            tasks.create_task(one())
    return seen, time.perf_counter() - before


async def streams(
    port: int, path: str, body: bytes, *, count: int, mark: bytes = TOKEN
) -> tuple[list[Streamed], float]:
    """Run several streams at once; return what each saw, and the seconds for all."""
    before = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(stream(port, path, body, mark)) for _ in range(count)]
    return [task.result() for task in running], time.perf_counter() - before
