"""The worker without HTTP: its engine's life, its state, and the way to its jobs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from llorch import errors, log
from llorch.client import Client
from llorch.wire.pools import WorkerState
from llorch.wire.protocol import PROTOCOL
from llorch.wire.workers import (
    CancelAccepted,
    CancelJob,
    CountTokens,
    Execute,
    MemoryArchitecture,
    Ready,
    TokenCount,
    WorkerHealth,
)
from roles.worker.backend import Engine
from roles.worker.inference.executor import NOTHING_LOADED, Executor, counted, prompt_of
from roles.worker.inference.job import Job
from roles.worker.inference.jobs import Jobs
from roles.worker.metrics import WorkerMetrics
from roles.worker.options import WorkerOptions
from roles.worker.orphan import callback_waits

MEMORY: dict[str, MemoryArchitecture] = {"cpu": "system", "cuda": "vram-only", "metal": "unified"}
END_S = 2.0
PROGRESS_STEP = 10.0

_log = log.get("worker")


class Core:
    """Loads, watches, drains; what happens to a job is the executor's.

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
        self._state: Literal["starting", "ready", "draining", "failed"] = "starting"
        self._error: str | None = None
        self._progress = 0.0
        self._load_ms = 0
        self._began_s = time.monotonic()
        self._ending = False
        self._drain_s: float | None = options.drain_s
        self._patience: asyncio.Timeout | None = None
        self.jobs = Jobs(options.slots, options.reattach_s)
        self._executor = Executor(self.jobs, engine, metrics=metrics, tasks=tasks)

    async def run(self, address: Awaitable[str]) -> None:
        """Load the model, tell the pool, and watch the engine for as long as the worker lives.

        Raises:
            LlorchError: The worker cannot go on: the load failed, the pool refused, or the engine has died. By then
                every job has got its last event.
        """
        try:
            began_s = time.monotonic()
            facts = self._executor.model = await self._engine.load(self._loading)
            self.jobs.slots = facts.slots or self.jobs.slots
            self._load_ms = round((time.monotonic() - began_s) * 1000)
            if self._state == "starting":
                self._state = "ready"
            _log.info("model_loaded", model_ref=self._options.model_ref, ms=round(self._uptime_s() * 1000))
            if self._options.callback_url:
                await self._call_back(await address)
            reason = await self._engine.died()
            raise errors.EngineFailed(reason)
        except errors.LlorchError as error:
            self._state, self._error = "failed", error.message
            await self._executor.all_ended(END_S)
            raise

    async def execute(self, request: Execute) -> Job:
        """Give a job a slot and begin it.

        An earlier attempt of the same job that still runs here is stopped, and its slot passes to this one. A
        continuation for which there is no room any more ends at once, as the attempt before it was about to.

        Raises:
            NotReady, Draining, AllSlotsBusy: Not now.
            Conflict: This attempt of the job, or a later one, is known here already.
            InvalidRequest: Not exactly one of prompt and messages, more tokens than a slot's context holds, or ids that
                are not this model's.
            Cancelled: The job was stopped while its tokens were counted.
        """
        return await self._executor.begin(request, self._check_ready)

    def cancel(self, request: CancelJob) -> CancelAccepted:
        """Have a job stopped; harmless when there is none, or only another attempt than the one named."""
        attempt = request.attempt if isinstance(request.attempt, int) else None
        return self._executor.cancel(request.job_id, attempt)

    async def count(self, request: CountTokens) -> TokenCount:
        """Return how many tokens a prompt is.

        Raises:
            NotReady: No model is loaded.
            InvalidRequest: Not exactly one of prompt and messages.
        """
        if self._state == "starting":
            self._check_ready()
        given = await counted(self._engine, prompt_of(request))
        facts = self._executor.model
        return TokenCount(given.count, facts.context_length, exact=facts.counts_tokens)

    def health(self) -> WorkerHealth:
        """Return what is known without asking anybody."""
        o, facts = self._options, self._executor.model
        health = WorkerHealth(
            status=self._status(),
            worker_id=o.worker_id,
            model=o.model_path.name,
            model_ref=o.model_ref,
            resident=facts is not NOTHING_LOADED,
            progress=round(self._progress, 9),  # whoever waits sees that it moves
            quant_kind=facts.quant_kind,
            vocab_size=facts.vocab_size,
            context_length=facts.context_length,
            memory_bytes=facts.memory_bytes,
            slots=self.jobs.slots,
            slots_busy=self.jobs.busy,
            tokens_per_second=self._executor.rate.per_second(time.monotonic()),
            uptime_s=round(self._uptime_s(), 3),
            capabilities=list(facts.can),
            protocol=PROTOCOL,
            engine=o.engine,
            backend=o.backend,
            load_ms=self._load_ms,
        )
        return health if self._error is None else msgspec.structs.replace(health, error=self._error)

    async def drain(self) -> None:
        """Refuse new jobs; give the running ones the time they have, then end them so that they can run elsewhere."""
        if self._state != "failed":
            self._state = "draining"
        try:
            async with asyncio.timeout(self._drain_s) as self._patience:
                await self._executor.all_ended(None)
        except TimeoutError:
            for job in self.jobs.running():
                job.stop(errors.Draining("the worker is shutting down; the job can go on elsewhere"))
            await self._executor.all_ended(END_S)
        finally:
            self._patience = None

    def ends(self, drain_s: float | UnsetType | None) -> bool:
        """Take note that this worker is to end; tell whether it was not ending already.

        Args:
            drain_s: What running jobs may take from now on; None for as long as they take, UNSET leaves it as it is.
        """
        first = not self._ending and self._state != "draining"
        self._ending = True
        if drain_s is not UNSET:
            self._drain_s = drain_s
            if self._patience is not None and not self._patience.expired():
                self._patience.reschedule(None if drain_s is None else asyncio.get_running_loop().time() + drain_s)
        return first

    async def sweep(self) -> None:
        """Forget old jobs and stop those that nobody reads any more, for ever."""
        every_s = max(0.05, min(1.0, self._options.reattach_s / 4))
        while True:
            await asyncio.sleep(every_s)
            for job in self.jobs.sweep(time.monotonic()):
                _log.info("job_unread", job_id=job.id, attempt=job.attempt)
                job.stop(errors.Cancelled("the job was cancelled, because nobody came back to read it"))

    async def time_stops(self) -> None:
        """See `Executor.time_stops`."""
        await self._executor.time_stops()

    def abandon(self) -> None:
        """Cancel every job without a word; for the very end."""
        self._executor.abandon()

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

    async def _call_back(self, uri: str) -> None:
        """Tell the pool that this worker takes jobs; one that is away is told when it is back.

        Raises:
            EngineFailed: The engine has died meanwhile.
        """
        o, facts = self._options, self._executor.model
        body = Ready(
            worker_id=o.worker_id,
            model_ref=o.model_ref,
            uri=uri,
            memory_bytes=facts.memory_bytes,
            memory_architecture=MEMORY[o.backend],
            backend=o.backend,
            engine=o.engine,
            capabilities=list(facts.can),
            slots=self.jobs.slots,
            context_length=facts.context_length,
            load_ms=self._load_ms,
            protocol=PROTOCOL,
        )
        async with Client(o.callback_url, token=o.token, what="the pool") as pool:
            for wait_s in callback_waits(patient=o.orphan_s > 0):
                try:
                    async with pool.request("POST", "", body=body, timeout_s=10):
                        return
                except errors.Unreachable as error:
                    away = error
                if reason := await self._dies_within(wait_s):
                    raise errors.EngineFailed(reason)
            raise away

    async def _dies_within(self, limit_s: float) -> str:
        """Return why the engine has died; empty when it has not within *limit_s*."""
        try:
            async with asyncio.timeout(limit_s):
                return await self._engine.died()
        except TimeoutError:
            return ""
