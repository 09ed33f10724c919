"""What was decided lately, and from what: for people who ask, and to decide on it again. No I/O.

Kept in bounded rings, dispatches apart from everything else, so that many jobs do not push out why workers come and
go. Waiting is noted when its reason changes, not at every look. Owned by the dispatcher.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Sequence

import msgspec

from roles.orchestrator.scheduler.decide import decide, decide_idle
from roles.orchestrator.scheduler.decisions import Decision, Dispatch, Hold, Wait
from roles.orchestrator.scheduler.snapshot import IdleSnapshot, Snapshot

KEEP = 256
KEEP_JOBS = 10_000


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One decision about one model, or several at once."""

    seq: int
    snapshot: Snapshot | IdleSnapshot
    decisions: tuple[Decision, ...]

    @property
    def digest(self) -> str:
        """Name the snapshot: the same snapshot, the same digest."""
        return hashlib.sha256(msgspec.json.encode(self.snapshot)).hexdigest()[:16]

    @property
    def model_ref(self) -> str:
        """The model it is about."""
        snapshot = self.snapshot
        return snapshot.model_ref if isinstance(snapshot, Snapshot) else snapshot.tenant.model_ref


class Journal:
    """The last decisions, the last word on every model that waits, and where the last jobs went."""

    def __init__(self) -> None:
        self._seq = 0
        self._dispatches: deque[Entry] = deque(maxlen=KEEP)
        self._others: deque[Entry] = deque(maxlen=KEEP)
        self._jobs: OrderedDict[str, Dispatch | Hold] = OrderedDict()
        self._last: dict[str, Decision] = {}

    def note(self, snapshot: Snapshot | IdleSnapshot, decisions: Sequence[Decision]) -> bool:
        """Take in what was decided; tell whether it is news."""
        news = tuple(decision for decision in decisions if not self._known(snapshot, decision))
        if isinstance(snapshot, Snapshot):
            self._remember(snapshot, decisions)
        if not news:
            return False
        self._seq += 1
        entry = Entry(seq=self._seq, snapshot=snapshot, decisions=tuple(decisions))
        only_jobs = all(isinstance(decision, Dispatch | Hold) for decision in decisions)
        (self._dispatches if only_jobs else self._others).append(entry)
        return True

    def last(self, model_ref: str) -> Decision | None:
        """Return the last thing that was decided about a model for which jobs still wait."""
        last = self._last.get(model_ref)
        return None if isinstance(last, Wait) and last.reason == "pause" else last  # no job waits for that

    def wait(self, model_ref: str) -> Wait | None:
        """Return why jobs wait for a model."""
        last = self.last(model_ref)
        return last if isinstance(last, Wait) else None

    def forget(self, model_ref: str) -> None:
        """Forget the last word on a model: no job waits for it any more."""
        self._last.pop(model_ref, None)

    def job(self, job_id: str) -> Dispatch | None:
        """Return where a job went last, and why there."""
        found = self._jobs.get(job_id)
        return found if isinstance(found, Dispatch) else None

    def held(self, job_id: str, *, now_ms: int) -> Hold | None:
        """Return what a waiting job is held back for now."""
        found = self._jobs.get(job_id)
        return found if isinstance(found, Hold) and now_ms < found.until_ms else None

    def entries(self, limit: int) -> list[Entry]:
        """Return the last entries, oldest first."""
        return sorted([*self._dispatches, *self._others], key=lambda entry: entry.seq)[-limit:]

    def entry(self, seq: int) -> Entry | None:
        """Return one entry, if it is still kept."""
        return next((entry for entry in (*self._others, *self._dispatches) if entry.seq == seq), None)

    def _known(self, snapshot: Snapshot | IdleSnapshot, decision: Decision) -> bool:
        if isinstance(decision, Hold):
            return isinstance(snapshot, Snapshot) and decision.since_ms < snapshot.now_ms
        if not isinstance(decision, Wait) or not isinstance(snapshot, Snapshot):
            return False
        last = self._last.get(snapshot.model_ref)
        return isinstance(last, Wait) and last.reason == decision.reason

    def _remember(self, snapshot: Snapshot, decisions: Sequence[Decision]) -> None:
        model_ref = snapshot.model_ref
        for job_id in snapshot.heads:  # one that was held back may not be any more
            if isinstance(self._jobs.get(job_id), Hold):
                del self._jobs[job_id]
        others = [decision for decision in decisions if not isinstance(decision, Dispatch | Hold)]
        if others:
            self._last[model_ref] = others[-1]
        else:
            self._last.pop(model_ref, None)
        for decision in decisions:
            if isinstance(decision, Dispatch | Hold):
                self._jobs.pop(decision.job_id, None)
                self._jobs[decision.job_id] = decision
                if len(self._jobs) > KEEP_JOBS:
                    self._jobs.popitem(last=False)


def replay(entry: Entry) -> tuple[Decision, ...]:
    """Decide again on what was decided on before."""
    snapshot = entry.snapshot
    return tuple(decide(snapshot) if isinstance(snapshot, Snapshot) else decide_idle(snapshot))
