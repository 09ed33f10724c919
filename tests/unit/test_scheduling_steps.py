"""The queue and the scheduler next to workers that are only counted: no slot twice, no job twice, nobody starves.

The machine does what the dispatcher does, one wake-up at a time, and keeps its own books of who runs where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llorch.job import JobId
from llorch.wire.tasks import Priority
from roles.orchestrator.queue.order import PROMOTE_AFTER_MS, Ticket
from roles.orchestrator.scheduler.decide import decide
from roles.orchestrator.scheduler.decisions import Decision, Dispatch, StartWorker, Wait
from roles.orchestrator.scheduler.snapshot import Place, Snapshot, WorkerView
from tests.support.queueing import Line

MODELS = ("m", "n")
SESSIONS = (None, "a", "b", "c")
PLACE = Place(pool_id="p", device="d", backend="cpu", has_file=True, available_bytes=1, need_bytes=1)


@dataclass(slots=True)
class Counted:
    """A worker: what it serves, how much at a time, and what it has."""

    model_ref: str
    slots: int
    jobs: dict[JobId, Ticket]


@dataclass(slots=True)
class Wanted:
    """How many jobs of its class and model may be served before a job, as of when it got its place; how many were."""

    ahead: int
    tried_again: int
    served: int = 0


class SchedulerNextToCountedWorkers(RuleBasedStateMachine):
    """Jobs come, are given out, end, fail and are tried again; workers come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Line()
        self.queue = self.line.queue
        self.workers: dict[str, Counted] = {}
        self.wanted: dict[JobId, Wanted] = {}
        self.ended: set[JobId] = set()
        self.now_ms = 0
        self.started = 0
        self.tried_again = 0

    @rule(
        session_id=st.sampled_from(SESSIONS),
        priority=st.sampled_from(["interactive", "interactive", "batch"]),
        model_ref=st.sampled_from(MODELS),
        count=st.integers(1, 4),
    )
    def submit(self, session_id: str | None, priority: Priority, model_ref: str, count: int) -> None:
        for _ in range(count):
            self.place(self.line.come(session_id, priority=priority, model_ref=model_ref, now_ms=self.now_ms))

    @rule(model_ref=st.sampled_from(MODELS), slots=st.integers(1, 3))
    def a_worker_comes(self, model_ref: str, slots: int) -> None:
        self.started += 1
        self.workers[f"w{self.started}"] = Counted(model_ref, slots, {})

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), rest_ms=st.sampled_from([0, 1_000]))
    def a_worker_goes(self, data: st.DataObject, rest_ms: int) -> None:
        gone = self.workers.pop(data.draw(st.sampled_from(sorted(self.workers))))
        for ticket in gone.jobs.values():
            self.tried_again += 1
            ticket.not_before_ms = self.now_ms + rest_ms
            self.queue.add(ticket)
            self.place(ticket)

    @precondition(lambda self: any(worker.jobs for worker in self.workers.values()))
    @rule(data=st.data())
    def a_job_ends(self, data: st.DataObject) -> None:
        busy = sorted(worker_id for worker_id, worker in self.workers.items() if worker.jobs)
        worker = self.workers[data.draw(st.sampled_from(busy))]
        job_id = data.draw(st.sampled_from(sorted(worker.jobs)))
        del worker.jobs[job_id]
        self.ended.add(job_id)

    @precondition(lambda self: len(self.queue) > 0)
    @rule(data=st.data())
    def a_job_is_cancelled(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(set(self.wanted) - self.ended - self.running())))
        assert self.queue.remove(job_id) is not None
        self.ended.add(job_id)

    @rule(pass_ms=st.sampled_from([1_000, PROMOTE_AFTER_MS]))
    def wake(self, pass_ms: int) -> None:
        self.now_ms += pass_ms
        before = {job_id for job_id in self.wanted if (t := self.queue.get(job_id)) and t.lane == "batch"}
        self.queue.promote(now_ms=self.now_ms)
        for job_id in before:
            ticket = self.queue.get(job_id)
            assert ticket is not None
            if ticket.promoted:
                self.place(ticket)
            else:
                assert ticket.submitted_ms > self.now_ms - PROMOTE_AFTER_MS
        self.queue.rested(now_ms=self.now_ms)
        told: list[Decision] = []
        for model_ref in list(self.queue.models()):
            snapshot = self.view(model_ref)
            decisions = decide(snapshot)
            assert decisions == decide(snapshot)
            told += decisions
            for decision in decisions:
                if isinstance(decision, Dispatch):
                    self.dispatch(decision)
                else:
                    assert isinstance(decision, StartWorker | Wait)
        self.check_that_no_slot_idles(told)

    def dispatch(self, decision: Dispatch) -> None:
        ticket = self.queue.take(JobId(decision.job_id))
        assert ticket is not None, "a job that does not wait was given out"
        worker = self.workers[decision.worker_id]
        assert worker.model_ref == ticket.model_ref
        assert ticket.not_before_ms <= self.now_ms
        worker.jobs[ticket.id] = ticket
        for job_id, wanted in self.wanted.items():
            other = self.queue.get(job_id)
            if other is not None and (other.lane, other.model_ref) == (ticket.lane, ticket.model_ref):
                wanted.served += 1

    def check_that_no_slot_idles(self, decisions: Sequence[Decision]) -> None:
        for model_ref in MODELS:
            free = sum(w.slots - len(w.jobs) for w in self.workers.values() if w.model_ref == model_ref)
            ready = self.queue.heads(model_ref, 1)
            assert not (free and ready), "a job waits next to a free slot"
            told = [d for d in decisions if isinstance(d, StartWorker | Wait) and d.model_ref == model_ref]
            serves = any(w.model_ref == model_ref for w in self.workers.values())
            assert told or serves or not self.queue.waiting(model_ref), "nobody does anything for a job"

    def place(self, ticket: Ticket) -> None:
        """Note who may go before a job: those that do now, and of each session that comes one a turn before its own."""
        same = [t for t in self.queue._tickets.values() if (t.lane, t.model_ref) == (ticket.lane, ticket.model_ref)]
        now = sorted(same, key=lambda t: (t.tag, t.seq))
        turns = max(0, ticket.tag - self.queue._lanes[ticket.lane].models[ticket.model_ref].served)
        self.wanted[ticket.id] = Wanted(now.index(ticket) + len(SESSIONS) * turns, self.tried_again)

    def running(self) -> set[JobId]:
        return {job_id for worker in self.workers.values() for job_id in worker.jobs}

    def view(self, model_ref: str) -> Snapshot:
        mine = {worker_id: w for worker_id, w in self.workers.items() if w.model_ref == model_ref}
        free = tuple(
            WorkerView(
                worker_id=worker_id,
                pool_id="p",
                free_slots=w.slots - len(w.jobs),
                leases=len(w.jobs),
                memory_free_bytes=1,
            )
            for worker_id, w in mine.items()
            if w.slots > len(w.jobs)
        )
        slots = sum(worker.free_slots for worker in free)
        heads = self.queue.heads(model_ref, slots)
        return Snapshot(
            now_ms=self.now_ms,
            model_ref=model_ref,
            waiting=self.queue.waiting(model_ref),
            heads=tuple(ticket.id for ticket in heads),
            workers=free,
            busy=len(mine) - len(free),
            slots=sum(w.slots for w in mine.values()),
            places=() if free else (PLACE,),
            online=1,
            askable=1,
        )

    @invariant()
    def every_job_is_in_one_place(self) -> None:
        running = [job_id for worker in self.workers.values() for job_id in worker.jobs]
        waiting = [job_id for job_id in self.wanted if job_id in self.queue]
        assert sorted([*running, *waiting, *self.ended]) == sorted(self.wanted)
        assert len(self.queue) == len(waiting)

    @invariant()
    def no_worker_has_more_than_its_slots(self) -> None:
        assert all(len(worker.jobs) <= worker.slots for worker in self.workers.values())

    @invariant()
    def nobody_is_passed_by_for_ever(self) -> None:
        """However many come, so many go before a job and no more; a job that is tried again keeps its old place."""
        for job_id, wanted in self.wanted.items():
            if job_id in self.queue:
                assert wanted.served <= wanted.ahead + self.tried_again - wanted.tried_again


TestSchedulerNextToCountedWorkers = SchedulerNextToCountedWorkers.TestCase
TestSchedulerNextToCountedWorkers.settings = settings(max_examples=100, stateful_step_count=40)
