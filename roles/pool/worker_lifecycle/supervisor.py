"""The workers of this host: starts them, takes over those that run already, stops them. Decides nothing else.

Each worker has one task from start to end, a `Life`. What is known of it is in the `Roster`.
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path

from llorch import log
from llorch.errors import Conflict, Draining, WorkerNotFound
from llorch.wire.engine_options import PLAIN, EngineOptions
from llorch.wire.protocol import differs
from llorch.wire.workers import Ready
from roles.pool.metrics import LifecycleMetrics
from roles.pool.worker_lifecycle import records
from roles.pool.worker_lifecycle.adoption import Finding
from roles.pool.worker_lifecycle.health_watch import Measure, Watch, nobody_tells
from roles.pool.worker_lifecycle.launcher import Child, Launcher, WorkerSpec
from roles.pool.worker_lifecycle.life import Life, Surroundings
from roles.pool.worker_lifecycle.preflight import Plan
from roles.pool.worker_lifecycle.reclaim import Reclaim
from roles.pool.worker_lifecycle.records import Record
from roles.pool.worker_lifecycle.roster import Roster

HEALTH_INTERVAL_S = 10.0
ENDING_S = 5.0
"""What a worker needs to hand its jobs back and to end; a signal in the middle of it would cut their streams."""
MAX_LOG_LINES = 200
_log = log.get("pool.supervisor")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a pool waits for a worker; `orphan_s` is how long a worker without jobs waits for a pool.

    A worker that is stopped ends its jobs after `drain_s`, and itself within `ending_s` of that.
    """

    ready_timeout_s: float
    drain_s: float
    stop_grace_s: float
    ending_s: float = ENDING_S
    health_interval_s: float = HEALTH_INTERVAL_S
    orphan_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Home:
    """Where workers bind, and where they call back."""

    host: str
    callback_url: str
    port: int = 0


class Supervisor:
    """All workers of this host.

    Args:
        launcher: Starts them.
        tasks: Owns their tasks.
        roster: Owns their records.
        patience: How long to wait for them.
        metrics: Counts starts and stops.
        reclaim: Proves that memory comes back.
        measure: Returns what a worker holds of its device; see `Watch`.
    """

    def __init__(  # noqa: PLR0913 - the parts of a pool
        self,
        launcher: Launcher,
        tasks: asyncio.TaskGroup,
        roster: Roster,
        *,
        patience: Patience,
        metrics: LifecycleMetrics,
        reclaim: Reclaim,
        measure: Measure = nobody_tells,
    ) -> None:
        self.roster = roster
        self.draining = False
        self.handing_over = False
        self._launcher = launcher
        self._tasks = tasks
        self._orphan_s = patience.orphan_s
        self._metrics = metrics
        self._watch = Watch(
            roster,
            metrics,
            reclaim,
            ready_timeout_s=patience.ready_timeout_s,
            health_interval_s=patience.health_interval_s,
            measure=measure,
        )
        self._around = Surroundings(
            launcher,
            roster,
            self._watch,
            metrics,
            reclaim,
            patience.drain_s,
            patience.ending_s,
            patience.stop_grace_s,
        )
        self._lives: dict[str, Life] = {}

    def workers(self) -> list[Record]:
        """Return all records, oldest first; those that ended long ago are forgotten."""
        found = self.roster.all()
        for worker_id in self._lives.keys() - {record.worker_id for record in found}:
            del self._lives[worker_id]
        return found

    def worker(self, worker_id: str) -> Record:
        """Return one record.

        Raises:
            WorkerNotFound: No such worker, or it ended long ago.
        """
        return self.roster.get(worker_id)

    def start(
        self,
        ref: str,
        path: Path,
        plan: Plan,
        home: Home,
        *,
        weights_bytes: int = 0,
        options: EngineOptions = PLAIN,
    ) -> Record:
        """Start a worker; its memory counts as taken from now on.

        Args:
            ref: The model.
            path: Its file; the reference itself where it has none.
            plan: What preflight has decided.
            home: Where it binds and calls back.
            weights_bytes: What it has to load.
            options: Those of the plan, with paths for references.

        Raises:
            Draining: This pool is shutting down.
        """
        if self.draining:
            raise Draining("this pool is shutting down and starts no workers", retry_after_s=5)
        record = Record(
            worker_id=str(uuid.uuid4()),
            model_ref=ref,
            plan=plan,
            started_ms=self.roster.clock_ms(),
            weights_bytes=weights_bytes,
            token=secrets.token_urlsafe(32),
            memory_bytes=plan.memory_bytes,
        )
        spec = WorkerSpec(
            worker_id=record.worker_id,
            model_ref=ref,
            path=path,
            backend=plan.backend,
            engine=plan.engine,
            device=plan.device,
            slots=plan.slots,
            ctx=plan.ctx,
            host=home.host,
            port=home.port,
            callback_url=home.callback_url,
            token=record.token,
            orphan_s=self._orphan_s,
            options=options,
            split=tuple((share.device, share.layers) for share in plan.shares),
        )
        life = self._new(record, str(path))
        self._run(life, life.begin(spec))
        return record

    def adopt(self, found: Finding, child: Child | None) -> None:
        """Take in what became of a worker that an earlier process of this pool left.

        Args:
            found: What is known of it.
            child: Its process; None when there is none that is surely its.
        """
        before, path = found.saved.record, found.saved.model_path
        if child is not None and child.pid is not None:
            record = records.adopted(before, child.pid)
            life = self._new(record, path, birth=child.birth)
            _log.info("worker_adopted", worker_id=record.worker_id, pid=child.pid, status=record.status)
            self._run(life, life.follow(child))
            if records.finishes(record):
                how = differs(record.protocol, whose="this pool")
                _log.warning("worker_finishes", worker_id=record.worker_id, reason=f"it {how}")
            if record.status == "draining":
                self._end_later(life, record)
        elif found.fate == "strange":
            self._new(records.left_alone(before, found.reason, now_ms=self.roster.clock_ms()), path)
            _log.warning("worker_left_alone", worker_id=before.worker_id, reason=found.reason)
        else:
            self._new(before, path).over(before, None, last_line=found.reason)

    def ended_alone(self, worker_id: str) -> None:
        """Take in that a process that was left alone has ended."""
        self.roster.put(records.not_there(self.roster.get(worker_id)))

    def ready(self, worker_id: str, body: Ready) -> Record:
        """Take in a worker's callback.

        Raises:
            WorkerNotFound: No such worker.
            Conflict: It is not starting: the callback counts once. Or it speaks another version than this pool.
        """
        record, life = self._one(worker_id)
        if record.live and record.was_ready and record.uri == body.uri and not life.called_back:
            life.called_back = True  # it was asked, and said so, a moment before it called
            return record
        if record.status != "starting" or record.condemned:
            raise Conflict(f"this worker is {record.status}; it can become ready only while it is starting")
        life.called_back = True
        after = self._watch.ready(records.ready(record, body, now_ms=self.roster.clock_ms()), life.child)
        if after.condemned:
            raise Conflict(f"this worker cannot be used: {after.condemned[1]}")
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
        _, life = self._one(worker_id)
        lines = await life.child.lines(MAX_LOG_LINES) if life.child else []
        return [life.public(line) for line in lines]

    @property
    def can_hand_over(self) -> bool:
        """Whether the workers can go on without this process."""
        return self._launcher.outlived

    def hand_over(self) -> list[Record]:
        """Leave the workers running when this process ends; return them.

        Raises:
            Conflict: They cannot go on without this process.
        """
        if not self.can_hand_over:
            raise Conflict("the workers run inside this process and end with it")
        self.handing_over = True
        return [record for record in self.workers() if record.live]

    async def close(self) -> None:
        """Start no more workers, stop all there are, and return when they have ended.

        After `hand_over` they are left running instead, for the next process of this pool; and so are, where this
        process breaks, those whose tasks that has ended.
        """
        self.draining = True
        self.roster.changed()
        lives = [life for life in self._lives.values() if life.goes_on]
        if self.handing_over:
            for life in lives:
                await life.leave()
            return
        for life in lives:
            self.stop(life.worker_id)
        for life in lives:
            await life.ended.wait()

    def _retire(self, worker_id: str, *, at_once: bool) -> Record:
        record, life = self._one(worker_id)
        if not record.live:
            return record
        if at_once:
            life.stop_asked.set()
        if record.status == "draining":
            return record
        self._end_later(life, record)
        return life.retire(record)

    def _one(self, worker_id: str) -> tuple[Record, Life]:
        record, life = self.roster.get(worker_id), self._lives.get(worker_id)
        if life is None:
            raise WorkerNotFound("there is no worker with that id on this host")
        return record, life

    def _new(self, record: Record, model_path: str, *, birth: str = "") -> Life:
        life = self._lives[record.worker_id] = Life(record.worker_id, model_path, self._around)
        self.roster.enter(record, model_path, birth=birth)
        return life

    def _run(self, life: Life, what: Coroutine[object, object, None]) -> None:
        life.task = self._tasks.create_task(what, name=f"worker {life.worker_id}")

    def _end_later(self, life: Life, record: Record) -> None:
        end = life.finish() if records.finishes(record) else life.end(was_ready=record.was_ready)
        self._tasks.create_task(end, name=f"end of worker {record.worker_id}")
