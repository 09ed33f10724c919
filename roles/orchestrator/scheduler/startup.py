"""How a worker came to be, and what that cost a job that waited for it. No I/O, no clock; the caller passes the time.

Pools tell by their own clocks when a worker began and was ready. Two clocks are never compared: only how long ago
something was, when a pool said so, is taken from its clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from llorch.wire.pools import WorkerReport
from llorch.wire.tasks import Breakdown


@dataclass(frozen=True, slots=True)
class Startup:
    """When a worker came to be, in Unix milliseconds of this orchestrator.

    Attributes:
        asked_ms: A pool was asked, for the model's file or for the worker.
        fetched_ms: The file was there, and the worker was asked for.
        loading_ms: Its process was up and began to load the model.
        ready_ms: It had the model.
    """

    asked_ms: int
    fetched_ms: int
    loading_ms: int
    ready_ms: int


@dataclass(slots=True)
class Startups:
    """How the workers came to be that are there. Told of requests and heartbeats; owned by the fleet."""

    _fetches: dict[tuple[str, str], int] = field(default_factory=dict)
    _asked: dict[str, tuple[int, int]] = field(default_factory=dict)
    _seen: dict[str, tuple[int, int, int] | None] = field(default_factory=dict)
    """When each began, loaded and was ready; None where that cannot be told."""

    def fetching(self, pool_id: str, model_ref: str, *, now_ms: int) -> None:
        """Note that a pool was asked for a model's file."""
        self._fetches[pool_id, model_ref] = now_ms

    def asked(self, worker_id: str, pool_id: str, *, model_ref: str, asked_ms: int) -> None:
        """Note when a worker was asked for that a pool now starts."""
        self._asked[worker_id] = (self._fetches.pop((pool_id, model_ref), asked_ms), asked_ms)

    def heard(self, worker: WorkerReport, *, now_ms: int, told_ms: int) -> None:
        """Take in what a pool says of a worker.

        Args:
            worker: As it is now; the first time that it is ready counts.
            now_ms: The time.
            told_ms: The same moment by the pool's clock; 0 where it did not say, as when it registers. Then only a
                worker that was asked for is known to be ready just now.
        """
        if worker.worker_id in self._seen or not isinstance(worker.ready_ms, int):
            return
        if not told_ms and worker.worker_id not in self._asked:
            self._seen[worker.worker_id] = None
            return
        ready_ms = now_ms - (max(0, told_ms - worker.ready_ms) if told_ms else 0)
        began_ms = ready_ms - max(0, worker.ready_ms - worker.started_ms)
        loading_ms = max(began_ms, ready_ms - worker.load_ms) if worker.load_ms else began_ms
        self._seen[worker.worker_id] = (began_ms, loading_ms, ready_ms)

    def of(self, worker_id: str) -> Startup | None:
        """Return how a worker came to be; None where nothing is known of that."""
        seen = self._seen.get(worker_id)
        if seen is None:
            return None
        began_ms, loading_ms, ready_ms = seen
        asked_ms, fetched_ms = self._asked.get(worker_id, (began_ms, began_ms))
        return Startup(asked_ms, fetched_ms, max(fetched_ms, loading_ms), ready_ms)

    def forget(self, worker_id: str) -> None:
        """Forget a worker."""
        self._asked.pop(worker_id, None)
        self._seen.pop(worker_id, None)

    def leave(self, pool_id: str) -> None:
        """Forget what a pool was fetching: it is gone."""
        for key in [key for key in self._fetches if key[0] == pool_id]:
            del self._fetches[key]


def breakdown(startup: Startup | None, *, submitted_ms: int, dispatched_ms: int, first_token_ms: int) -> Breakdown:
    """Return what the time from a job's submission to its first token was spent on; the parts add up to it.

    Args:
        startup: How its worker came to be, if that was while it waited. What was before it came does not count.
        submitted_ms: It was accepted.
        dispatched_ms: It went to the worker that gave its first token.
        first_token_ms: That came.
    """
    marks = (
        [dispatched_ms] * 5
        if startup is None
        else [startup.asked_ms, startup.fetched_ms, startup.loading_ms, startup.ready_ms, dispatched_ms]
    )
    spans: list[int] = []
    before_ms = submitted_ms
    for mark_ms in [*marks, first_token_ms]:
        upto_ms = min(max(before_ms, mark_ms), max(before_ms, first_token_ms))
        spans.append(upto_ms - before_ms)
        before_ms = upto_ms
    return Breakdown(*spans)
