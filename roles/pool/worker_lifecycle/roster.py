"""All that is known of the workers of this host. The one owner of their records; starts and stops nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec

from llorch.errors import WorkerNotFound
from roles.pool.worker_lifecycle import records
from roles.pool.worker_lifecycle.ledger import Ledger, Saved
from roles.pool.worker_lifecycle.preflight import Commitment
from roles.pool.worker_lifecycle.records import Record

KEEP_ENDED_MS = 600_000


class Roster:
    """The records. Every change goes through `put`.

    Args:
        ledger: Where workers that outlive this process are written down; None when they do not.
        changed: Called when the orchestrator should hear of something at once.
        clock_ms: Unix milliseconds.
    """

    def __init__(self, ledger: Ledger | None, changed: Callable[[], None], clock_ms: Callable[[], int]) -> None:
        self.clock_ms = clock_ms
        self._ledger = ledger
        self._changed = changed
        self._records: dict[str, Record] = {}
        self._saved: dict[str, Saved] = {}

    def all(self) -> list[Record]:
        """Return all records, oldest first; those that ended long ago are forgotten."""
        oldest = self.clock_ms() - KEEP_ENDED_MS
        for worker_id, record in list(self._records.items()):
            if not record.live and not record.left_alone and record.ended_ms < oldest:
                del self._records[worker_id]
        return list(self._records.values())

    def get(self, worker_id: str) -> Record:
        """Return one record.

        Raises:
            WorkerNotFound: No such worker, or it ended long ago.
        """
        try:
            return self._records[worker_id]
        except KeyError:
            raise WorkerNotFound("there is no worker with that id on this host") from None

    def leaders(self) -> frozenset[int]:
        """Return the processes that lead the sessions of living workers. May be called in a thread."""
        return frozenset(r.pid for r in list(self._records.values()) if r.live and r.pid is not None)

    def pending(self) -> frozenset[str]:
        """Return the ids of workers that have not taken all their memory yet."""
        return frozenset(r.worker_id for r in self._records.values() if r.live and not r.was_ready)

    def commitments(self, pending: frozenset[str]) -> list[Commitment]:
        """Return the memory of all living workers; those in *pending* have not taken theirs."""
        live = [record for record in self._records.values() if record.live]
        return [one for record in live for one in record.commitments(pending=record.worker_id in pending)]

    def committed_bytes(self, device: str) -> int:
        """Return the memory of the living workers of a device."""
        return sum(r.held_bytes.get(device, 0) for r in self._records.values() if r.live)

    def enter(self, record: Record, model_path: str, *, birth: str = "") -> None:
        """Take in a new record; one of a living worker is written down."""
        self._records[record.worker_id] = record
        if record.live:
            self._write(Saved(record=record, model_path=model_path, birth=birth))
        elif not record.left_alone:
            self._strike_out(record.worker_id)
        self._changed()

    def born(self, worker_id: str, pid: int | None, birth: str) -> None:
        """Take in which process a worker is."""
        if worker_id in self._saved:
            self._saved[worker_id] = msgspec.structs.replace(self._saved[worker_id], birth=birth)
        self.put(replace(self._records[worker_id], pid=pid))

    def put(self, record: Record) -> Record:
        """Replace a record; have it written down, and the orchestrator told, where that matters."""
        before = self._records[record.worker_id]
        self._records[record.worker_id] = record
        if not record.live and not record.left_alone:
            self._strike_out(record.worker_id)
        elif record.worker_id in self._saved and records.lasting(before, record):
            self._write(msgspec.structs.replace(self._saved[record.worker_id], record=record))
        if records.noteworthy(before, record):
            self._changed()
        return record

    async def written(self) -> None:
        """Return when all changes so far are written down."""
        if self._ledger is not None:
            await self._ledger.settled()

    def changed(self) -> None:
        """Have the orchestrator told of something that is not in a record."""
        self._changed()

    def _write(self, saved: Saved) -> None:
        if self._ledger is not None:
            self._saved[saved.record.worker_id] = saved
            self._ledger.save(saved)

    def _strike_out(self, worker_id: str) -> None:
        self._saved.pop(worker_id, None)
        if self._ledger is not None:
            self._ledger.forget(worker_id)
