"""The orchestrator without HTTP: submit, look up, cancel, follow, and what pools say."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence

import msgspec

from llorch import errors, log
from llorch.client import Client
from llorch.job import FINAL, JobId
from llorch.wire.events import EventId
from llorch.wire.models import DownloadModel, Started
from llorch.wire.pools import Heartbeat, Pool, Register, Spawned, SpawnWorker
from llorch.wire.tasks import CancelReply, Explanation, Task
from roles.orchestrator import fetching
from roles.orchestrator.clock import ClockMs
from roles.orchestrator.fleet import Fleet
from roles.orchestrator.metrics import OrchestratorMetrics
from roles.orchestrator.names import Names
from roles.orchestrator.pool_record import public
from roles.orchestrator.queue.attempt import Patience
from roles.orchestrator.queue.dispatcher import Dispatcher
from roles.orchestrator.recovery import recover
from roles.orchestrator.relay import Relay
from roles.orchestrator.state.pools import KnownPools
from roles.orchestrator.state.rows import Filter, JobRow
from roles.orchestrator.state.store import Store
from roles.orchestrator.stream import Stream
from roles.orchestrator.submission import Submissions
from roles.orchestrator.view import explain, task_of

CALL_TIMEOUT_S = 2.0
PREFIX_KEY_BYTES = 16
RETURN_S = 60.0
"""After a restart, readers of a job that shall end with its last reader have this long to come back."""
_log = log.get("orchestrator")


class Orchestrator:
    """What the API calls. Nothing is told to a client before it is on disk."""

    def __init__(  # noqa: PLR0913 - the parts of an orchestrator
        self,
        *,
        store: Store,
        fleet: Fleet,
        metrics: OrchestratorMetrics,
        clock_ms: ClockMs,
        aliases: Mapping[str, str],
        queue_capacity: int,
        patience: Patience,
        prefix_affinity: bool,
    ) -> None:
        self.names = Names(aliases, fleet)
        self.relay = Relay(store, on_read=self._read, on_unread=self._unread)
        self.dispatcher = Dispatcher(
            store=store,
            relay=self.relay,
            fleet=fleet,
            names=self.names,
            metrics=metrics,
            clock_ms=clock_ms,
            patience=patience,
        )
        self.submissions = Submissions(
            store,
            self.dispatcher,
            fleet=fleet,
            metrics=metrics,
            clock_ms=clock_ms,
            names=self.names,
            prefix_key=secrets.token_bytes(PREFIX_KEY_BYTES) if prefix_affinity else None,
            capacity=queue_capacity,
        )
        self.fleet = fleet
        self.aliases = aliases
        self.queue_capacity = queue_capacity
        self._store = store
        self._known_pools = KnownPools(store)
        self._clock_ms = clock_ms
        self._erased_to_ms = 0

    @property
    def draining(self) -> bool:
        """Whether new work is refused."""
        return self.submissions.draining

    async def recover(self) -> None:
        """Take up what an earlier process left.

        Raises:
            InvalidConfiguration: The database is damaged.
        """
        for pool_id in await self._known_pools.drained():
            self.fleet.drain(pool_id, now_ms=self._clock_ms())
        for worker_id, keep_alive_s in await self._store.kept_workers():
            self.fleet.keep(worker_id, keep_alive_s)
        self.submissions.last_seq = await self._store.last_seq()
        read = await recover(self._store, self.relay, self.dispatcher, now_ms=self._clock_ms())
        asyncio.get_running_loop().call_later(RETURN_S, self._abandon_unread, read)

    async def call_pools(self) -> None:
        """Tell the pools that were there last that this process is here, so that they register at once."""
        async with asyncio.TaskGroup() as calls:
            for pool_id, endpoint in (await self._known_pools.endpoints()).items():
                calls.create_task(self._call_pool(endpoint), name=f"call to pool {pool_id}")

    async def task(self, job_id: str, *, attempts: bool = True) -> Task:
        """Return everything known about a job.

        Raises:
            JobNotFound: There is none with that id.
        """
        row = await self._row(job_id)
        log_of_attempts = await self._store.attempts(row.seq) if attempts else None
        return task_of(row, position=self.dispatcher.queue.position(row.id), attempts=log_of_attempts)

    async def tasks(self, wanted: Filter) -> tuple[list[Task], int | None]:
        """Return a page of jobs, newest first, and the sequence number to go on before."""
        rows = await self._store.page(wanted)
        position = self.dispatcher.queue.position
        found = [task_of(row, position=position(row.id), attempts=None) for row in rows]
        return found, rows[-1].seq if len(rows) == wanted.limit else None

    async def cancel(self, job_id: str) -> CancelReply:
        """Cancel a job; the reply has its final state, or `cancelling` while a worker still has it.

        Raises:
            JobNotFound: There is none with that id.
        """
        row = await self._row(job_id)
        if row.state not in FINAL:
            await self.dispatcher.cancel(row.id)
            row = await self._row(job_id)
        return CancelReply(row.id, row.state.value)

    async def explain(self, job_id: str) -> Explanation:
        """Tell why a job is where it is, from what the scheduler decided last.

        Raises:
            JobNotFound: There is none with that id.
        """
        row = await self._row(job_id)
        journal = self.dispatcher.placement.journal
        return explain(
            row,
            attempts=await self._store.attempts(row.seq) if row.first_token_ms is not None else (),
            position=self.dispatcher.queue.position(row.id),
            last=journal.last(row.model_ref),
            dispatch=journal.job(row.id),
            hold=journal.held(row.id, now_ms=self._clock_ms()),
            loading=self.fleet.loading(row.model_ref),
            now_ms=self._clock_ms(),
        )

    async def follow(self, job_id: str, after: EventId, *, owner: str) -> AsyncGenerator[bytes, None]:
        """Return a job's events behind *after*; raises before the first one when there are none to be had.

        Raises:
            JobNotFound: No such job of this owner, or its output is not kept any more.
        """
        row = await self._row(job_id)
        if row.owner not in {"", owner}:
            raise errors.JobNotFound("there is no such job that was submitted with this token")
        if (
            self.relay.find(JobId(job_id)) is None
            and row.state in FINAL
            and row.pieces > after.tokens
            and not await self._store.output(row.seq, start=after.tokens)
        ):
            raise errors.JobNotFound("the output of this job is not kept any more")
        return self.relay.follow(JobId(job_id), after)

    async def register(self, body: Register) -> None:
        """Take in a pool."""
        await self.fleet.register(body, now_ms=self._clock_ms())
        await self._known_pools.remember(body.pool_id, self.fleet.pool(body.pool_id).endpoint)
        _log.info("pool_registered", pool_id=body.pool_id, endpoint=body.endpoint, devices=len(body.devices))
        self.dispatcher.fleet_changed()

    async def heard(self, pool_id: str, beat: Heartbeat) -> None:
        """Take a heartbeat."""
        lost = await self.fleet.heard(pool_id, beat, now_ms=self._clock_ms())
        for worker_id in lost:
            _log.info("worker_gone", pool_id=pool_id, worker_id=worker_id)
        self.dispatcher.runs.workers_gone(lost)
        self.dispatcher.fleet_changed()

    async def spawn(self, pool_id: str, body: SpawnWorker) -> Spawned:
        """Ask a pool for a worker, on an operator's behalf.

        Raises:
            Draining: It shall get none.
            LlorchError: The pool's own refusal, or `POOL_UNREACHABLE`.
        """
        if self.fleet.drained(pool_id):
            raise errors.Draining(f"pool {pool_id} is drained and gets no workers; llorch pool drain {pool_id} --undo")
        body = msgspec.structs.replace(body, model_ref=await self.names.pinned(body.model_ref))
        body = await self.names.equipped(body)
        pool = self.fleet.pool(pool_id)
        if pool.trouble:
            raise errors.Draining(f"pool {pool_id} gets no workers: {pool.trouble}; {pool.remedy}")
        try:
            spawned = await pool.client.send("POST", "/v2/workers/spawn", Spawned, body=body)
        except errors.Unreachable as error:
            raise errors.PoolUnreachable(error.message) from error
        self.fleet.asked(pool_id, spawned.worker_id, body.model_ref, now_ms=self._clock_ms())
        return spawned

    async def drain_pool(self, pool_id: str) -> Pool:
        """Give a pool no new jobs and workers until `resume_pool`, whoever restarts meanwhile.

        Raises:
            PoolNotFound: There is none with that id.
        """
        pool = self.fleet.pool(pool_id)
        await self._known_pools.drain(pool_id)
        self.fleet.drain(pool_id, now_ms=self._clock_ms())
        _log.info("pool_drained", pool_id=pool_id)
        self.dispatcher.fleet_changed()
        return public(pool)

    async def resume_pool(self, pool_id: str) -> None:
        """Give a drained pool work again; one that is not drained stays as it is.

        Raises:
            PoolNotFound: It is neither there nor drained.
        """
        if not self.fleet.drained(pool_id):
            self.fleet.pool(pool_id)
        await self._known_pools.resume(pool_id)
        self.fleet.resume(pool_id, now_ms=self._clock_ms())
        _log.info("pool_resumed", pool_id=pool_id)
        self.dispatcher.fleet_changed()

    async def download(self, pool_id: str, body: DownloadModel) -> Started:
        """Ask a pool to fetch a model, on an operator's behalf; raises as `Names.pinned` and `fetching.download` do."""
        self.fleet.pool(pool_id)
        body = msgspec.structs.replace(body, model_ref=await self.names.pinned(body.model_ref))
        return await fetching.download(self.fleet, pool_id, body)

    async def clean(self, *, output_retention_ms: int, purge_after_ms: int) -> None:
        """Erase what has been kept long enough."""
        now_ms = self._clock_ms()
        before_ms = now_ms - output_retention_ms
        await self._store.erase_outputs(finished_from_ms=self._erased_to_ms, finished_before_ms=before_ms)
        self._erased_to_ms = before_ms
        await self._store.purge(finished_before_ms=now_ms - purge_after_ms)
        await self._store.checkpoint()

    async def drain(self, grace_s: float) -> None:
        """Refuse new work; let running jobs finish, or hand them back to the queue."""
        self.submissions.draining = True
        await self.dispatcher.drain(grace_s)

    async def _call_pool(self, endpoint: str) -> None:
        async with Client(endpoint, token=self.fleet.token, what="the pool") as pool:
            with contextlib.suppress(errors.LlorchError):  # it registers by itself when it is there again
                async with pool.request("POST", "/v2/report", timeout_s=CALL_TIMEOUT_S):
                    pass

    async def remove_pool(self, pool_id: str) -> None:
        """Forget a pool.

        Raises:
            PoolNotFound: There is none with that id.
        """
        await self.fleet.remove(pool_id)
        await self._known_pools.forget(pool_id)
        self.dispatcher.fleet_changed()

    def _read(self, stream: Stream) -> None:
        self.dispatcher.show(stream)

    def _unread(self, job_id: JobId) -> None:
        ticket = self.dispatcher.queue.get(job_id)
        running = self.dispatcher.runs.get(job_id)
        ticket = running.ticket if running is not None else ticket
        if ticket is not None and ticket.on_disconnect == "cancel" and not self.draining:
            self.dispatcher.abandon(job_id)

    def _abandon_unread(self, job_ids: Sequence[JobId]) -> None:
        for job_id in job_ids:
            stream = self.relay.find(job_id)
            if stream is None or not stream.readers:
                self._unread(job_id)

    async def _row(self, job_id: str) -> JobRow:
        row = await self._store.get(job_id)
        if row is None:
            raise errors.JobNotFound("there is no such job, or it was purged")
        return row
