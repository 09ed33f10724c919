"""A worker that costs nothing: answers /execute with token events as fast as the socket takes them.

It speaks the worker's protocol without a model, so that what is measured is the orchestrator alone. Also usable
directly, as the bare source to compare with. Usage: python -m tests.bench.source TOKENS [ORCHESTRATOR_URL]
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from llorch.client import Client
from llorch.edge import ADDRESS, Endpoint, create_app, read, stream
from llorch.metrics import HttpMetrics
from llorch.serve import Site, run, serve
from llorch.sse import encode_event
from llorch.wire.codec import encode
from llorch.wire.events import Token, WorkerEnd, WorkerStarted
from llorch.wire.pools import Device, Heartbeat, HeartbeatReply, Model, Register, Registered, WorkerReport
from llorch.wire.workers import Execute

REF = "file:/bench/source.gguf"
SLOTS = 256
CHUNK = 1


class _Source:
    def __init__(self, tokens: int, orchestrator: str) -> None:
        self._tokens = tokens
        self._orchestrator = orchestrator

    async def execute(self, request: web.Request) -> web.StreamResponse:
        body = await read(request, Execute)
        return await stream(request, self._events(body))

    async def _events(self, body: Execute) -> AsyncIterator[bytes]:
        started = WorkerStarted(job_id=body.job_id, attempt=body.attempt, tokens_in=1, max_tokens=1, engine="source")
        yield encode_event("started", "0.1", encode(started))
        count = body.max_tokens if body.max_tokens is not msgspec.UNSET else self._tokens
        for first in range(0, count, CHUNK):
            last = min(count, first + CHUNK)
            yield b"".join(encode_event("token", f"{i + 1}.0", encode(Token(i, " word"))) for i in range(first, last))
        end = WorkerEnd(tokens_in=1, tokens_out=count, stop_reason="eos", prefill_ms=0, decode_ms=1)
        yield encode_event("end", f"{count}.1", encode(end))

    async def lifetime(self, app: web.Application) -> AsyncIterator[None]:
        app[ADDRESS] = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as tasks:
            heart = tasks.create_task(self._beat(app))
            yield
            heart.cancel()

    async def _beat(self, app: web.Application) -> None:
        if not self._orchestrator:
            return
        uri = await app[ADDRESS]
        memory = 8 * 2**30
        device = Device(
            id="cpu", uuid="cpu", name="none", backend="cpu", memory_total_bytes=memory, memory_used_bytes=0,
            memory_free_bytes=memory,
        )  # fmt: skip
        model = Model(
            model_ref=REF, size_bytes=1, architecture="llama", quantization="F16", context_length=2**20,
            vocab_size=1, max_token_bytes=16,
        )  # fmt: skip
        worker = WorkerReport(
            worker_id="source", model_ref=REF, status="ready", backend="cpu", engine="llamacpp", device="cpu",
            slots=SLOTS, slots_busy=0, context_length=2**20, memory_bytes=1, started_ms=1, uri=uri,
        )  # fmt: skip
        async with Client(self._orchestrator) as client:
            body = Register(
                pool_id="bench", endpoint=uri, version="0", devices=[device], models=[model], workers=[worker]
            )
            await client.send("POST", "/v2/pools/register", Registered, body=body)
            seq = 0
            while True:
                seq += 1
                beat = Heartbeat(seq=seq, time_ms=seq, devices=[device], models=[model], workers=[worker])
                await client.send("POST", "/v2/pools/bench/heartbeat", HeartbeatReply, body=beat)
                await asyncio.sleep(5)


def main() -> int:
    """Serve until told to stop."""
    source = _Source(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
    app = create_app(
        [Endpoint("POST", "/execute", source.execute, "Stream.")],
        source.lifetime,
        metrics=HttpMetrics(CollectorRegistry()),
    )

    async def served() -> int:
        return await serve([Site(app, "127.0.0.1", 0)])

    return run(served)


if __name__ == "__main__":
    sys.exit(main())
