"""The records of workers: who is told of a change, and when one is forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llorch.errors import WorkerNotFound
from roles.pool.worker_lifecycle import records
from roles.pool.worker_lifecycle.roster import KEEP_ENDED_MS, Roster
from tests.unit.test_pool_worker_lifecycle_records import READY, STARTING


class Clock:
    """A clock that is set, and what it was told."""

    def __init__(self) -> None:
        self.now_ms = 1000
        self.told = 0

    def changed(self) -> None:
        self.told += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def roster(clock: Clock) -> Roster:
    return Roster(None, clock.changed, lambda: clock.now_ms)


def test_only_changes_that_matter_are_told(roster: Roster, clock: Clock) -> None:
    roster.enter(STARTING, "/m")
    roster.put(replace(STARTING, progress=1.0))
    before = clock.told
    roster.put(READY)

    assert (before, clock.told) == (1, 2)


def test_a_worker_holds_its_memory_from_the_start_and_it_is_pending_until_it_is_ready(roster: Roster) -> None:
    roster.enter(STARTING, "/m")
    loading = roster.commitments(roster.pending())
    roster.put(READY)

    assert [(c.memory_bytes, c.pending) for c in loading] == [(1000, True)]
    assert [(c.memory_bytes, c.pending) for c in roster.commitments(roster.pending())] == [(1200, False)]
    roster.put(records.exited(READY, 0, last_line="", now_ms=1))
    assert roster.commitments(frozenset()) == []


def test_what_has_ended_is_forgotten_after_a_while_but_not_what_was_left_alone(roster: Roster, clock: Clock) -> None:
    ended = records.exited(READY, 0, last_line="", now_ms=1000)
    alone = records.left_alone(replace(READY, worker_id="v"), "who is it?", now_ms=1000)
    roster.enter(ended, "/m")
    roster.enter(alone, "/m")
    early = roster.all()
    clock.now_ms += KEEP_ENDED_MS + 1

    assert early == [ended, alone]
    assert roster.all() == [alone]
    roster.put(records.not_there(alone))
    assert roster.all() == []
    with pytest.raises(WorkerNotFound):
        roster.get("w")
