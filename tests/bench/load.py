"""Load on plain asyncio streams: cheap enough that the server, not the generator, is what is measured."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field

TOKEN = b"event: token"
ENDS = (b"event: end", b"event: error", b'"stop":true')


@dataclass(slots=True)
class Streamed:
    """What one reader saw."""

    first_token_s: float = 0.0
    tokens: int = 0
    ended: bool = False
    tail: bytes = field(default=b"", repr=False)
    last: bytes = field(default=b"", repr=False)


def _request(path: str, body: bytes, *, accept: str = "application/json") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nAccept: {accept}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


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


async def stream(port: int, path: str, body: bytes, mark: bytes) -> Streamed:
    """Post and read the event stream that is the answer to its end; *mark* is what every token event begins with."""
    seen = Streamed()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    before = time.perf_counter()
    writer.write(_request(path, body, accept="text/event-stream"))
    keep = len(mark) - 1
    while data := await reader.read(2**18):
        window = seen.tail + data
        fresh = window.count(mark)
        if fresh and not seen.tokens:
            seen.first_token_s = time.perf_counter() - before
        seen.tokens += fresh
        seen.tail = window[-keep:]
        if any(end in seen.last + data for end in ENDS):
            seen.ended = True
            break
        seen.last = data[-32:]
    writer.close()
    return seen


async def streams(
    port: int, path: str, body: bytes, *, count: int, mark: bytes = TOKEN
) -> tuple[list[Streamed], float]:
    """Run several streams at once; return what each saw, and the seconds for all."""
    before = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(stream(port, path, body, mark)) for _ in range(count)]
    return [task.result() for task in running], time.perf_counter() - before
