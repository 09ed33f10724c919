"""The load of `llorch bench`: requests whose event streams are read to the end, so many at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

import msgspec

from llorch.cli.bench_figures import Sample
from llorch.cli.output import one_line
from llorch.client import Client
from llorch.errors import EngineFailed, LlorchError, Unreachable
from llorch.sse import parse_block
from llorch.wire.codec import decode_reply
from llorch.wire.events import Failed

_TOKEN = b"event: token\n"
Measure = Callable[[int], Awaitable[Sample]]


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What the last events of an orchestrator and of a worker have in common; a worker has no queue."""

    tokens_in: int
    tokens_out: int
    queue_ms: int = 0


async def read_job(
    client: Client, path: str, body: object, *, heard: Callable[[str, float], object] | None = None
) -> Sample:
    """Send one request and read its events to the end; a failure is a sample with a code.

    Args:
        client: An orchestrator or a worker.
        path: Where it takes requests.
        body: The request.
        heard: Told the kind of each event but tokens, and the time since the request in seconds.
    """
    began_s = time.perf_counter()
    first_s: float | None = None
    last_s: float | None = None
    code, reason = Unreachable.code, f"{client.what} ended the stream before the job"
    try:
        async with aclosing(client.blocks(path, method="POST", body=body)) as stream:
            async for blocks in stream:
                now_s = time.perf_counter()
                for block in blocks:
                    if block.startswith(_TOKEN):
                        first_s, last_s = first_s or now_s, now_s
                        continue
                    event = parse_block(block)
                    if event is None:
                        continue
                    if heard is not None:
                        heard(event.kind, now_s - began_s)
                    if event.kind == "end":
                        ended = decode_reply(event.data, Ended)
                        return Sample(
                            began_s=began_s,
                            ended_s=now_s,
                            first_token_s=first_s,
                            last_token_s=last_s,
                            tokens_in=ended.tokens_in,
                            tokens_out=ended.tokens_out,
                            queue_ms=ended.queue_ms,
                        )
                    if event.kind == "error":
                        failed = decode_reply(event.data, Failed)
                        return Sample(began_s=began_s, ended_s=now_s, code=failed.code, reason=failed.message)
    except LlorchError as error:
        code, reason = error.code, error.message
    return Sample(began_s=began_s, ended_s=time.perf_counter(), code=code, reason=reason)


async def run(measure: Measure, seen: list[Sample], *, jobs: int, in_flight: int) -> None:
    """Run *jobs* jobs, *in_flight* at a time; each that ends is appended to *seen*, also when this is cancelled."""
    numbers = iter(range(jobs))

    async def reader() -> None:
        while (number := next(numbers, None)) is not None:
            seen.append(await measure(number))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(jobs, in_flight)):
            tasks.create_task(reader())


def check(samples: Sequence[Sample]) -> None:
    """See that nothing failed.

    Raises:
        EngineFailed: A job did, and figures without it would mislead.
    """
    for sample in samples:
        if sample.code:
            raise EngineFailed(f"a job failed, so nothing was measured: {sample.code}: {one_line(sample.reason)}")
