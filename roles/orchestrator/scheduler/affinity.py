"""Which worker has computed the beginning of which prompt, and what computing it takes. No I/O, no clock.

Strategy: a worker has one sequence in each slot, so that is what is remembered: as many prefixes as it has slots, by
their marks alone. A new job goes to the free slot that begins most like it, else to the one that was used longest ago,
as llama.cpp does it. An index from marks to workers finds those that matter to a prompt without asking all.
Empty after a restart: the first turns go anywhere. At most `MOST_MARKS` marks a slot, about 25 KiB.

A worker with one slot computes every prompt anew, so that the same request gives the same text: it is left out. So is
one that repeatedly has not reused what it should have: its engine does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from llorch.job import JobId
from llorch.wire.events import WorkerEnd
from roles.orchestrator.scheduler.facts import Demand
from roles.orchestrator.scheduler.prefix import Prefix
from roles.orchestrator.scheduler.serving import Serving
from roles.orchestrator.scheduler.snapshot import Kept, Pace, Wish, WorkerView

SIMILAR = 0.1
"""llama.cpp's `slot_prompt_similarity`: a slot that shares less of a prompt is as good as any other."""
MOST_HOLDERS = 8
LEAST_LOADED = 4
"""So many workers that were found by their marks, and so many of those with least to do, are looked at for a job."""
WEIGHT = 0.9
"""What a measurement weighs once there is another one."""
MEASURED_BYTES = 256
MOST_MISSES = 3


@dataclass(slots=True)
class _Slot:
    prefix: Prefix
    job_id: JobId | None
    used: int
    unread_bytes: int = 0
    """Of its job's prompt, what was not there already."""


@dataclass(slots=True)
class _Worker:
    slots: list[_Slot] = field(default_factory=list)
    misses: int = 0


@dataclass(slots=True)
class _Speed:
    """Sums over the last jobs of a model, older ones weighing less."""

    prefill_ms: float = 0.0
    read_bytes: float = 0.0
    decode_ms: float = 0.0
    runs: float = 0.0


class Affinity:
    """What workers have computed, and how fast; told by the one that begins and ends jobs."""

    def __init__(self) -> None:
        self._workers: dict[str, _Worker] = {}
        self._index: dict[int, dict[str, tuple[int, int]]] = {}
        self._speeds: dict[str, _Speed] = {}
        self._uses = 0

    def __len__(self) -> int:
        """Return how many marks are known."""
        return len(self._index)

    def began(self, worker_id: str, job_id: JobId, *, prefix: Prefix, slots: int) -> None:
        """Note that a job has a slot of a worker: what was in it is gone."""
        worker = self._workers.setdefault(worker_id, _Worker())
        if slots <= 1 or worker.misses >= MOST_MISSES:
            return
        self._uses += 1
        idle = [slot for slot in worker.slots if slot.job_id is None]
        shared = self.kept(worker_id, prefix)[0]
        found = None
        if shared > SIMILAR * prefix.length_bytes:
            found = max(idle, key=lambda slot: (prefix.shared_bytes(slot.prefix.marks), -slot.used))
        elif len(worker.slots) >= slots:
            found = min(idle or worker.slots, key=lambda slot: slot.used)
        if found is None:
            found = _Slot(prefix, job_id, self._uses)
            worker.slots.append(found)
        else:
            self._enter(worker_id, found, -1)
        found.prefix, found.job_id, found.used = prefix, job_id, self._uses
        found.unread_bytes = prefix.length_bytes - shared
        self._enter(worker_id, found, 1)

    def ended(self, worker_id: str, job_id: JobId, *, model_ref: str, end: WorkerEnd | None, answer: str = "") -> None:
        """Note that a job has left its slot: its prompt and its answer stay there, if it came to its end."""
        worker = self._workers.get(worker_id)
        slot = next((slot for slot in worker.slots if slot.job_id == job_id), None) if worker is not None else None
        if worker is None or slot is None:
            return
        prefix = slot.prefix
        self._enter(worker_id, slot, -1)
        if end is None:
            worker.slots.remove(slot)
            return
        slot.job_id, slot.prefix = None, prefix.followed_by(answer)
        self._enter(worker_id, slot, 1)
        self._measure(model_ref, prefix, end)
        if 2 * slot.unread_bytes < prefix.length_bytes:
            worker.misses = 0 if end.tokens_cached else worker.misses + 1
            if worker.misses >= MOST_MISSES:
                self._drop(worker_id, worker)

    def forget(self, worker_id: str) -> None:
        """Forget a worker that is gone."""
        worker = self._workers.pop(worker_id, None)
        if worker is not None:
            self._drop(worker_id, worker)

    def kept(self, worker_id: str, prefix: Prefix) -> tuple[int, int, int]:
        """Return how much of a prompt a worker has in idle slots, how much in busy ones, and in how many of these."""
        idle_bytes = busy_bytes = busy = 0
        for number in range(len(prefix.marks) - 1, -1, -1):
            held = self._index.get(prefix.marks[number], {}).get(worker_id)
            if held is not None:
                if held[0]:
                    idle_bytes = prefix.ends[number]
                if held[1] and not busy:
                    busy_bytes, busy = prefix.ends[number], held[1]
                if idle_bytes:
                    break
        return idle_bytes, busy_bytes, busy

    def pace(self, model_ref: str) -> Pace:
        """Return what was measured of a model; zeros before that."""
        speed = self._speeds.get(model_ref)
        if speed is None or not speed.read_bytes or not speed.runs:
            return Pace()
        return Pace(prefill_ms_per_byte=speed.prefill_ms / speed.read_bytes, decode_ms=speed.decode_ms / speed.runs)

    def wishes(
        self, heads: Sequence[str], demand: Demand, *, serving: Serving, workers: Sequence[WorkerView]
    ) -> Iterator[Wish]:
        """Yield for each job whose beginning some worker has computed which ones have, and how much.

        Args:
            heads: The jobs.
            demand: What is known of them.
            serving: The workers that take jobs.
            workers: Those with a free slot, least loaded first.
        """
        for job_id in heads:
            prefix, held_since_ms = demand.prefix(job_id)
            if prefix is None:
                continue
            found = dict.fromkeys(self._holders(prefix))
            found |= dict.fromkeys(worker.worker_id for worker in workers[:LEAST_LOADED])
            kept = tuple(one for worker_id in found if (one := self._view(serving, worker_id, prefix)) is not None)
            if kept:
                length = prefix.length_bytes
                yield Wish(job_id=job_id, prompt_bytes=length, kept=kept, held_since_ms=held_since_ms)

    def _holders(self, prefix: Prefix) -> list[str]:
        """Return some workers that have most of a prompt, those with most first."""
        found: dict[str, None] = {}
        for number in range(len(prefix.marks) - 1, -1, -1):
            for worker_id in self._index.get(prefix.marks[number], ()):
                found[worker_id] = None
                if len(found) == MOST_HOLDERS:
                    return list(found)
        return list(found)

    def _view(self, serving: Serving, worker_id: str, prefix: Prefix) -> Kept | None:
        """Return what a snapshot says of a worker that takes jobs and has something of a prompt."""
        worker = serving.get(worker_id)
        idle_bytes, busy_bytes, busy = self.kept(worker_id, prefix)
        if worker is None or worker.claimed or not (idle_bytes or busy):
            return None
        idle = 0
        if idle_bytes:
            idle = self._index[prefix.marks[prefix.ends.index(idle_bytes)]][worker_id][0]
        unread = 0
        if busy:
            mark = prefix.marks[prefix.ends.index(busy_bytes)]
            slots = [slot for slot in self._workers[worker_id].slots if slot.job_id is not None]
            unread = min(slot.unread_bytes for slot in slots if mark in slot.prefix.marks)
        return Kept(
            worker=serving.view(worker_id),
            kept_bytes=idle_bytes,
            kept_slots=idle,
            busy_bytes=busy_bytes,
            busy_slots=busy,
            unread_bytes=unread,
        )

    def _measure(self, model_ref: str, prefix: Prefix, end: WorkerEnd) -> None:
        """Take in how long a job took; how fast its prompt was read only where most of it was, and it was text."""
        speed = self._speeds.setdefault(model_ref, _Speed())
        speed.decode_ms = speed.decode_ms * WEIGHT + end.decode_ms
        speed.runs = speed.runs * WEIGHT + 1
        read_bytes = prefix.length_bytes * (1 - end.tokens_cached / max(1, end.tokens_in))
        if not prefix.pictures and read_bytes >= max(MEASURED_BYTES, prefix.length_bytes / 2):
            speed.prefill_ms = speed.prefill_ms * WEIGHT + end.prefill_ms
            speed.read_bytes = speed.read_bytes * WEIGHT + read_bytes

    def _drop(self, worker_id: str, worker: _Worker) -> None:
        for slot in worker.slots:
            self._enter(worker_id, slot, -1)
        worker.slots.clear()

    def _enter(self, worker_id: str, slot: _Slot, change: int) -> None:
        """Count a slot's marks in the index, or, with -1, take them out."""
        for mark in slot.prefix.marks:
            workers = self._index.setdefault(mark, {})
            idle, busy = workers.get(worker_id, (0, 0))
            counts = (idle + change, busy) if slot.job_id is None else (idle, busy + change)
            if any(counts):
                workers[worker_id] = counts
                continue
            workers.pop(worker_id, None)
            if not workers:
                del self._index[mark]
