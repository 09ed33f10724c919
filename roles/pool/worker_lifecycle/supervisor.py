"""The one owner of worker records: starts workers, watches them, stops them. Decides nothing about what should run.

Strategy: each worker has one task from start to end (`_live`), which waits for its process; beside it runs a watch,
which asks for progress until the worker is ready and for its health afterwards. Every change of a record goes through
`_put`. Whoever wants a worker gone only marks it; the exit of the process is what makes it so.
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from llorch import log
from llorch.errors import Conflict, Draining, WorkerNotFound
from llorch.wire.workers import Ready
from roles.pool.metrics import LifecycleMetrics
from roles.pool.model_cache.catalogue import ModelFile
from roles.pool.worker_lifecycle import contact, records
from roles.pool.worker_lifecycle.launcher import Child, Launcher, WorkerSpec
from roles.pool.worker_lifecycle.preflight import Commitment, Plan
from roles.pool.worker_lifecycle.records import Record

KEEP_ENDED_MS = 600_000
START_POLL_S = 0.1
HEALTH_INTERVAL_S = 10.0
SLOWEST_LOAD_BYTES_S = 100_000_000
"""Loading is given the time that reading the weights at this rate takes; measured rates below it replace it."""
MAX_LOG_LINES = 200
_log = log.get("pool.supervisor")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the supervisor waits for a worker."""

    ready_timeout_s: float
    drain_s: float
    stop_grace_s: float
    health_interval_s: float = HEALTH_INTERVAL_S


@dataclass(frozen=True, slots=True)
class Home:
    """Where workers bind, and where they call back."""

    host: str
    callback_url: str
    port: int = 0


class _Run:
    """What is not data: a worker's child, and what is asked of it."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self.child: Child | None = None
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        self.stop_asked = asyncio.Event()

    def end(self) -> None:
        """Nothing is left of it; who waits for anything need not any more."""
        self.ended.set()
        self.stop_asked.set()


class Supervisor:
    """All workers of this host.

    Args:
        launcher: Starts them.
        tasks: Owns their tasks.
        patience: How long to wait for them.
        metrics: Counts starts and stops.
        changed: Called when the orchestrator should hear of something at once.
        clock_ms: Unix milliseconds.
    """

    def __init__(
        self,
        launcher: Launcher,
        tasks: asyncio.TaskGroup,
        *,
        patience: Patience,
        metrics: LifecycleMetrics,
        changed: Callable[[], None],
        clock_ms: Callable[[], int],
    ) -> None:
        self._launcher = launcher
        self._tasks = tasks
        self._patience = patience
        self._metrics = metrics
        self.changed = changed
        self._clock_ms = clock_ms
        self._records: dict[str, Record] = {}
        self._runs: dict[str, _Run] = {}
        self._load_rate = float(SLOWEST_LOAD_BYTES_S)
        self.draining = False

    def workers(self) -> list[Record]:
        """Return all records, oldest first; those that ended long ago are forgotten."""
        oldest = self._clock_ms() - KEEP_ENDED_MS
        for worker_id, record in list(self._records.items()):
            if not record.live and record.ended_ms < oldest:
                del self._records[worker_id], self._runs[worker_id]
        return list(self._records.values())

    def worker(self, worker_id: str) -> Record:
        """Return one record.

        Raises:
            WorkerNotFound: No such worker, or it ended long ago.
        """
        try:
            return self._records[worker_id]
        except KeyError:
            raise WorkerNotFound("there is no worker with that id on this host") from None

    def pending(self) -> frozenset[str]:
        """Return the ids of workers that have not taken all their memory yet."""
        return frozenset(r.worker_id for r in self._records.values() if r.live and not r.was_ready)

    def commitments(self, pending: frozenset[str]) -> list[Commitment]:
        """Return the memory of all living workers; those in *pending* have not taken theirs."""
        return [r.commitment(pending=r.worker_id in pending) for r in self._records.values() if r.live]

    def start(self, file: ModelFile, plan: Plan, home: Home) -> Record:
        """Start a worker; its memory counts as taken from now on.

        Raises:
            Draining: This pool is shutting down.
        """
        if self.draining:
            raise Draining("this pool is shutting down and starts no workers", retry_after_s=5)
        record = Record(
            worker_id=str(uuid.uuid4()),
            model_ref=file.ref,
            plan=plan,
            started_ms=self._clock_ms(),
            weights_bytes=file.metadata.weights_bytes,
            token=secrets.token_urlsafe(32),
            memory_bytes=plan.memory_bytes,
        )
        spec = WorkerSpec(
            worker_id=record.worker_id,
            model_ref=file.ref,
            path=file.path,
            backend=plan.backend,
            engine=plan.engine,
            device=plan.device,
            slots=plan.slots,
            ctx=plan.ctx,
            host=home.host,
            port=home.port,
            callback_url=home.callback_url,
            token=record.token,
        )
        run = _Run(spec)
        self._records[record.worker_id], self._runs[record.worker_id] = record, run
        self._tasks.create_task(self._live(record.worker_id, run), name=f"worker {record.worker_id}")
        self.changed()
        return record

    def ready(self, worker_id: str, body: Ready) -> Record:
        """Take in a worker's callback.

        Raises:
            WorkerNotFound: No such worker.
            Conflict: It is not starting: the callback counts once.
        """
        record = self.worker(worker_id)
        if record.status != "starting" or record.condemned:
            raise Conflict(f"this worker is {record.status}; it can become ready only while it is starting")
        now_ms = self._clock_ms()
        after = self._put(records.ready(record, body, now_ms=now_ms))
        load_s = (now_ms - record.started_ms) / 1000
        if load_s > 1:
            self._load_rate = min(self._load_rate, max(record.weights_bytes / load_s, 1.0))
        self._metrics.starts.labels("ready").inc()
        _log.info("worker_ready", worker_id=worker_id, model_ref=record.model_ref, load_ms=round(load_s * 1000))
        return after

    def drain(self, worker_id: str) -> Record:
        """Let a worker finish its jobs and then end, however long that takes.

        Raises:
            WorkerNotFound: No such worker.
        """
        return self._retire(worker_id, at_once=False)

    def stop(self, worker_id: str) -> Record:
        """Stop a worker: drain, SIGTERM, SIGKILL, each when the one before took too long.

        Raises:
            WorkerNotFound: No such worker.
        """
        return self._retire(worker_id, at_once=True)

    async def logs(self, worker_id: str) -> Sequence[str]:
        """Return the last lines a worker logged, without its place on this host.

        Raises:
            WorkerNotFound: No such worker.
        """
        record = self.worker(worker_id)
        run = self._runs[worker_id]
        lines = await run.child.lines(MAX_LOG_LINES) if run.child else []
        return [line.replace(str(run.spec.path), record.model_ref) for line in lines]

    async def close(self) -> None:
        """Start no more workers, stop all there are, and return when they have ended."""
        self.draining = True
        self.changed()
        for record in self.workers():
            self.stop(record.worker_id)
        for run in list(self._runs.values()):
            await run.ended.wait()

    def _retire(self, worker_id: str, *, at_once: bool) -> Record:
        record, run = self.worker(worker_id), self._runs[worker_id]
        if not record.live:
            return record
        if at_once:
            run.stop_asked.set()
        if record.status == "draining":
            return record
        self._tasks.create_task(self._end(run, was_ready=record.was_ready), name=f"end of worker {worker_id}")
        return self._put(replace(record, status="draining"))

    def _put(self, record: Record) -> Record:
        before = self._records[record.worker_id]
        self._records[record.worker_id] = record
        if records.noteworthy(before, record):
            self.changed()
        return record

    async def _live(self, worker_id: str, run: _Run) -> None:
        """Start the process, wait for its end, and tell how it ended."""
        try:
            run.child = child = await self._launcher.start(run.spec)
        except OSError as error:
            failed = records.condemned(
                self._records[worker_id], "ENGINE_FAILED", f"the worker could not be started: {error.strerror}"
            )
            self._ended(failed, 127, last_line="")
            run.started.set()
            run.end()
            return
        self._put(replace(self._records[worker_id], pid=child.pid))
        run.started.set()
        _log.info("worker_started", worker_id=worker_id, model_ref=run.spec.model_ref, pid=child.pid)
        try:
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(self._watch(worker_id, run, child), name=f"watch of worker {worker_id}")
                code = await child.wait()
                watch.cancel()
        finally:
            child.kill()
        last = await child.lines(1)
        line = last[0].replace(str(run.spec.path), run.spec.model_ref) if last else ""
        self._ended(self._records[worker_id], code, last_line=line)
        run.end()

    def _ended(self, record: Record, code: int, *, last_line: str) -> None:
        after = self._put(records.exited(record, code, last_line=last_line, now_ms=self._clock_ms()))
        if not record.was_ready:
            outcome = "timeout" if after.error_code == "STARTUP_TIMEOUT" else "failed"
            self._metrics.starts.labels("stopped" if after.status == "stopped" else outcome).inc()
        self._metrics.stops.labels(records.end_reason(record, after)).inc()
        _log.info(
            "worker_ended", worker_id=record.worker_id, status=after.status, exit_code=code, error=after.error or None
        )

    async def _watch(self, worker_id: str, run: _Run, child: Child) -> None:
        """Ask for progress until the worker is ready, for its health afterwards; end what does not answer."""
        await self._watch_start(worker_id, child)
        if self._records[worker_id].condemned:
            return
        await self._watch_health(worker_id, run, child)

    async def _watch_start(self, worker_id: str, child: Child) -> None:
        loop = asyncio.get_running_loop()
        first = self._records[worker_id]
        patience_s = self._patience.ready_timeout_s + first.weights_bytes / self._load_rate
        deadline = loop.time() + patience_s
        while (record := self._records[worker_id]).status == "starting":
            if loop.time() >= deadline:
                reason = f"it was not ready and made no progress for {patience_s:.0f} s"
                self._condemn(records.condemned(record, "STARTUP_TIMEOUT", reason), child)
                return
            url = await child.url()
            if url is not None and (health := await contact.health(url, record.token)) is not None:
                current = self._records[worker_id]
                if current.status == "starting" and health.progress > current.progress:
                    deadline = loop.time() + patience_s
                    self._put(records.healthy(current, health))
            await asyncio.sleep(START_POLL_S)

    async def _watch_health(self, worker_id: str, run: _Run, child: Child) -> None:
        while not self._records[worker_id].condemned:
            await asyncio.sleep(self._patience.health_interval_s)
            record = self._records[worker_id]
            if not record.uri:
                return
            health = await contact.health(record.uri, record.token)
            record = self._records[worker_id]
            if health is not None:
                self._put(records.healthy(record, health))
            elif (after := records.missed(record)).condemned:
                self._condemn(after, child)
            else:
                self._put(after)

    def _condemn(self, record: Record, child: Child) -> None:
        self._put(record)
        assert record.condemned is not None
        code, reason = record.condemned
        _log.warning("worker_killed", worker_id=record.worker_id, code=code, reason=reason)
        child.kill()

    async def _end(self, run: _Run, *, was_ready: bool) -> None:
        """End a worker gently, then less so."""
        await run.started.wait()
        if run.child is None:
            return
        record = self._records[run.spec.worker_id]
        if was_ready and await contact.shut_down(record.uri, record.token):
            await run.stop_asked.wait()
            if await _within(run.ended, self._patience.drain_s):
                return
        run.child.terminate()
        if not await _within(run.ended, self._patience.stop_grace_s):
            _log.warning("worker_killed", worker_id=run.spec.worker_id, reason="it did not end when it was told to")
            run.child.kill()


async def _within(event: asyncio.Event, limit_s: float) -> bool:
    """Tell whether *event* happens within *limit_s*."""
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
