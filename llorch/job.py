"""The life of a job: its states and the only transitions there are. Pure; knows no database and no HTTP.

The table writes the SQL too: the store lets a transition happen only `WHERE state IN (sources(move))`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

JobId = NewType("JobId", str)


class State(StrEnum):
    """Where a job is. The last three are final."""

    QUEUED = "queued"
    DISPATCHED = "dispatched"
    RUNNING = "running"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Move(StrEnum):
    """What can happen to a job."""

    CLAIM = "claim"  # the dispatcher hands it to a worker
    START = "start"  # the worker has a slot for it
    REQUEUE = "requeue"  # the attempt is over, the job is not
    COMPLETE = "complete"
    FAIL = "fail"
    CANCEL = "cancel"  # somebody asked for the end
    CONFIRM_CANCEL = "confirm_cancel"  # the worker has let go, or its time to do so is over


FINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})

TRANSITIONS: dict[State, dict[Move, State]] = {
    State.QUEUED: {
        Move.CLAIM: State.DISPATCHED,
        Move.FAIL: State.FAILED,
        Move.CANCEL: State.CANCELLED,
    },
    State.DISPATCHED: {
        Move.START: State.RUNNING,
        Move.REQUEUE: State.QUEUED,
        Move.FAIL: State.FAILED,
        Move.CANCEL: State.CANCELLING,
    },
    State.RUNNING: {
        Move.REQUEUE: State.QUEUED,
        Move.COMPLETE: State.COMPLETED,
        Move.FAIL: State.FAILED,
        Move.CANCEL: State.CANCELLING,
    },
    State.CANCELLING: {
        Move.CONFIRM_CANCEL: State.CANCELLED,
    },
    State.COMPLETED: {},
    State.FAILED: {},
    State.CANCELLED: {},
}


def after(state: State, move: Move) -> State | None:
    """Return the state that *move* leads to from *state*; None when it cannot happen."""
    return TRANSITIONS[state].get(move)


def sources(move: Move) -> tuple[State, ...]:
    """Return the states from which *move* can happen, in table order."""
    return tuple(state for state, moves in TRANSITIONS.items() if move in moves)
