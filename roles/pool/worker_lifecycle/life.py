"""The life of one worker: its process is started, watched, ended; its end is told.

Whoever wants a worker gone only marks it; the exit of the process is what makes it so.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace

from llorch import log
from roles.pool.metrics import LifecycleMetrics
from roles.pool.worker_lifecycle import contact, records
from roles.pool.worker_lifecycle.health_watch import Watch
from roles.pool.worker_lifecycle.launcher import Child, Launcher, WorkerSpec
from roles.pool.worker_lifecycle.reclaim import Reclaim
from roles.pool.worker_lifecycle.records import Record
from roles.pool.worker_lifecycle.roster import Roster

NOT_STARTED = 127
IDLE_POLL_S = 1.0
_log = log.get("pool.life")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all workers of a pool share."""

    launcher: Launcher
    roster: Roster
    watch: Watch
    metrics: LifecycleMetrics
    reclaim: Reclaim
    drain_s: float
    ending_s: float
    stop_grace_s: float


class Life:
    """One worker's process, and what is asked of it.

    Args:
        worker_id: Its record is in the roster.
        model_path: Where its model is on this host, which nobody is told.
        around: What it shares with other workers.
    """

    def __init__(self, worker_id: str, model_path: str, around: Surroundings) -> None:
        self.worker_id = worker_id
        self.model_path = model_path
        self.child: Child | None = None
        self.task: asyncio.Task[None] | None = None
        self.called_back = False
        self.left = False
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        self.stop_asked = asyncio.Event()
        self._around = around

    async def begin(self, spec: WorkerSpec) -> None:
        """Start the process, and stay with it to its end. It is written down before there is one."""
        roster = self._around.roster
        await roster.written()
        try:
            child = await self._around.launcher.start(spec)
        except OSError as error:
            reason = f"the worker could not be started: {error.strerror}"
            self.over(records.condemned(roster.get(self.worker_id), "ENGINE_FAILED", reason), NOT_STARTED)
            return
        roster.born(self.worker_id, child.pid, child.birth)
        _log.info("worker_started", worker_id=self.worker_id, model_ref=spec.model_ref, pid=child.pid)
        await self.follow(child)

    async def follow(self, child: Child) -> None:
        """Watch the process, wait for its end, and tell how it ended."""
        self.child = child
        self.started.set()
        if self._record().condemned:
            child.kill()
        try:
            async with asyncio.TaskGroup() as tasks:
                name = f"watch of worker {self.worker_id}"
                watching = tasks.create_task(self._around.watch.follow(self.worker_id, child), name=name)
                code = await child.wait()
                watching.cancel()
        finally:
            self._let_go(child)
        last = await child.lines(1)
        self.over(self._record(), code, last_line=self.public(last[0]) if last else "")

    async def finish(self) -> None:
        """End the process once it has no job, however long that takes, or once somebody wants it stopped.

        What it is asked for here is answered alike by every version.
        """
        await self.started.wait()
        while not (self.left or self.ended.is_set() or await _within(self.stop_asked, IDLE_POLL_S)):
            record = self._record()
            health = await contact.health(record.uri, record.token)
            if health is not None and not health.slots_busy:
                break
        await self.end(was_ready=True)

    async def end(self, *, was_ready: bool) -> None:
        """End the process gently, then less so: its jobs take as long as they do until somebody wants it stopped."""
        await self.started.wait()
        if self.child is None or self.left:
            return
        record = self._record()
        await self._around.reclaim.look(record)
        if was_ready and await self._drained(record):
            return
        self.child.terminate()
        if not await _within(self.ended, self._around.stop_grace_s):
            _log.warning("worker_killed", worker_id=self.worker_id, reason="it did not end when it was told to")
            self.child.kill()

    async def _drained(self, record: Record) -> bool:
        """Have it finish its jobs and end; tell whether it has."""
        drain_s, at_once = self._around.drain_s, self.stop_asked.is_set()
        if not await contact.shut_down(record.uri, record.token, drain_s=drain_s if at_once else math.inf):
            return False
        if not at_once:
            await self.stop_asked.wait()
            if not self.ended.is_set():
                await contact.shut_down(record.uri, record.token, drain_s=drain_s)
        return await _within(self.ended, drain_s + self._around.ending_s)

    async def leave(self) -> None:
        """Let the process run on without this one."""
        await self.started.wait()
        self.left = True
        if self.child is not None and self.task is not None and not self.ended.is_set():
            self.child.leave()
            self.task.cancel()

    def over(self, before: Record, code: int | None, *, last_line: str = "") -> None:
        """Take in the end: nothing is left of it, and who waits for anything need not any more."""
        around = self._around
        now_ms = around.roster.clock_ms()
        after = around.roster.put(records.exited(before, code, last_line=last_line, now_ms=now_ms))
        if not before.was_ready:
            outcome = "timeout" if after.error_code == "STARTUP_TIMEOUT" else "failed"
            around.metrics.starts.labels("stopped" if after.status == "stopped" else outcome).inc()
        around.metrics.stops.labels(records.end_reason(before, after)).inc()
        _log.info(
            "worker_ended", worker_id=self.worker_id, status=after.status, exit_code=code, error=after.error or None
        )
        around.reclaim.ended(after)
        for event in (self.started, self.ended, self.stop_asked):
            event.set()

    def retire(self, record: Record) -> Record:
        """Mark it: it takes no more jobs."""
        return self._around.roster.put(replace(record, status="draining"))

    def public(self, line: str) -> str:
        """Return a line of its log without its model's place on this host."""
        return line.replace(self.model_path, self._record().model_ref)

    @property
    def goes_on(self) -> bool:
        """Whether its task has neither ended nor been told to."""
        return self.task is not None and not self.task.done() and not self.task.cancelling()

    def _let_go(self, child: Child) -> None:
        """Leave what runs still, where this process breaks or hands over, to the next one; end what cannot go on."""
        if self._around.launcher.outlived and not self._record().condemned:
            child.leave()
        else:
            child.kill()

    def _record(self) -> Record:
        return self._around.roster.get(self.worker_id)


async def _within(event: asyncio.Event, limit_s: float) -> bool:
    """Tell whether *event* happens within *limit_s*."""
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
