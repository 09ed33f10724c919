"""One attempt of one job on one worker: send it, pass its events on, tell how it ended.

Knows neither the queue nor the retry policy: it returns an outcome and the dispatcher acts on it.

A connection that breaks is not yet a lost worker: the worker goes on without readers, and its events are asked for
again from behind the last one that came. An attempt that an earlier process began is taken up in the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

import msgspec

from llorch.client import Client
from llorch.errors import CannotContinue, LlorchError, Refused, RemoteError, TimeoutExceeded, Unreachable, WorkerLost
from llorch.wire import events
from llorch.wire.embedding import kind_of
from llorch.wire.events import EventId
from llorch.wire.tasks import DEFAULT_MAX_TOKENS, SubmitTask, can_go_on, shared
from llorch.wire.workers import CancelAccepted, CancelJob, Execute, TokenCount, counting
from roles.orchestrator.clock import ClockMs
from roles.orchestrator.queue.worker_events import Other, read_blocks
from roles.orchestrator.relay import Relay
from roles.orchestrator.state.store import Store
from roles.orchestrator.stream import Stream

LET_GO_S, COUNT_S = 2.0, 5.0
STORE_EVERY_S, STORE_EVERY_TOKENS, STORE_EVERY_BYTES = 0.25, 64, 256 * 1024
RECONNECT_WAITS_S = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 2.0, 2.0, 2.0)
"""Waits before each try to find a worker again whose connection broke; a worker that is gone refuses at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long an attempt waits: for its start, for the next token, for a worker to let go of a cancelled job."""

    start_s: float
    stall_s: float
    cancel_s: float


@dataclass(slots=True)
class Attempt:
    """What the dispatcher and an attempt share about a running job.

    Setting `cancel` ends it; `lost` says that its worker's host cannot be reached, `gone` that its pool says that the
    worker has ended. `silent` is set when the worker itself, not this one job, seems to be in trouble.
    """

    seed: int
    engine: str = ""
    tokens_in: int = 0
    tokens_before: int = 0
    first_token_ms: int | None = None
    started: bool = False
    gone: bool = False
    silent: bool = False
    end: events.WorkerEnd | None = None
    answer: str = ""
    """The whole text, once the job is being settled."""
    cancel: asyncio.Event = field(default_factory=asyncio.Event)
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    moved_s: float = 0.0
    """When it last got on, by the loop's clock; infinite while it waits for the disk."""


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

    def __init__(self, store: Store, relay: Relay, clock_ms: ClockMs, patience: Patience) -> None:
        self._store = store
        self._relay = relay
        self._clock_ms = clock_ms
        self._patience = patience

    async def run(
        self, stream: Stream, task: SubmitTask | None, target: Target, attempt: Attempt, *, limit_s: float
    ) -> LlorchError | None:
        """Run a job on a worker to the end of its stream.

        Args:
            stream: The job's stream; token events go on behind those it has.
            task: What the client asked for; None takes up an attempt that the worker has already.
            target: The worker.
            attempt: Filled in as the worker tells; setting its `cancel` ends the attempt.
            limit_s: Until the job's deadline.

        Returns:
            None when the worker reported the end; else what ended the attempt, `CANCELLED` included.
        """
        try:
            async with asyncio.timeout(limit_s):
                failure = await self._run(stream, task, target, attempt)
        except TimeoutError:
            failure = TimeoutExceeded("the job was not done within its timeout_ms")
        if isinstance(failure, TimeoutExceeded | WorkerLost) and not attempt.cancel.is_set():
            await self._cancel(stream, target, limit_s=LET_GO_S)
        if failure is not None and failure.retriable and _stuck(stream, task):
            return CannotContinue(f"{failure.message}, in the middle of an answer that no other can go on with")
        return failure

    async def _run(
        self, stream: Stream, task: SubmitTask | None, target: Target, attempt: Attempt
    ) -> LlorchError | None:
        if _stuck(stream, task):
            return CannotContinue("an earlier attempt has put out a part of an answer that no other can go on with")
        body = None if task is None else await self._execution(stream, task, target)
        if task is not None and body is not None and body.max_tokens == 0:
            await self._exhausted(stream, task, target, attempt)
            return None
        failure: LlorchError | None = None
        attempt.moved_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.TaskGroup() as tasks:
                watches = (
                    tasks.create_task(self._cancel_when_told(stream, target, attempt), name="canceller"),
                    tasks.create_task(self._watch(attempt), name="watch"),
                )
                await self._stream(stream, body, target, attempt)
                for watch in watches:
                    watch.cancel()
        except* LlorchError as group:
            failure = _first(group)
        return failure

    async def _execution(self, stream: Stream, task: SubmitTask, target: Target) -> Execute:
        if kind_of(task) != "text-gen":
            return Execute(
                job_id=stream.job_id,
                attempt=target.attempt,
                input=task.input,
                rerank=task.rerank,
                truncate=task.truncate,
                first_token=stream.count,
            )
        wanted = task.max_tokens if task.max_tokens is not msgspec.UNSET else DEFAULT_MAX_TOKENS
        written = len(stream.ids) if stream.exact else stream.count
        return Execute(
            job_id=stream.job_id,
            attempt=target.attempt,
            prompt=task.prompt,
            messages=task.messages,
            max_tokens=max(0, wanted - written),
            seed=task.seed if task.seed is not msgspec.UNSET else 0,
            first_token=stream.count,
            continue_text=await self._relay.text(stream),
            continue_ids=list(stream.ids) if stream.exact else [],
            continue_held=stream.held if stream.exact else "",
            **shared(task),
        )

    async def _exhausted(self, stream: Stream, task: SubmitTask, target: Target, attempt: Attempt) -> None:
        """End a job whose last worker died between its last token and its end: nothing is left to generate.

        Its prompt is counted: where an orchestrator died, too, what that worker had said of it may not be on disk.
        """
        with contextlib.suppress(LlorchError):
            count = await target.client.send("POST", "/count", TokenCount, body=counting(task), timeout_s=COUNT_S)
            attempt.tokens_in = count.tokens
        now_ms = self._clock_ms()
        serial, known = stream.next_serial(now_ms), attempt.tokens_in
        self._store.start(stream.job_id, engine=None, tokens_in=known, event_serial=serial, now_ms=now_ms)
        if stream.held:
            self._relay.tokens(stream, [events.WorkerToken(stream.count, stream.held)])
        attempt.end = events.WorkerEnd(
            tokens_in=attempt.tokens_in, tokens_out=0, stop_reason="max_tokens", prefill_ms=0, decode_ms=0
        )

    async def _stream(self, stream: Stream, body: Execute | None, target: Target, attempt: Attempt) -> None:
        """Read the job's events to its end, over as many connections as it takes."""
        headers = {"X-Correlation-Id": target.correlation_id}
        source = None if body is None else target.client.blocks("/execute", method="POST", body=body, headers=headers)
        waits = iter(RECONNECT_WAITS_S)
        while True:
            if source is None:
                source = target.client.blocks(
                    f"/jobs/{stream.job_id}/events",
                    headers={**headers, "Last-Event-ID": str(EventId(stream.count, 0))},
                )
            before = stream.count
            trouble = await self._read(source, stream, target, attempt)
            if attempt.end is not None:
                return
            if stream.count > before:
                waits = iter(RECONNECT_WAITS_S)
            wait_s = None if attempt.gone else next(waits, None)
            if wait_s is None:
                attempt.silent = True
                raise WorkerLost(trouble)
            await asyncio.sleep(wait_s)
            source = None

    async def _read(
        self, source: AsyncGenerator[list[bytes], None], stream: Stream, target: Target, attempt: Attempt
    ) -> str:
        """Pass on what one connection brings; return why it ended before the job did.

        Raises:
            WorkerLost: The worker is gone, or has forgotten the job, or sends what is not llorch's.
            RemoteError: The worker refused the job, or told that it failed.
        """
        loop = asyncio.get_running_loop()
        stored_at = loop.time()
        try:
            async with aclosing(source):
                async for blocks in source:
                    await self._pass_on(stream, blocks, target, attempt)
                    if attempt.end is not None:
                        return ""
                    fresh = stream.count - stream.stored
                    much = fresh >= STORE_EVERY_TOKENS or stream.fresh_bytes >= STORE_EVERY_BYTES
                    if much or (fresh and loop.time() - stored_at >= STORE_EVERY_S):
                        self._relay.store_rest(stream)
                        stored_at = loop.time()
                        attempt.moved_s = float("inf")  # what waits for the disk is not the worker's fault
                        await self._relay.room(stream)
                        attempt.moved_s = loop.time()
        except Refused as error:
            attempt.silent = True
            raise WorkerLost(error.message) from error
        except (Unreachable, TimeoutExceeded) as error:
            return error.message
        except RemoteError as error:
            if error.code == "CONFLICT":
                return "the worker has this attempt already"
            if error.code in {"JOB_NOT_FOUND", "INVALID_TOKEN"}:
                raise WorkerLost("the worker does not know the job any more") from error
            raise
        return "the worker closed the connection before the end"

    async def _pass_on(self, stream: Stream, blocks: list[bytes], target: Target, attempt: Attempt) -> None:
        for part in read_blocks(blocks, next_index=stream.count, kind=stream.kind):
            if isinstance(part, Other):
                self._other(stream, part, target, attempt)
                if attempt.end is not None:
                    return  # nothing counts behind the end
                continue
            if attempt.first_token_ms is None:
                attempt.first_token_ms = self._clock_ms()
                self._store.first_token(stream.job_id, now_ms=attempt.first_token_ms)
            attempt.moved_s = asyncio.get_running_loop().time()
            self._relay.tokens(stream, part)

    def _other(self, stream: Stream, body: Other, target: Target, attempt: Attempt) -> None:
        if isinstance(body, events.WorkerStarted):
            self._started(stream, body, target, attempt)
        elif isinstance(body, events.Metrics):
            self._relay.notice(stream, "metrics", body, now_ms=self._clock_ms(), lasting=False)
        elif isinstance(body, events.WorkerEnd):
            if not attempt.started:
                raise WorkerLost("the worker ended a job that it had not begun")
            attempt.end = body
            if not attempt.tokens_before:
                attempt.tokens_in = body.tokens_in  # some engines cannot count a prompt before they have read it
        else:
            details = None if body.details is msgspec.UNSET else body.details
            raise RemoteError(body.message, code=body.code, status=502, retriable=body.retriable, details=details)
        attempt.moved_s = asyncio.get_running_loop().time()

    def _started(self, stream: Stream, body: events.WorkerStarted, target: Target, attempt: Attempt) -> None:
        if attempt.started:
            return  # told again, on another connection
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
            first_token=stream.count,
            exact=stream.exact,
            tokens_in=body.tokens_in,
            kind=msgspec.UNSET if stream.kind == "text-gen" else stream.kind,
        )
        serial = self._relay.notice(stream, "started", started, now_ms=now_ms, lasting=True)
        self._store.start(
            stream.job_id, engine=body.engine, tokens_in=body.tokens_in, event_serial=serial, now_ms=now_ms
        )
        self._store.told(stream.seq, target.attempt, stream.notices[-1][1])

    async def _watch(self, attempt: Attempt) -> None:
        """End an attempt that does not get on, or whose worker's host is gone."""
        loop, patience = asyncio.get_running_loop(), self._patience
        look_again_s = min(patience.start_s, patience.stall_s)
        while (left_s := attempt.moved_s + self._limit_s(attempt) - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, look_again_s)):
                    await attempt.lost.wait()
                attempt.silent = True
                raise WorkerLost("the worker's host cannot be reached any more")
        attempt.silent = True
        if attempt.started:
            silence = f"the worker sent nothing new for {patience.stall_s:g} s"
            raise TimeoutExceeded(silence, code="STALLED")
        silence = f"the worker did not begin the job within {patience.start_s:g} s"
        raise TimeoutExceeded(silence, code="STARTUP_TIMEOUT")

    def _limit_s(self, attempt: Attempt) -> float:
        return self._patience.stall_s if attempt.started else self._patience.start_s

    async def _cancel_when_told(self, stream: Stream, target: Target, attempt: Attempt) -> None:
        """Ask the worker to end the job; a worker that does not within its grace is left behind."""
        await attempt.cancel.wait()
        grace_s = self._patience.cancel_s
        try:
            async with asyncio.timeout(grace_s):
                await self._cancel(stream, target, limit_s=grace_s)
                await asyncio.sleep(grace_s)
        except TimeoutError:
            raise WorkerLost(f"the worker did not end a cancelled job within {grace_s:.0f} s") from None

    async def _cancel(self, stream: Stream, target: Target, *, limit_s: float) -> None:
        try:
            await target.client.send(
                "POST", "/cancel", CancelAccepted, body=CancelJob(stream.job_id, target.attempt), timeout_s=limit_s
            )
        except LlorchError:
            return  # it is gone, or will be: either way the job does not run there


def _stuck(stream: Stream, task: SubmitTask | None) -> bool:
    return task is not None and stream.count > 0 and not can_go_on(task)


def _first(group: BaseExceptionGroup[LlorchError]) -> LlorchError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, LlorchError)
    return error
