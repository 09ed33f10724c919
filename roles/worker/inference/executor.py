"""Runs jobs on the engine: one task each, from its slot to its last event. Knows no HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from msgspec import UNSET

from llorch import errors, log
from llorch.wire.codec import FieldProblem, invalid
from llorch.wire.conversation import image_problems, images_of
from llorch.wire.embedding import kind_of
from llorch.wire.events import StopReason, WorkerStarted
from llorch.wire.tasks import DEFAULT_MAX_TOKENS, calls_tools
from llorch.wire.workers import CancelAccepted, CountTokens, Execute
from roles.worker.backend import NO_PROJECTOR, Chunk, Engine, ModelFacts, Prompt, Seeing
from roles.worker.backend.grammar import grammar_of, must_call
from roles.worker.inference.calls import as_calls
from roles.worker.inference.forms import as_json
from roles.worker.inference.generation import Draft, Tally, write
from roles.worker.inference.job import Job
from roles.worker.inference.jobs import Jobs
from roles.worker.inference.rate import Rate
from roles.worker.inference.scoring import Work, check_able, planned, write_lines
from roles.worker.inference.tools import spelled_out
from roles.worker.metrics import WorkerMetrics

NOTHING_LOADED = ModelFacts(context_length=0, vocab_size=0, quant_kind="", memory_bytes=0)

_log = log.get("worker")


@dataclass(frozen=True, slots=True)
class Given:
    """What an engine is given: the tokens of a prompt, or, where there are pictures in it, only how many it will be."""

    prompt: Prompt
    count: int
    tokens: Sequence[int] | None = None


class Executor:
    """Gives jobs their slots and writes their events. The one writer of its jobs' registry.

    `model` is set by the worker's core once it is loaded.

    Args:
        jobs: Empty.
        engine: What generates.
        metrics: What it counts.
        tasks: Owns one task a job.
    """

    def __init__(self, jobs: Jobs, engine: Engine, *, metrics: WorkerMetrics, tasks: asyncio.TaskGroup) -> None:
        self.jobs = jobs
        self.rate = Rate()
        self.model = NOTHING_LOADED
        self._engine = engine
        self._metrics = metrics
        self._tasks = tasks
        self._stops: asyncio.Queue[float] = asyncio.Queue()

    async def begin(self, request: Execute, check_ready: Callable[[], None]) -> Job:
        """Give a job a slot and begin it; see `Core.execute`.

        A job that is running here as an earlier attempt is stopped, and its slot passes to this one.

        Args:
            request: What to do.
            check_ready: Raises when the worker takes no jobs; asked before and after the tokens have been counted.
        """
        try:
            check_ready()
            check_able(request, self.model)
            self._check_ids(request)
            prompt = self._prompt(request) if kind_of(request) == "text-gen" else None
            job = self.jobs.reserve(request.job_id, request.attempt, first_token=request.first_token)
        except errors.LlorchError:
            self._metrics.outcomes.labels("refused").inc()
            raise
        try:
            given = await self._prepare(job, request, prompt)
            max_tokens = 0
            if isinstance(given, Given):
                behind = len(request.continue_ids) if self.model.takes_tokens else 0
                max_tokens = self._room(given.count + behind, request)
            check_ready()
        except BaseException:
            self.jobs.forget(job)
            self._metrics.outcomes.labels("refused" if job.stopping is None else "cancelled").inc()
            raise
        job.task = self._tasks.create_task(self._run(job, request, given, max_tokens), name=f"job {job.id}")
        return job

    def cancel(self, job_id: str, attempt: int | None = None) -> CancelAccepted:
        """Have a job stopped, if it is that attempt or none is named; harmless when there is none."""
        try:
            job = self.jobs.get(job_id)
        except errors.JobNotFound:
            return CancelAccepted(job_id, known=False)
        if attempt not in {None, job.attempt}:
            return CancelAccepted(job_id, known=False)
        job.stop(errors.Cancelled("the job was cancelled"))
        return CancelAccepted(job_id, known=True)

    async def time_stops(self) -> None:
        """Note how long the engine takes to let go of each job that is stopped, for ever.

        A stopped job's slot is given to the next one at once: that waits inside the engine, and no orchestrator is told
        that a worker is busy which is not.
        """
        while True:
            stopped_s = await self._stops.get()
            with contextlib.suppress(errors.EngineFailed):
                await self._engine.let_go()
                self._metrics.cancellation_ms.observe((time.monotonic() - stopped_s) * 1000)

    async def all_ended(self, limit_s: float | None) -> bool:
        """Wait for the running jobs, None for as long as they take; tell whether all have ended."""
        running = {job.task for job in self.jobs.running() if job.task is not None}
        if running:
            _, running = await asyncio.wait(running, timeout=limit_s)
        return not running

    def abandon(self) -> None:
        """Cancel every job without a word; for the very end."""
        for job in self.jobs.running():
            if job.task is not None:
                job.task.cancel()

    async def _prepare(self, job: Job, request: Execute, prompt: Prompt | None) -> Given | Work:
        """Count the tokens of what is asked; a stopped job does not wait for an engine that hangs."""
        task = job.task = job.interruptible = asyncio.current_task()
        try:
            if prompt is None:
                return await planned(self._engine, self.model, request)
            if not self.model.takes_tokens:
                if request.first_token and not prompt.continue_text:
                    raise errors.CannotContinue("what an earlier attempt has put out is no text that can be continued")
                if calls_tools(request):
                    await self._engine.check(grammar="", tools=True)
                return await counted(self._engine, prompt)
            grammar, tools = grammar_of(request), calls_tools(request) and not must_call(request)
            if grammar or tools:
                await self._engine.check(grammar=grammar, tools=tools)
            return await counted(self._engine, prompt)
        except asyncio.CancelledError:
            if job.stopping is None or (task is not None and task.uncancel()):
                raise
            raise job.stopping from None
        finally:
            job.interruptible = None

    async def _run(self, job: Job, request: Execute, given: Given | Work, max_tokens: int) -> None:
        tally = Tally(tokens_in=given.count)
        self._metrics.tokens_in.inc(given.count)
        outcome = "completed"
        job.interruptible = asyncio.current_task()
        try:
            if job.stopping is not None:
                raise job.stopping
            job.event("started", self._started(job, given.count, max_tokens))
            if isinstance(given, Work):
                reason = await write_lines(job, given, tally, first=request.first_token)
            else:
                reason = await self._write(job, request, given, max_tokens, tally)
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

    async def _write(self, job: Job, request: Execute, given: Given, max_tokens: int, tally: Tally) -> StopReason:
        """Generate; return why the text is over."""
        draft = Draft([] if must_call(request) else request.stop, held=request.continue_held)
        pieces, reason = draft.begin()
        if reason is None and not max_tokens:
            pieces, reason = draft.add([Chunk(stop="max_tokens")])
        job.tokens(pieces)
        if reason is not None:
            return reason
        async with aclosing(self._steps(request, given, max_tokens)) as steps:
            return await write(job, steps, draft, tally, self.rate)

    def _steps(self, request: Execute, given: Given, max_tokens: int) -> AsyncGenerator[list[Chunk], None]:
        """Have the engine generate, in the way that the request needs."""
        if not self.model.takes_tokens:
            return self._converse(request, max_tokens)
        if must_call(request):
            return as_calls(self._generate(request, given, max_tokens))
        if calls_tools(request) or request.reasoning_format == "auto":
            return self._engine.converse(prompt_of(request), request, max_tokens=max_tokens, seed=request.seed)
        return self._generate(request, given, max_tokens)

    def _converse(self, request: Execute, max_tokens: int) -> AsyncGenerator[list[Chunk], None]:
        prompt = self._prompt(request)
        steps = self._engine.converse(prompt, request, max_tokens=max_tokens, seed=request.seed)
        formed = request.response_format is not UNSET and request.response_format.type != "text"
        return as_json(steps) if formed and not must_call(request) else steps

    def _generate(self, request: Execute, given: Given, max_tokens: int) -> AsyncGenerator[list[Chunk], None]:
        grammar, engine, seed = grammar_of(request), self._engine, request.seed
        if given.tokens is None:
            assert isinstance(engine, Seeing)
            steps = engine.look(given.prompt, request, max_tokens=max_tokens, seed=seed, grammar=grammar)
        else:
            behind = [*given.tokens, *request.continue_ids]
            steps = engine.generate(behind, request, max_tokens=max_tokens, seed=seed, grammar=grammar)
        return as_json(steps) if grammar and not request.continue_ids else steps

    def _failed(self, job: Job, error: errors.LlorchError) -> str:
        job.fail(error)
        return "cancelled" if isinstance(error, errors.Cancelled) else "failed"

    def _count(self, job: Job, tally: Tally, outcome: str) -> None:
        now_s, metrics = time.monotonic(), self._metrics
        metrics.outcomes.labels(outcome).inc()
        metrics.tokens_generated.inc(tally.tokens_out)
        metrics.tokens_cached.inc(tally.tokens_cached)
        metrics.drafted.inc(tally.drafted)
        metrics.accepted.inc(tally.accepted)
        metrics.inference_ms.observe((now_s - tally.began_s) * 1000)
        if tally.first_token_s is not None:
            metrics.first_token_ms.observe((tally.first_token_s - tally.began_s) * 1000)
        if job.stopping is not None:
            self._stops.put_nowait(job.stopped_s)
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

    def _room(self, tokens: int, request: Execute) -> int:
        """Return how many tokens may be generated behind so many."""
        context = self.model.context_length
        if tokens >= context and request.continue_ids and self.model.takes_tokens:
            return 0
        if tokens >= context and not self.model.counts_tokens:
            return 1  # that is an estimate: the engine knows better
        if tokens >= context:
            raise errors.InvalidRequest(
                f"the prompt has {tokens} tokens, and a slot's context of {context} holds at most {context - 1} "
                "and one to generate; shorten the prompt",
                details={"prompt_tokens": tokens, "context_length": context},
            )
        wanted = request.max_tokens if isinstance(request.max_tokens, int) else DEFAULT_MAX_TOKENS
        return min(wanted, context - tokens)

    def _check_ids(self, request: Execute) -> None:
        if not self.model.takes_tokens:
            return
        biased = map(int, request.logit_bias or ()) if isinstance(request.logit_bias, dict) else ()
        for field, ids in (("continue_ids", request.continue_ids), ("logit_bias", biased)):
            if max(ids, default=0) >= max(1, self.model.vocab_size):
                raise invalid([FieldProblem(field, f"the model has only {self.model.vocab_size} tokens")])

    def _prompt(self, request: Execute) -> Prompt:
        """Return what is to be continued, with the text behind it unless the engine goes on with the tokens of that."""
        if self.model.takes_tokens and request.continue_ids:
            return prompt_of(request)
        return prompt_of(request, request.continue_text + request.continue_held)


async def counted(engine: Engine, prompt: Prompt) -> Given:
    """Return a prompt with the number of its tokens.

    Raises:
        InvalidRequest: The model's chat template refuses it, or there are pictures in it and nothing reads them.
    """
    if not images_of(prompt.messages):
        tokens = await engine.tokenize(prompt)
        return Given(prompt, len(tokens), tokens)
    if not isinstance(engine, Seeing):
        raise invalid(image_problems(prompt.messages, NO_PROJECTOR))
    return Given(prompt, await engine.measure(prompt))


def prompt_of(request: Execute | CountTokens, continue_text: str = "") -> Prompt:
    """Return what a request asks to continue.

    Raises:
        InvalidRequest: It has not exactly one of prompt and messages.
    """
    text = request.prompt if isinstance(request.prompt, str) else ""
    messages = request.messages if isinstance(request.messages, list) else []
    if bool(text) == bool(messages):
        raise invalid([FieldProblem("prompt", "exactly one of prompt and messages is required")])
    choice = request.tool_choice if isinstance(request, Execute) else UNSET
    tools = request.tools if isinstance(request.tools, list) and choice != "none" else []
    return Prompt(text=text, messages=messages, tools=spelled_out(tools), continue_text=continue_text)
