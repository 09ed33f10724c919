"""The worker without HTTP: one model, its slots, and the jobs in them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from contextlib import aclosing
from typing import Literal

import msgspec

from llorch import errors, log
from llorch.client import Client
from llorch.wire.codec import FieldProblem, invalid
from llorch.wire.events import StopReason, WorkerStarted
from llorch.wire.pools import WorkerState
from llorch.wire.tasks import DEFAULT_MAX_TOKENS
from llorch.wire.workers import (
    PROTOCOL,
    CancelAccepted,
    CountTokens,
    Execute,
    MemoryArchitecture,
    Ready,
    TokenCount,
    WorkerHealth,
)
from roles.worker.backend import Chunk, Engine, ModelFacts, Prompt
from roles.worker.inference.generation import Draft, Tally, write
from roles.worker.inference.jobs import Job, Jobs
from roles.worker.inference.rate import Rate
from roles.worker.metrics import WorkerMetrics
from roles.worker.options import WorkerOptions

CAPABILITIES = ["text-gen"]
MEMORY: dict[str, MemoryArchitecture] = {"cpu": "system", "cuda": "vram-only", "metal": "unified"}
END_S = 2.0
CALLBACK_TRIES = 5
CALLBACK_WAIT_S = 0.2
PROGRESS_STEP = 10.0
NOTHING_LOADED = ModelFacts(context_length=0, vocab_size=0, quant_kind="", memory_bytes=0)

_log = log.get("worker")


class Core:
    """Loads, executes, cancels, drains. The one writer of its jobs' registry.

    Args:
        options: How the worker was started.
        engine: Not loaded yet.
        metrics: What it counts.
        tasks: Owns one task a job.
    """

    def __init__(
        self, options: WorkerOptions, engine: Engine, *, metrics: WorkerMetrics, tasks: asyncio.TaskGroup
    ) -> None:
        self._options = options
        self._engine = engine
        self._metrics = metrics
        self._tasks = tasks
        self._facts = NOTHING_LOADED
        self._state: Literal["starting", "ready", "draining", "failed"] = "starting"
        self._error: str | None = None
        self._progress = 0.0
        self._began_s = time.monotonic()
        self._rate = Rate()
        self.jobs = Jobs(options.slots, options.reattach_s)

    async def run(self, address: Awaitable[str]) -> None:
        """Load the model, tell the pool, and watch the engine for as long as the worker lives.

        Raises:
            LlorchError: The worker cannot go on: the load failed, the pool refused, or the engine has died. By then
                every job has got its last event.
        """
        try:
            self._facts = await self._engine.load(self._loading)
            if self._state == "starting":
                self._state = "ready"
            _log.info("model_loaded", model_ref=self._options.model_ref, ms=round(self._uptime_s() * 1000))
            if self._options.callback_url:
                await self._call_back(await address)
            reason = await self._engine.died()
            raise errors.EngineFailed(reason)
        except errors.LlorchError as error:
            self._state, self._error = "failed", error.message
            await self._ended(END_S)
            raise

    async def execute(self, request: Execute) -> Job:
        """Give a job a slot and begin it.

        A continuation for which there is no room any more ends at once, as the attempt before it was about to.

        Raises:
            NotReady, Draining, AllSlotsBusy: Not now.
            Conflict: The job is known here already.
            InvalidRequest: Not exactly one of prompt and messages, more tokens than a slot's context holds, or ids that
                are not this model's.
        """
        try:
            self._check_ready()
            self._check_ids(request.continue_ids)
            prompt = _prompt(request, "" if request.continue_ids else request.continue_text + request.continue_held)
            job = self.jobs.reserve(request.job_id, request.attempt, first_token=request.first_token)
        except errors.LlorchError:
            self._metrics.outcomes.labels("refused").inc()
            raise
        try:
            tokens = await self._engine.tokenize(prompt)
            max_tokens = self._room(len(tokens) + len(request.continue_ids), request)
            if self._state != "ready":
                self._check_ready()
        except BaseException:
            self.jobs.forget(job)
            self._metrics.outcomes.labels("refused").inc()
            raise
        job.task = self._tasks.create_task(self._run(job, request, tokens, max_tokens), name=f"job {job.id}")
        return job

    def cancel(self, job_id: str) -> CancelAccepted:
        """Have a job stopped; harmless when there is none."""
        try:
            job = self.jobs.get(job_id)
        except errors.JobNotFound:
            return CancelAccepted(job_id, known=False)
        job.stop(errors.Cancelled("the job was cancelled"))
        return CancelAccepted(job_id, known=True)

    async def count(self, request: CountTokens) -> TokenCount:
        """Return how many tokens a prompt is.

        Raises:
            NotReady: No model is loaded.
            InvalidRequest: Not exactly one of prompt and messages.
        """
        if self._state == "starting":
            self._check_ready()
        tokens = await self._engine.tokenize(_prompt(request, ""))
        return TokenCount(tokens=len(tokens), context_length=self._facts.context_length)

    def health(self) -> WorkerHealth:
        """Return what is known without asking anybody."""
        o, facts = self._options, self._facts
        health = WorkerHealth(
            status=self._status(),
            worker_id=o.worker_id,
            model=o.model_path.name,
            model_ref=o.model_ref,
            resident=facts is not NOTHING_LOADED,
            progress=round(self._progress, 1),
            quant_kind=facts.quant_kind,
            vocab_size=facts.vocab_size,
            context_length=facts.context_length,
            memory_bytes=facts.memory_bytes,
            slots=o.slots,
            slots_busy=self.jobs.busy,
            tokens_per_second=self._rate.per_second(time.monotonic()),
            uptime_s=round(self._uptime_s(), 3),
            capabilities=CAPABILITIES,
            protocol=PROTOCOL,
            engine=o.engine,
            backend=o.backend,
        )
        return health if self._error is None else msgspec.structs.replace(health, error=self._error)

    async def drain(self) -> None:
        """Refuse new jobs; give the running ones `drain_s`, then end them so that they can run elsewhere."""
        if self._state != "failed":
            self._state = "draining"
        if not await self._ended(self._options.drain_s):
            for job in self.jobs.running():
                job.stop(errors.Draining("the worker is shutting down; the job can go on elsewhere"))
            await self._ended(END_S)

    async def sweep(self) -> None:
        """Forget old jobs and stop those that nobody reads any more, for ever."""
        every_s = max(0.05, min(1.0, self._options.reattach_s / 4))
        while True:
            await asyncio.sleep(every_s)
            for job in self.jobs.sweep(time.monotonic()):
                _log.info("job_unread", job_id=job.id, attempt=job.attempt)
                job.stop(errors.Cancelled("the job was cancelled, because nobody came back to read it"))

    def abandon(self) -> None:
        """Cancel every job without a word; for the very end."""
        for job in self.jobs.running():
            if job.task is not None:
                job.task.cancel()

    async def _run(self, job: Job, request: Execute, tokens: list[int], max_tokens: int) -> None:
        tally = Tally(tokens_in=len(tokens))
        self._metrics.tokens_in.inc(len(tokens))
        outcome = "completed"
        try:
            if job.stopping is not None:
                raise job.stopping
            job.event("started", self._started(job, len(tokens), max_tokens))
            reason = await self._write(job, request, tokens, max_tokens, tally)
            job.event("end", tally.end(reason))
        except asyncio.CancelledError:
            if job.stopping is None:
                raise
            outcome = self._failed(job, job.stopping)
        except errors.LlorchError as error:
            outcome = self._failed(job, error)
        finally:
            self.jobs.release(job)
            self._count(job, tally, outcome)

    async def _write(self, job: Job, request: Execute, tokens: list[int], max_tokens: int, tally: Tally) -> StopReason:
        """Generate; return why the text is over."""
        draft = Draft(request.stop, held=request.continue_held)
        pieces, reason = draft.begin()
        if reason is None and not max_tokens:
            pieces, reason = draft.add([Chunk(stop="max_tokens")])
        job.tokens(pieces)
        if reason is not None:
            return reason
        steps = self._engine.generate(
            [*tokens, *request.continue_ids], request, max_tokens=max_tokens, seed=request.seed
        )
        async with aclosing(steps):
            return await write(job, steps, draft, tally, self._rate)

    def _failed(self, job: Job, error: errors.LlorchError) -> str:
        job.fail(error)
        return "cancelled" if isinstance(error, errors.Cancelled) else "failed"

    def _count(self, job: Job, tally: Tally, outcome: str) -> None:
        now_s, metrics = time.monotonic(), self._metrics
        metrics.outcomes.labels(outcome).inc()
        metrics.tokens_generated.inc(tally.tokens_out)
        metrics.inference_ms.observe((now_s - tally.began_s) * 1000)
        if tally.first_token_s is not None:
            metrics.first_token_ms.observe((tally.first_token_s - tally.began_s) * 1000)
        if job.stopping is not None:
            metrics.cancellation_ms.observe((now_s - job.stopped_s) * 1000)
        _log.info(
            "job_finished",
            job_id=job.id,
            attempt=job.attempt,
            outcome=outcome,
            code=None if job.error is None else job.error.code,
            tokens_in=tally.tokens_in,
            tokens_out=tally.tokens_out,
            first_token_ms=tally.first_token_ms(),
            decode_ms=tally.decode_ms(),
        )

    def _started(self, job: Job, tokens_in: int, max_tokens: int) -> WorkerStarted:
        return WorkerStarted(
            job_id=job.id, attempt=job.attempt, tokens_in=tokens_in, max_tokens=max_tokens, engine=self._engine.name
        )

    def _room(self, tokens_in: int, request: Execute) -> int:
        """Return how many tokens may be generated."""
        context = self._facts.context_length
        if tokens_in >= context and request.continue_ids:
            return 0
        if tokens_in >= context:
            raise errors.InvalidRequest(
                f"the prompt has {tokens_in} tokens, and a slot's context of {context} holds at most {context - 1} "
                "and one to generate; shorten the prompt",
                details={"prompt_tokens": tokens_in, "context_length": context},
            )
        wanted = request.max_tokens if isinstance(request.max_tokens, int) else DEFAULT_MAX_TOKENS
        return min(wanted, context - tokens_in)

    def _check_ids(self, ids: Sequence[int]) -> None:
        if ids and max(ids) >= self._facts.vocab_size:
            raise invalid([FieldProblem("continue_ids", f"the model has only {self._facts.vocab_size} tokens")])

    def _check_ready(self) -> None:
        if self._state == "starting":
            raise errors.NotReady(f"the model is still loading ({self._progress:.0f} %)", retry_after_s=1)
        if self._state == "draining":
            raise errors.Draining("the worker is shutting down and takes no new jobs")
        if self._state == "failed":
            raise errors.EngineFailed("the engine of this worker has died")

    def _status(self) -> WorkerState:
        full = self._state == "ready" and self.jobs.busy >= self.jobs.slots
        return "busy" if full else self._state

    def _uptime_s(self) -> float:
        return time.monotonic() - self._began_s

    def _loading(self, percent: float) -> None:
        if int(percent / PROGRESS_STEP) > int(self._progress / PROGRESS_STEP) or percent >= 100:
            _log.info("model_loading", percent=round(percent))
        self._progress = percent

    async def _ended(self, limit_s: float) -> bool:
        """Wait for the running jobs; tell whether all have ended."""
        running = {job.task for job in self.jobs.running() if job.task is not None}
        if running:
            _, running = await asyncio.wait(running, timeout=limit_s)
        return not running

    async def _call_back(self, uri: str) -> None:
        """Tell the pool that this worker takes jobs; a pool that just restarts is asked again for a moment."""
        o, facts = self._options, self._facts
        body = Ready(
            worker_id=o.worker_id,
            model_ref=o.model_ref,
            uri=uri,
            memory_bytes=facts.memory_bytes,
            memory_architecture=MEMORY[o.backend],
            backend=o.backend,
            engine=o.engine,
            capabilities=CAPABILITIES,
            slots=o.slots,
            context_length=facts.context_length,
        )
        async with Client(o.callback_url, token=o.token, what="the pool") as pool:
            for left in reversed(range(CALLBACK_TRIES)):
                try:
                    async with pool.request("POST", "", body=body, timeout_s=10):
                        return
                except errors.Unreachable:
                    if not left:
                        raise
                await asyncio.sleep(CALLBACK_WAIT_S)


def _prompt(request: Execute | CountTokens, continue_text: str) -> Prompt:
    text = request.prompt if isinstance(request.prompt, str) else ""
    messages = request.messages if isinstance(request.messages, list) else []
    if bool(text) == bool(messages):
        raise invalid([FieldProblem("prompt", "exactly one of prompt and messages is required")])
    return Prompt(text=text, messages=messages, continue_text=continue_text)
