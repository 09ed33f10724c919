"""Who gets a slot, and which attempt of a job counts; without an engine and without HTTP."""

from __future__ import annotations

import pytest

from llorch import errors
from llorch.wire.events import Failed
from roles.worker.inference.jobs import Jobs


def test_slots_are_given_once_and_only_as_many_as_there_are() -> None:
    jobs = Jobs(slots=2, reattach_s=60)
    first = jobs.reserve("a", 1, first_token=0)
    jobs.reserve("b", 1, first_token=0)

    with pytest.raises(errors.Conflict):
        jobs.reserve("a", 1, first_token=0)
    with pytest.raises(errors.AllSlotsBusy):
        jobs.reserve("c", 1, first_token=0)
    jobs.release(first)
    with pytest.raises(errors.Conflict):
        jobs.reserve("a", 1, first_token=0)
    assert jobs.reserve("a", 2, first_token=0).attempt == 2


def test_what_ended_is_kept_for_a_while_and_what_nobody_reads_is_found() -> None:
    jobs = Jobs(slots=2, reattach_s=60)
    ended = jobs.reserve("ended", 1, first_token=0)
    unread = jobs.reserve("unread", 1, first_token=0)
    ended.event("error", Failed(code="X", message="x", retriable=False))
    jobs.release(ended)

    assert jobs.sweep(ended.ended_s + 59) == []
    assert jobs.get("ended") is ended
    assert jobs.sweep(unread.unread_since_s + 61) == [unread]
    with pytest.raises(errors.JobNotFound):
        jobs.get("ended")


def test_a_later_attempt_takes_the_slot_of_the_one_that_runs() -> None:
    jobs = Jobs(slots=1, reattach_s=60)
    old = jobs.reserve("a", 1, first_token=0)

    new = jobs.reserve("a", 3, first_token=5)

    assert isinstance(old.stopping, errors.Cancelled)
    assert new.stopping is None
    assert (jobs.get("a"), jobs.busy) == (new, 1)
    assert set(jobs.running()) == {old, new}
    jobs.release(old)
    assert (jobs.running(), jobs.busy) == ([new], 1)
    with pytest.raises(errors.AllSlotsBusy):
        jobs.reserve("b", 1, first_token=0)


@pytest.mark.parametrize("attempt", [1, 2])
@pytest.mark.parametrize("ended", [True, False])
def test_an_attempt_that_is_not_later_is_refused(attempt: int, ended: bool) -> None:
    jobs = Jobs(slots=2, reattach_s=60)
    known = jobs.reserve("a", 2, first_token=0)
    if ended:
        jobs.release(known)

    with pytest.raises(errors.Conflict):
        jobs.reserve("a", attempt, first_token=0)

    assert known.stopping is None


def test_forgetting_an_attempt_that_never_began_leaves_the_later_one() -> None:
    jobs = Jobs(slots=1, reattach_s=60)
    old = jobs.reserve("a", 1, first_token=0)
    new = jobs.reserve("a", 2, first_token=0)

    jobs.forget(old)

    assert (jobs.get("a"), jobs.running()) == (new, [new])
