"""What a scripted worker says: one call of it, and scripts that tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from llorch.sse import encode_event
from llorch.wire import events
from llorch.wire.codec import encode
from llorch.wire.events import EventId
from llorch.wire.pools import Device, Model
from llorch.wire.workers import Execute, WorkerHealth

REF = "file:/models/scripted.gguf"
DEVICE = Device(
    id="cpu0",
    uuid="cpu-0",
    name="a processor",
    backend="cpu",
    memory_total_bytes=2**33,
    memory_used_bytes=2**30,
    memory_free_bytes=2**32,
)
MODEL = Model(
    model_ref=REF,
    size_bytes=1,
    architecture="llama",
    quantization="Q4_0",
    context_length=4096,
    vocab_size=100,
    max_token_bytes=16,
)


class Call:
    """One execution that a script plays: the request, and what it can answer."""

    def __init__(self, request: web.Request, body: Execute) -> None:
        self.request = request
        self.body = body
        self.cancelled = asyncio.Event()
        self.count = body.first_token
        self._serial = 0
        self._response: web.StreamResponse | None = None

    async def started(self) -> None:
        """Say that the job has a slot."""
        started = events.WorkerStarted(
            job_id=self.body.job_id, attempt=self.body.attempt, tokens_in=3, max_tokens=16, engine="scripted 1"
        )
        await self.send("started", encode(started))

    async def token(self, text: str, ids: Sequence[int] = (), held: str = "") -> None:
        """Say one token."""
        await self.raw(self.encoded(text, ids, held))

    def encoded(self, text: str, ids: Sequence[int] = (), held: str = "") -> bytes:
        """Encode the next token event."""
        self.count += 1
        told = events.WorkerToken(self.count - 1, text, list(ids), held)
        return encode_event("token", f"{self.count}.0", encode(told))

    async def end(self) -> None:
        """Say that all went well."""
        ended = events.WorkerEnd(
            tokens_in=3, tokens_out=self.count - self.body.first_token, stop_reason="eos", prefill_ms=1, decode_ms=2
        )
        await self.send("end", encode(ended))

    async def fail(self, code: str, *, retriable: bool) -> None:
        """End the job with an error."""
        failed = events.Failed(code=code, message=f"the script says {code}", retriable=retriable)
        await self.send("error", encode(failed))

    async def send(self, kind: str, data: bytes) -> None:
        """Send any event."""
        self._serial += 1
        await self.raw(encode_event(kind, str(EventId(self.count, self._serial)), data))

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        if self._response is None:
            self._response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await self._response.prepare(self.request)
        await self._response.write(data)

    def die(self) -> None:
        """Break the connection, as a killed worker does."""
        assert self.request.transport is not None
        self.request.transport.abort()

    def answer(self) -> web.StreamResponse:
        """Return what the handler has to return."""
        return self._response or web.Response(status=500)


Script = Callable[[Call], Awaitable[None]]


async def well_behaved(call: Call) -> None:
    """Say as many tokens as were asked for, each naming its job."""
    await call.started()
    for number in range(call.body.max_tokens if isinstance(call.body.max_tokens, int) else 4):
        await call.token(f"{call.body.prompt}:{number} ")
    await call.end()


async def until_cancelled(call: Call) -> None:
    """Say one token, then nothing until the job is cancelled."""
    await call.started()
    await call.token("a")
    await call.cancelled.wait()
    await call.fail("CANCELLED", retriable=False)


async def first_half(call: Call) -> None:
    """Say two tokens, and end the stream without an end."""
    await call.started()
    await call.token("one ")
    await call.token("two ")


async def second_half(call: Call) -> None:
    """Go on where an earlier attempt stopped, saying what it was told of that."""
    await call.started()
    await call.token(f"[{call.body.first_token}:{call.body.continue_text}]")
    await call.end()


async def dying(call: Call) -> None:
    """Say two tokens, and break the connection."""
    await first_half(call)
    call.die()


async def silent_death(call: Call) -> None:
    """Break the connection before a word."""
    call.die()


def in_turn(*scripts: Script) -> Script:
    """Play another script each time; the last one again and again."""
    left = list(scripts)

    async def play(call: Call) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(call)

    return play


def healthy(worker_id: str, *, protocol: int) -> WorkerHealth:
    """Return what a worker says when it is asked for its health."""
    return WorkerHealth(
        status="ready",
        worker_id=worker_id,
        model="scripted",
        model_ref=REF,
        resident=True,
        progress=100.0,
        quant_kind="",
        vocab_size=100,
        context_length=4096,
        memory_bytes=1,
        slots=4,
        slots_busy=0,
        tokens_per_second=0.0,
        uptime_s=0.0,
        capabilities=[],
        protocol=protocol,
        engine="llamacpp",
        backend="cpu",
    )
