"""Submissions as fast as an orchestrator answers them.

Plain sockets and no more HTTP than that takes: a whole client costs as much as the orchestrator, and both share this
machine, so it would be the client that is measured.
"""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

import msgspec

from llorch.cli.bench_figures import Percentiles, percentiles, rate
from llorch.errors import Unreachable
from llorch.wire.codec import encode
from llorch.wire.tasks import SubmitTask

PROMPT = "Write a haiku about rain, please. " * 4


class Submissions(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs an orchestrator took, each of them on disk before its answer."""

    connections: int
    seconds: float
    jobs: int
    jobs_per_s: float | None
    latency_ms: Percentiles


async def submit_for(url: str, model: str, *, connections: int, seconds: float) -> Submissions:
    """Submit over so many connections for so many seconds.

    Raises:
        Unreachable: A submission was not accepted.
    """
    task = SubmitTask(model=model, prompt=PROMPT, max_tokens=32)
    request = _request(encode(task))
    where = urlsplit(url)
    latencies_ms: list[float] = []
    began_s = time.perf_counter()

    async def submitter() -> None:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        while (before_s := time.perf_counter()) < began_s + seconds:
            writer.write(request)
            status, length = answer(await reader.readuntil(b"\r\n\r\n"))
            await reader.readexactly(length)
            if status != 202:
                raise Unreachable(f"the orchestrator refused a submission with status {status}")
            latencies_ms.append((time.perf_counter() - before_s) * 1e3)
        writer.close()

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(submitter())
    except* (OSError, asyncio.IncompleteReadError) as lost:
        raise Unreachable(f"the orchestrator went away: {lost.exceptions[0]}") from None
    took_s = time.perf_counter() - began_s
    return Submissions(
        connections=connections,
        seconds=round(took_s, 3),
        jobs=len(latencies_ms),
        jobs_per_s=rate(len(latencies_ms), took_s),
        latency_ms=percentiles(latencies_ms),
    )


def answer(head: bytes) -> tuple[int, int]:
    """Return the status and the length of the body that an answer's head tells of. Pure."""
    first, *lines = head.decode("latin-1").split("\r\n")
    lengths = [line.partition(":")[2] for line in lines if line.lower().startswith("content-length:")]
    return int(first.split(" ")[1]), int(lengths[0]) if lengths else 0


def _request(body: bytes) -> bytes:
    head = (
        "POST /v2/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
