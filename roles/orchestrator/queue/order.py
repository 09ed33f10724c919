"""The order in which queued jobs are served. Pure: no clock, no I/O; one owner, the dispatcher.

Strategy (fair queueing): a job gets its place, a `tag`, once, when it is queued: one more than its session's last
tag, but after the tag served last and not before the first one that waits. Served by tag, then by submission, sessions
take turns and each is first come, first served. Jobs without a session share one. (Start-time fair queueing with equal
weights and costs: Goyal, Vin, Cheng 1996, https://doi.org/10.1145/248156.248171.)

All of that is counted model by model, because jobs of different models have different workers: what one model serves
neither gives nor takes a turn at another. A model that nobody waits for starts level with the whole class.

Interactive jobs go before batch jobs; a batch job that has waited long enough is given a place among them. A job that
rests between two attempts keeps its place, but lies aside until its time has come: it is never looked at in vain.
Every operation costs O(log n).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import merge
from itertools import islice, takewhile
from operator import itemgetter

from sortedcontainers import SortedDict, SortedList

from llorch.job import JobId
from llorch.wire.embedding import Capability
from llorch.wire.tasks import OnDisconnect, Priority, SubmitTask
from roles.orchestrator.scheduler.prefix import Prefix

PROMOTE_AFTER_MS = 300_000
FORGET_FROM = 1_000
"""Sessions, and models, that no job waits for are forgotten once there are this many more than waiting jobs."""

_Key = tuple[int, int]


@dataclass(slots=True, kw_only=True)
class Ticket:
    """A job that waits: just what its place depends on. Owned by the queue that holds it."""

    id: JobId
    seq: int
    model_ref: str
    session_id: str | None
    priority: Priority
    submitted_ms: int
    tag: int
    deadline_ms: int
    correlation_id: str
    on_disconnect: OnDisconnect = "continue"
    attempt: int = 0
    failures: int = 0
    not_before_ms: int = 0
    promoted: bool = False
    kind: Capability = "text-gen"
    task: SubmitTask | None = None
    """What was asked for, while it is worth keeping in memory; it is on disk in any case."""
    prefix: Prefix | None = None
    """What its prompt begins with; unknown after a restart."""
    held_since_ms: int = 0
    """Since when it is, or was, held back for a worker."""

    @property
    def lane(self) -> Priority:
        """The class it is served in."""
        return "interactive" if self.promoted else self.priority


class _Turns:
    """The jobs of one model in one class: the places of all, those that may run, and whose turn it is."""

    def __init__(self, served: int) -> None:
        self.places: SortedList[_Key] = SortedList()
        self.ready: SortedDict[_Key, Ticket] = SortedDict()
        self.served = served
        self.last_tags: dict[str, int] = {}


class _Lane:
    """One class: all places, and the jobs by model."""

    def __init__(self) -> None:
        self.places: SortedList[_Key] = SortedList()
        self.models: dict[str, _Turns] = {}
        self.served = -1

    def turns(self, model_ref: str) -> _Turns:
        """Return a model's turns; where nobody waits for it, every session starts behind what was served last."""
        found = self.models.get(model_ref)
        if found is None:
            found = self.models[model_ref] = _Turns(self.served)
        return found


class JobQueue:
    """The jobs that wait. Holds no job twice; knows nothing of workers."""

    def __init__(self) -> None:
        self._lanes: dict[Priority, _Lane] = {"interactive": _Lane(), "batch": _Lane()}
        self._tickets: dict[JobId, Ticket] = {}
        self._batch_by_age: SortedList[tuple[int, int, JobId]] = SortedList()
        self._by_deadline: SortedList[tuple[int, JobId]] = SortedList()
        self._resting: SortedList[tuple[int, JobId]] = SortedList()
        self._by_age: dict[str, SortedList[tuple[int, int]]] = {}

    def __len__(self) -> int:
        return len(self._tickets)

    def __contains__(self, job_id: JobId) -> bool:
        return job_id in self._tickets

    def get(self, job_id: JobId) -> Ticket | None:
        """Return a waiting job."""
        return self._tickets.get(job_id)

    def prefix(self, job_id: str) -> tuple[Prefix | None, int]:
        """Return what a waiting job's prompt begins with, and since when the job is held back."""
        ticket = self._tickets.get(JobId(job_id))
        return (ticket.prefix, ticket.held_since_ms) if ticket is not None else (None, 0)

    def depth(self, priority: Priority) -> int:
        """Return how many wait in a class."""
        return len(self._lanes[priority].places)

    def next_tag(self, priority: Priority, session_id: str | None, *, model_ref: str) -> int:
        """Take the next place for a session at a model: its turn after its own last one, but not in the past."""
        lane = self._lanes[priority]
        turns = lane.turns(model_ref)
        session = session_id or ""
        places = turns.places or lane.places
        first = places[0][0] if places else 0
        tag = max(turns.served + 1, first, turns.last_tags.get(session, -1) + 1)
        turns.last_tags[session] = tag
        if len(turns.last_tags) > 2 * (self.waiting(model_ref) + len(self._resting)) + FORGET_FROM:
            waiting = {ticket.session_id or "" for ticket in self.all_of(model_ref, len(self))}
            turns.last_tags = {name: last for name, last in turns.last_tags.items() if name in waiting}
        if len(lane.models) > 2 * len(self._by_age) + FORGET_FROM:
            lane.models = {name: found for name, found in lane.models.items() if found.places}
        return tag

    def add(self, ticket: Ticket) -> None:
        """Put a job in its place. Its tag may be one it had before: a retry keeps its place."""
        lane = self._lanes[ticket.lane]
        turns = lane.turns(ticket.model_ref)
        key = (ticket.tag, ticket.seq)
        self._tickets[ticket.id] = ticket
        self._by_deadline.add((ticket.deadline_ms, ticket.id))
        lane.places.add(key)
        turns.places.add(key)
        self._by_age.setdefault(ticket.model_ref, SortedList()).add((ticket.submitted_ms, ticket.seq))
        if ticket.not_before_ms > 0:
            self._resting.add((ticket.not_before_ms, ticket.id))
        else:
            turns.ready[key] = ticket
        session = ticket.session_id or ""
        turns.last_tags[session] = max(turns.last_tags.get(session, -1), ticket.tag)
        if ticket.lane == "batch":
            self._batch_by_age.add((ticket.submitted_ms, ticket.seq, ticket.id))

    def remove(self, job_id: JobId) -> Ticket | None:
        """Take a job out, whatever for; None when it does not wait."""
        ticket = self._tickets.pop(job_id, None)
        if ticket is None:
            return None
        self._by_deadline.remove((ticket.deadline_ms, job_id))
        lane = self._lanes[ticket.lane]
        turns = lane.models[ticket.model_ref]
        key = (ticket.tag, ticket.seq)
        lane.places.remove(key)
        turns.places.remove(key)
        ages = self._by_age[ticket.model_ref]
        ages.remove((ticket.submitted_ms, ticket.seq))
        if not ages:
            del self._by_age[ticket.model_ref]
        if turns.ready.pop(key, None) is None:
            self._resting.remove((ticket.not_before_ms, job_id))
        if ticket.lane == "batch":
            self._batch_by_age.remove((ticket.submitted_ms, ticket.seq, ticket.id))
        if not turns.places:
            del lane.models[ticket.model_ref]
        return ticket

    def take(self, job_id: JobId) -> Ticket | None:
        """Take a job out to be served; the turn moves on to its place."""
        ticket = self.remove(job_id)
        if ticket is not None:
            lane = self._lanes[ticket.lane]
            lane.served = max(lane.served, ticket.tag)
            turns = lane.models.get(ticket.model_ref)
            if turns is not None:
                turns.served = max(turns.served, ticket.tag)
        return ticket

    def position(self, job_id: JobId) -> int | None:
        """Return how many jobs are served before this one; None when it does not wait."""
        ticket = self._tickets.get(job_id)
        if ticket is None:
            return None
        ahead: int = self._lanes[ticket.lane].places.bisect_left((ticket.tag, ticket.seq))
        return ahead if ticket.lane == "interactive" else ahead + self.depth("interactive")

    def first(self, count: int) -> list[Ticket]:
        """Return the first *count* jobs by position."""
        found: list[Ticket] = []
        for lane in self._lanes.values():
            resting = (self._tickets[job_id] for _, job_id in self._resting)
            aside = sorted(((t.tag, t.seq), t) for t in resting if self._lanes[t.lane] is lane)
            places = merge(aside, *(turns.ready.items() for turns in lane.models.values()), key=itemgetter(0))
            found += (ticket for _, ticket in islice(places, count - len(found)))
        return found

    def rested(self, *, now_ms: int) -> set[str]:
        """Let the jobs run again that have rested long enough; return their models."""
        found: set[str] = set()
        while self._resting and self._resting[0][0] <= now_ms:
            ticket = self._tickets[self._resting.pop(0)[1]]
            self._lanes[ticket.lane].models[ticket.model_ref].ready[ticket.tag, ticket.seq] = ticket
            found.add(ticket.model_ref)
        return found

    def models(self) -> Iterable[str]:
        """Return the models that jobs wait for: those with interactive jobs first, then by who waits longest."""
        return sorted(self._by_age, key=self.urgency)

    def urgency(self, model_ref: str) -> tuple[bool, int, int]:
        """Return what models are served by, smallest first; models that no job waits for come last."""
        ages = self._by_age.get(model_ref)
        submitted_ms, seq = ages[0] if ages else (2**62, 0)
        turns = self._lanes["interactive"].models.get(model_ref)
        return turns is None or not turns.ready, submitted_ms, seq

    def waiting(self, model_ref: str) -> int:
        """Return how many jobs wait for a model, those that rest included."""
        return len(self._by_age.get(model_ref, ()))

    def oldest_ms(self, model_ref: str) -> int:
        """Return when the job was submitted that waits longest for a model; 0 when none does."""
        ages = self._by_age.get(model_ref)
        return ages[0][0] if ages else 0

    def heads(self, model_ref: str, count: int) -> list[Ticket]:
        """Return the first *count* jobs for a model that may run, in order; `rested` adds to them."""
        found: list[Ticket] = []
        for lane in self._lanes.values():
            turns = lane.models.get(model_ref)
            if turns is not None and len(found) < count:
                found += islice(turns.ready.values(), count - len(found))
        return found

    def all_of(self, model_ref: str, count: int) -> list[Ticket]:
        """Return up to *count* jobs for a model, those that rest last."""
        found = self.heads(model_ref, count)
        resting = (self._tickets[job_id] for _, job_id in self._resting)
        return found + list(islice((t for t in resting if t.model_ref == model_ref), count - len(found)))

    def expired(self, *, now_ms: int) -> list[Ticket]:
        """Return the jobs whose deadline has passed."""
        late = takewhile(lambda entry: entry[0] <= now_ms, self._by_deadline)
        return [self._tickets[job_id] for _, job_id in late]

    def promote(self, *, now_ms: int) -> int:
        """Move batch jobs that have waited long enough among the interactive ones; return how many."""
        moved = 0
        while self._batch_by_age and self._batch_by_age[0][0] <= now_ms - PROMOTE_AFTER_MS:
            ticket = self.remove(self._batch_by_age[0][2])
            if ticket is None:
                break
            ticket.promoted = True
            ticket.tag = self.next_tag("interactive", ticket.session_id, model_ref=ticket.model_ref)
            self.add(ticket)
            moved += 1
        return moved
