"""Rule 1: which of the first jobs goes to which worker with a free slot, and which is better off waiting. Pure.

What a worker costs a job is the time for the part of the prompt that it has not computed, at the measured pace, and for
a measured answer; and that again times the part of its slots that are taken. Where nothing is known of a job, or
measured of its model, load alone decides.

A job whose beginning a busy slot has is held back for it, if what that saves is more than the wait that is to be
expected; never longer than that saves, nor than `MOST_HELD_MS` in all. Others go before it meanwhile, to slots that it
does not want. So many are held at once, at most `MOST_HELD`, that there are more jobs to look at than slots.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from roles.orchestrator.scheduler.decisions import Dispatch, Hold
from roles.orchestrator.scheduler.snapshot import Kept, Snapshot, Wish, WorkerView

MOST_HELD = 8
MOST_HELD_MS = 10_000


class _Free:
    """The workers with a free slot; entries of the heap that are not true any more are dropped when they are met."""

    def __init__(self, workers: Sequence[WorkerView]) -> None:
        self._workers = {worker.worker_id: worker for worker in workers if worker.free_slots}
        self._taken = {worker.worker_id: worker.leases for worker in workers}
        self._heap = [self._entry(worker) for worker in self._workers.values()]
        heapq.heapify(self._heap)

    def __len__(self) -> int:
        return len(self._workers)

    def __contains__(self, worker_id: str) -> bool:
        return worker_id in self._workers

    def least(self) -> WorkerView:
        """Return the one with the least load; then the one with most free memory."""
        while True:
            worker = self._workers.get(self._heap[0][2])
            if worker is not None and self._entry(worker) == self._heap[0]:
                return worker
            heapq.heappop(self._heap)

    def load(self, worker: WorkerView) -> float:
        """Return the part of its slots that are taken."""
        return self._taken.get(worker.worker_id, worker.leases) / (worker.leases + worker.free_slots)

    def take(self, worker: WorkerView) -> int:
        """Take a slot; return how many were taken before."""
        before = self._taken[worker.worker_id]
        self._taken[worker.worker_id] = before + 1
        if before + 1 < worker.leases + worker.free_slots:
            heapq.heappush(self._heap, self._entry(worker))
        else:
            del self._workers[worker.worker_id]
        return before

    def _entry(self, worker: WorkerView) -> tuple[float, int, str]:
        return (self.load(worker), -worker.memory_free_bytes, worker.worker_id)


def dispatches(snapshot: Snapshot) -> Iterator[Dispatch | Hold]:
    """Yield what to do with the first jobs, for as long as there are free slots. O(log w) a job for w workers."""
    wishes = {wish.job_id: wish for wish in snapshot.wishes}
    others = [kept.worker for wish in snapshot.wishes for kept in wish.kept]
    free = _Free([*{worker.worker_id: worker for worker in [*snapshot.workers, *others]}.values()])
    favours = _Favours(snapshot, free)
    for job_id in snapshot.heads:
        if not free:
            return
        least, wish = free.least(), wishes.get(job_id)
        if wish is None or not snapshot.pace.known:
            yield _dispatch(job_id, least, free=free)
            continue
        best, kept_bytes = favours.cheapest(wish, least)
        hold = favours.hold(wish, best, kept_bytes=kept_bytes)
        if hold is not None:
            yield hold
            continue
        gone = _dispatch(job_id, best, free=free)
        prompt_bytes = wish.prompt_bytes if kept_bytes else 0
        favours.take(best, kept_bytes=kept_bytes)
        yield replace(gone, kept_bytes=kept_bytes, prompt_bytes=prompt_bytes, favoured=best is not least)


def _dispatch(job_id: str, worker: WorkerView, *, free: _Free) -> Dispatch:
    choices, slots = len(free), worker.leases + worker.free_slots
    return Dispatch(job_id, worker.worker_id, worker.pool_id, free.take(worker), slots, choices)


class _Favours:
    """What it costs a job to go to a worker that has its beginning, or to wait for one."""

    def __init__(self, snapshot: Snapshot, free: _Free) -> None:
        self._pace = snapshot.pace
        self._now_ms = snapshot.now_ms
        self._free = free
        self._held: Counter[str] = Counter()
        self._gone: Counter[tuple[str, int]] = Counter()

    def cheapest(self, wish: Wish, least: WorkerView) -> tuple[WorkerView, int]:
        """Return the worker that costs a job least now, and how much of its prompt that has at once."""
        kept = {one.worker.worker_id: one.kept_bytes for one in wish.kept if not self._is_gone(one)}
        favoured = (one.worker for one in wish.kept if one.worker.worker_id in self._free)
        choices = [least, *(worker for worker in favoured if worker.worker_id != least.worker_id)]

        def cost(worker: WorkerView) -> tuple[float, float, int, str]:
            load = self._free.load(worker)
            unread = wish.prompt_bytes - kept.get(worker.worker_id, 0)
            return (self._run_ms(unread) * (1 + load), load, -worker.memory_free_bytes, worker.worker_id)

        best = min(choices, key=cost)
        return best, kept.get(best.worker_id, 0)

    def hold(self, wish: Wish, instead_of: WorkerView, *, kept_bytes: int) -> Hold | None:
        """Hold a job back, if that pays, rather than let it go to a worker that has *kept_bytes* of its prompt."""
        busy = [seen for one in wish.kept if (seen := self._now(one)).busy_slots]
        if not busy or self._held.total() >= MOST_HELD:
            return None
        cost_ms = self._run_ms(wish.prompt_bytes - kept_bytes) * (1 + self._free.load(instead_of))
        best = min(busy, key=lambda one: self._waited_ms(wish, one))
        gain_ms = cost_ms - self._waited_ms(wish, best)
        saved_ms = (best.busy_bytes - kept_bytes) * self._pace.prefill_ms_per_byte
        since_ms = wish.held_since_ms or self._now_ms
        until_ms = since_ms + round(min(saved_ms, MOST_HELD_MS))
        if gain_ms <= 0 or until_ms <= self._now_ms:
            return None
        worker = best.worker
        self._held[worker.worker_id] += 1
        return Hold(wish.job_id, worker.worker_id, worker.pool_id, since_ms, until_ms, round(saved_ms))

    def take(self, worker: WorkerView, *, kept_bytes: int) -> None:
        """Note that a job goes to a slot with so much of its prompt, which no other can have then."""
        self._gone[worker.worker_id, kept_bytes] += 1

    def _is_gone(self, one: Kept) -> bool:
        return self._gone[one.worker.worker_id, one.kept_bytes] >= one.kept_slots

    def _now(self, one: Kept) -> Kept:
        """Return what a worker has once other jobs have just gone to slots of it with the same beginning."""
        gone = self._gone[one.worker.worker_id, one.kept_bytes]
        if not gone or one.kept_bytes < one.busy_bytes:
            return one
        busy = gone + one.busy_slots * (one.kept_bytes == one.busy_bytes)
        return replace(one, busy_bytes=one.kept_bytes, busy_slots=busy, unread_bytes=0)

    def _run_ms(self, unread_bytes: int) -> float:
        """Return how long a job takes that has so much of its prompt to compute."""
        return unread_bytes * self._pace.prefill_ms_per_byte + self._pace.decode_ms

    def _waited_ms(self, wish: Wish, one: Kept) -> float:
        """Return how long a job takes that waits for a busy slot, behind those that do already."""
        ahead_ms = self._run_ms(one.unread_bytes) + self._held[one.worker.worker_id] * self._pace.decode_ms
        slots = one.worker.leases + one.worker.free_slots
        load = self._free.load(one.worker) - 1 / slots
        return ahead_ms / one.busy_slots + self._run_ms(wish.prompt_bytes - one.busy_bytes) * (1 + load)
