"""One attempt of one job on one worker: send it, pass its events on, tell how it ended.

Knows neither the queue nor the retry policy: it returns an outcome and the dispatcher acts on it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import msgspec

from llorch.client import Client
from llorch.errors import LlorchError, RemoteError, TimeoutExceeded, Unreachable, WorkerLost
from llorch.sse import parse_block
from llorch.wire import events
from llorch.wire.tasks import DEFAULT_MAX_TOKENS, SubmitTask
from llorch.wire.workers import CancelAccepted, CancelJob, Execute
from roles.orchestrator.clock import ClockMs
from roles.orchestrator.relay import Relay, Stream
from roles.orchestrator.state.store import Store

CANCEL_GRACE_S = 5.0
STORE_EVERY_S = 0.25
STORE_EVERY_TOKENS = 64
_TOKEN = b"event: token\n"
_token = msgspec.json.Decoder(events.Token)


@dataclass(slots=True)
class Attempt:
    """What the dispatcher and an attempt share about a running job."""

    seed: int
    engine: str = ""
    tokens_in: int = 0
    first_token_ms: int | None = None
    started: bool = False
    end: events.WorkerEnd | None = None
    cancel: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where an attempt runs."""

    worker_id: str
    pool_id: str
    model_ref: str
    correlation_id: str
    attempt: int
    client: Client


class Runner:
    """Runs attempts; holds what all of them need."""

    def __init__(self, store: Store, relay: Relay, clock_ms: ClockMs) -> None:
        self._store = store
        self._relay = relay
        self._clock_ms = clock_ms

    async def run(
        self, stream: Stream, task: SubmitTask, target: Target, attempt: Attempt, *, limit_s: float
    ) -> LlorchError | None:
        """Run a job on a worker to the end of its stream.

        Args:
            stream: The job's stream; token events go on behind those it has.
            task: What the client asked for.
            target: The worker.
            attempt: Filled in as the worker tells; setting its `cancel` ends the attempt.
            limit_s: Until the job's deadline.

        Returns:
            None when the worker reported the end; else what ended the attempt, `CANCELLED` included.
        """
        try:
            async with asyncio.timeout(limit_s):
                return await self._run(stream, task, target, attempt)
        except TimeoutError:
            await self._cancel(stream, target)
            return TimeoutExceeded("the job was not done within its timeout_ms")

    async def _run(self, stream: Stream, task: SubmitTask, target: Target, attempt: Attempt) -> LlorchError | None:
        body = await self._execution(stream, task, target)
        failure: LlorchError | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                canceller = tasks.create_task(self._cancel_when_told(stream, target, attempt), name="canceller")
                await self._stream(stream, body, target, attempt)
                canceller.cancel()
        except* LlorchError as group:
            failure = _first(group)
        return failure

    async def _execution(self, stream: Stream, task: SubmitTask, target: Target) -> Execute:
        wanted = task.max_tokens if task.max_tokens is not msgspec.UNSET else DEFAULT_MAX_TOKENS
        return Execute(
            job_id=stream.job_id,
            attempt=target.attempt,
            prompt=task.prompt,
            messages=task.messages,
            max_tokens=max(1, wanted - stream.count),
            seed=task.seed if task.seed is not msgspec.UNSET else 0,
            first_token=stream.count,
            continue_text=await self._relay.text(stream),
            temperature=task.temperature,
            top_p=task.top_p,
            top_k=task.top_k,
            min_p=task.min_p,
            repetition_penalty=task.repetition_penalty,
            stop=task.stop,
        )

    async def _stream(self, stream: Stream, body: Execute, target: Target, attempt: Attempt) -> None:
        headers = {"X-Correlation-Id": target.correlation_id}
        loop = asyncio.get_running_loop()
        stored_at = loop.time()
        try:
            async for blocks in target.client.blocks("/execute", method="POST", body=body, headers=headers):
                await self._pass_on(stream, blocks, target, attempt)
                if attempt.end is not None:
                    return
                fresh = stream.count - stream.stored
                if fresh >= STORE_EVERY_TOKENS or (fresh and loop.time() - stored_at >= STORE_EVERY_S):
                    self._relay.store_rest(stream)
                    stored_at = loop.time()
        except Unreachable as error:
            raise WorkerLost(f"the worker cannot be reached any more: {error.message}") from error
        raise WorkerLost("the worker closed the connection before the end")

    async def _pass_on(self, stream: Stream, blocks: list[bytes], target: Target, attempt: Attempt) -> None:
        tokens: list[bytes] = []
        for block in blocks:
            if block.startswith(_TOKEN):
                _check(block, stream.count + len(tokens))
                tokens.append(block + b"\n\n")
                continue
            self._flush(stream, tokens, attempt)
            tokens = []
            await self._other(stream, block, target, attempt)
        self._flush(stream, tokens, attempt)

    def _flush(self, stream: Stream, tokens: list[bytes], attempt: Attempt) -> None:
        if not tokens:
            return
        if attempt.first_token_ms is None:
            attempt.first_token_ms = self._clock_ms()
        self._relay.tokens(stream, tokens)

    async def _other(self, stream: Stream, block: bytes, target: Target, attempt: Attempt) -> None:
        event = parse_block(block)
        if event is None:
            return
        try:
            if event.kind == "started":
                await self._started(stream, msgspec.json.decode(event.data, type=events.WorkerStarted), target, attempt)
            elif event.kind == "metrics":
                body = msgspec.json.decode(event.data, type=events.Metrics)
                self._relay.notice(stream, "metrics", body, now_ms=self._clock_ms(), lasting=False)
            elif event.kind == "end":
                attempt.end = msgspec.json.decode(event.data, type=events.WorkerEnd)
            elif event.kind == "error":
                failed = msgspec.json.decode(event.data, type=events.Failed)
                raise RemoteError(failed.message, code=failed.code, status=502, retriable=failed.retriable)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise WorkerLost("the worker sent an event that is not llorch's") from error

    async def _started(self, stream: Stream, body: events.WorkerStarted, target: Target, attempt: Attempt) -> None:
        attempt.engine, attempt.tokens_in, attempt.started = body.engine, body.tokens_in, True
        now_ms = self._clock_ms()
        started = events.Started(
            job_id=stream.job_id,
            worker_id=target.worker_id,
            model_ref=target.model_ref,
            engine=body.engine,
            seed=attempt.seed,
            correlation_id=target.correlation_id,
            attempt=target.attempt,
        )
        serial = self._relay.notice(stream, "started", started, now_ms=now_ms, lasting=True)
        self._store.start(
            stream.job_id, engine=body.engine, tokens_in=body.tokens_in, event_serial=serial, now_ms=now_ms
        )

    async def _cancel_when_told(self, stream: Stream, target: Target, attempt: Attempt) -> None:
        """Ask the worker to end the job; a worker that does not within its grace is left behind."""
        await attempt.cancel.wait()
        await self._cancel(stream, target)
        await asyncio.sleep(CANCEL_GRACE_S)
        raise WorkerLost(f"the worker did not end a cancelled job within {CANCEL_GRACE_S:.0f} s")

    async def _cancel(self, stream: Stream, target: Target) -> None:
        try:
            await target.client.send(
                "POST", "/cancel", CancelAccepted, body=CancelJob(stream.job_id), timeout_s=CANCEL_GRACE_S
            )
        except LlorchError:
            return  # it is gone, or will be: either way the job does not run there


def _check(block: bytes, index: int) -> None:
    """Check a token event as it came: readers and later attempts rely on what a worker sends (0.5 µs)."""
    head = b"event: token\nid: %d.0\ndata: " % (index + 1)
    try:
        if block.startswith(head) and _token.decode(block[len(head) :]).i == index:
            return
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WorkerLost("the worker sent a token that is not llorch's") from error
    raise WorkerLost("the worker sent a token out of order")


def _first(group: BaseExceptionGroup[LlorchError]) -> LlorchError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, LlorchError)
    return error
