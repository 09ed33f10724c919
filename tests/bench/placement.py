"""One scheduling decision with many pools, workers and jobs: python -m tests.bench.placement.

Every pool has 8 devices and one worker; the models are many, and 10 000 jobs wait. What is timed is what a wake-up
costs: one change, the snapshot of the model that it is about, and the decision. The cases: a slot comes free and the
next job gets it; the same for the next turn of a conversation of which workers have computed the beginning; a model has
to be placed where it fits best; a model fits nowhere and idle workers are in the way.
Times are those of the thread alone, so that other programs on a shared machine do not show.
"""

from __future__ import annotations

import gc
import platform
import time
from collections.abc import Callable
from functools import cache

import psutil

from llorch.job import JobId
from llorch.policy import ModelPolicy
from llorch.wire.conversation import Message
from llorch.wire.events import WorkerEnd
from llorch.wire.tasks import SubmitTask
from roles.orchestrator.queue.order import JobQueue, Ticket
from roles.orchestrator.scheduler.decide import decide
from roles.orchestrator.scheduler.decisions import Decision, Dispatch, MakeRoom, StartWorker
from roles.orchestrator.scheduler.facts import Demand, Facts
from roles.orchestrator.scheduler.prefix import Prefix, prefix_of
from roles.orchestrator.scheduler.supply import Supply
from tests.support.worlds import device, model, report

ROUNDS = 2_000
NOW_MS = 1_000_000
DEVICES = 8
MODELS = 100
TURNS = [Message(role="user", content="A question, or an answer to one. " * 20)] * 19
END = WorkerEnd(tokens_in=5_000, tokens_out=100, stop_reason="eos", prefill_ms=2_000, decode_ms=2_000)


class Bench:
    """A supply of some size, and a queue."""

    def __init__(self, pools: int, jobs: int) -> None:
        self.supply = Supply({}, ModelPolicy())
        self.queue = JobQueue()
        self._seq = 0
        self.pools = pools
        started = time.perf_counter()
        for n in range(pools):
            self.tell(n)
        self.running = {f"w{n}": [JobId(f"running {n} {slot}") for slot in range(4)] for n in range(1, pools, 2)}
        for worker_id, job_ids in self.running.items():
            for job_id in job_ids:
                self.supply.serving.lease(worker_id, job_id)
        for n in range(jobs):
            self.come(f"m{n % MODELS}")
        self.filled_s = time.perf_counter() - started

    def tell(self, n: int) -> None:
        """Let one pool say what it has: full devices but for a hole of its own size on one."""
        devices = [
            device(f"d{k}", gib=24, free_gib=1 + (n * 7 % 11) / 2 if k else 2, backend="cuda") for k in range(DEVICES)
        ]
        known = [model(f"m{k}", gib=4) for k in range(n % 3, MODELS, 3)] + [model("new", gib=3), model("full", gib=20)]
        workers = [report(f"w{n}", f"m{n % MODELS}" if n % 2 else f"idle {n % MODELS}", gib=22, device_id="d0")]
        self.supply.hear(f"p{n}", Facts(devices=devices, models=known, workers=workers), now_ms=NOW_MS)

    def come(self, ref: str, prefix: Prefix | None = None) -> None:
        """Let a job wait."""
        self._seq += 1
        self.queue.add(
            Ticket(
                id=JobId(f"j{self._seq}"), seq=self._seq, model_ref=ref, session_id=f"s{self._seq % 50}",
                priority="interactive", submitted_ms=NOW_MS, deadline_ms=2**60, correlation_id="", prefix=prefix,
                tag=self.queue.next_tag("interactive", None, model_ref=ref),
            )
        )  # fmt: skip

    def decided(self, ref: str) -> list[Decision]:
        """Decide on one model."""
        queue = self.queue
        wanted = Demand(
            waiting=queue.waiting(ref),
            oldest_ms=queue.oldest_ms(ref),
            heads=lambda count: tuple(ticket.id for ticket in queue.heads(ref, count)),
            waits=queue.waiting,
            prefix=queue.prefix,
        )
        return decide(self.supply.snapshot(ref, wanted, now_ms=NOW_MS))

    def slot_comes_free(self, n: int) -> None:
        """A job ends, and the next one of the same model goes to the slot."""
        pool = 2 * n % self.pools + 1
        worker_id, ref = f"w{pool}", f"m{pool % MODELS}"
        self.come(ref)
        self.supply.released(worker_id, self.running[worker_id].pop(0), now_ms=NOW_MS)
        (found,) = [decision for decision in self.decided(ref) if isinstance(decision, Dispatch)]
        self.queue.take(JobId(found.job_id))
        self.supply.serving.lease(found.worker_id, JobId(found.job_id))
        self.running[found.worker_id].append(JobId(found.job_id))

    def turn_goes_on(self, n: int) -> None:
        """A job ends, and one of a long conversation that its worker and others have computed goes there."""
        pool = 2 * n % self.pools + 1
        worker_id, ref = f"w{pool}", f"m{pool % MODELS}"
        prefix = _prefix(ref)
        self.come(ref, prefix)
        ended = self.running[worker_id].pop(0)
        self.supply.affinity.ended(worker_id, ended, model_ref=ref, end=END)
        self.supply.released(worker_id, ended, now_ms=NOW_MS)
        for found in self.decided(ref):
            assert isinstance(found, Dispatch), found
            ticket = self.queue.take(JobId(found.job_id))
            assert ticket is not None
            self.supply.serving.lease(found.worker_id, ticket.id)
            self.running[found.worker_id].append(ticket.id)
            self.supply.affinity.began(found.worker_id, ticket.id, prefix=prefix, slots=4)

    def is_placed(self, n: int) -> None:
        """A new model is placed; a pool has said before what it has."""
        found = self.decided("new")
        assert isinstance(found[0], StartWorker), found

    def needs_room(self, n: int) -> None:
        """A model fits nowhere before idle workers have ended."""
        found = self.decided("full")
        assert isinstance(found[0], MakeRoom), found

    def heartbeat(self, n: int) -> None:
        """A pool says what it has."""
        self.tell(n % self.pools)


@cache
def _prefix(ref: str) -> Prefix:
    """Return what a conversation begins with; a submission finds that out, not a decision."""
    return prefix_of(SubmitTask(model="m", messages=TURNS), ref, key=b"key")


def _time(act: Callable[[int], None]) -> tuple[float, float, float]:
    taken = []
    for n in range(ROUNDS):
        started = time.thread_time()
        act(n)
        taken.append((time.thread_time() - started) * 1e3)
    taken.sort()
    return taken[ROUNDS // 2], taken[ROUNDS * 99 // 100], taken[-1]


def main() -> None:
    """Run all cases in three sizes and print them."""
    print(f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}; ms a decision")
    for pools, jobs in ((10, 100), (100, 1_000), (1_000, 10_000)):
        bench = Bench(pools, jobs)
        bench.come("new")
        bench.come("full")
        gc.collect()
        gc.freeze()
        print(f"{pools:>6} pools, {pools * DEVICES:>6} devices, {jobs:>6} jobs (filled in {bench.filled_s:.1f} s)")
        for act in (bench.slot_comes_free, bench.turn_goes_on, bench.is_placed, bench.needs_room, bench.heartbeat):
            p50, p99, worst = _time(act)
            print(
                f"    {act.__name__.replace('_', ' '):<20} p50 {p50:.3f}  p99 {p99:.3f}  worst {worst:.2f}", flush=True
            )


if __name__ == "__main__":
    main()
