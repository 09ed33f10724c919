"""The order of the queue: fair between sessions, first come first served in each, and always what it says it is."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llorch.job import JobId
from llorch.wire.tasks import Priority
from roles.orchestrator.queue.order import PROMOTE_AFTER_MS, JobQueue
from tests.support.queueing import FAR_MS, Line


def test_jobs_of_one_session_are_served_as_they_came() -> None:
    line = Line()
    came = [line.come("a") for _ in range(5)]

    assert line.serve() == came


def test_jobs_without_a_session_share_one() -> None:
    line = Line()
    one, other, third = line.come(None), line.come(None), line.come("a")

    assert line.serve() == [one, third, other]


def test_interactive_jobs_go_before_batch_jobs_that_came_first() -> None:
    line = Line()
    batch = line.come("a", priority="batch")
    interactive = [line.come("b"), line.come("b")]

    assert line.serve() == [*interactive, batch]


def test_sessions_take_turns() -> None:
    line = Line()
    for session in "aaabbc":
        line.come(session)

    assert [ticket.session_id for ticket in line.serve()] == ["a", "b", "c", "a", "b", "a"]


@pytest.mark.parametrize("served_before", [0, 1, 500])
def test_a_flood_of_one_session_delays_another_by_one_job_at_most(served_before: int) -> None:
    line = Line()
    for _ in range(1_000):
        line.come("flood")
    line.serve(served_before)

    late = line.come("late")

    position = line.queue.position(late.id)
    assert position is not None
    assert position <= 1


def test_a_session_does_not_save_up_turns_while_it_is_away() -> None:
    line = Line()
    line.come("a")
    for _ in range(20):
        line.come("b")
    line.serve(11)

    for _ in range(10):
        line.come("a")

    assert Counter(ticket.session_id for ticket in line.serve(10)) == {"a": 5, "b": 5}


def test_a_retry_keeps_its_place() -> None:
    line = Line()
    first = line.come("a")
    line.serve(1)
    later = [line.come("a"), line.come("b")]

    line.queue.add(first)

    assert line.queue.position(first.id) == 0
    assert len(line.queue) == len(later) + 1


def test_a_queue_that_was_empty_starts_every_session_level() -> None:
    line = Line()
    for _ in range(5):
        line.come("a")
    line.serve()

    came = [line.come("a"), line.come("b"), line.come("a")]

    assert line.serve() == came


@pytest.mark.parametrize(("waited_ms", "moved"), [(PROMOTE_AFTER_MS - 1, 0), (PROMOTE_AFTER_MS, 1)])
def test_a_batch_job_that_has_waited_five_minutes_is_served_as_interactive(waited_ms: int, moved: int) -> None:
    line = Line()
    old = line.come("a", priority="batch", now_ms=1_000)
    young = line.come("a", priority="batch", now_ms=2_000)

    found = line.queue.promote(now_ms=1_000 + waited_ms)

    assert found == moved
    assert (old.lane, young.lane) == ("interactive" if moved else "batch", "batch")
    assert (line.queue.depth("interactive"), line.queue.depth("batch")) == (moved, 2 - moved)
    assert line.serve() == [old, young]


def test_promoted_jobs_take_turns_with_the_interactive_ones() -> None:
    line = Line()
    old = [line.come("a", priority="batch"), line.come("a", priority="batch")]
    interactive = [line.come("b"), line.come("b")]

    line.queue.promote(now_ms=PROMOTE_AFTER_MS)

    assert line.serve() == [old[0], interactive[0], old[1], interactive[1]]


def test_a_promoted_job_that_is_tried_again_stays_among_the_interactive_ones() -> None:
    line = Line()
    old = line.come("a", priority="batch")
    line.queue.promote(now_ms=PROMOTE_AFTER_MS)
    line.queue.take(old.id)

    line.queue.add(old)

    assert (line.queue.depth("interactive"), line.queue.depth("batch")) == (1, 0)
    assert line.queue.promote(now_ms=FAR_MS) == 0


def test_the_heads_of_a_model_are_its_first_jobs_that_may_run() -> None:
    line = Line()
    resting = line.come("a", not_before_ms=100)
    first = line.come("a")
    line.come("a", model_ref="other")
    batch = line.come("a", priority="batch")

    line.queue.rested(now_ms=99)
    early = line.queue.heads("m", 9)
    rested = line.queue.rested(now_ms=100)
    later = line.queue.heads("m", 2)

    assert early == [first, batch]
    assert rested == {"m"}
    assert later == [resting, first]
    assert line.queue.heads("m", 0) == []
    assert line.queue.heads("unknown", 9) == []


def test_the_jobs_of_a_model_are_all_there_also_those_that_rest() -> None:
    line = Line()
    resting = line.come("a", not_before_ms=100)
    first = line.come("a")
    line.come("a", model_ref="other")

    assert line.queue.all_of("m", 9) == [first, resting]
    assert line.queue.all_of("m", 1) == [first]
    assert line.queue.waiting("m") == 2


def test_a_resting_job_that_is_cancelled_is_gone_for_good() -> None:
    line = Line()
    resting = line.come("a", not_before_ms=100)

    assert line.queue.remove(resting.id) is resting

    assert line.queue.rested(now_ms=100) == set()
    assert list(line.queue.models()) == []


def test_of_models_the_one_comes_first_whose_job_waits_longest() -> None:
    line = Line()
    for model_ref, now_ms in (("young", 20), ("old", 10), ("young", 5), ("middle", 7)):
        line.come(model_ref=model_ref, now_ms=now_ms)

    assert list(line.queue.models()) == ["young", "middle", "old"]
    assert [line.queue.oldest_ms(model_ref) for model_ref in ("young", "old", "nobody")] == [5, 10, 0]


def test_models_with_interactive_jobs_come_first_and_each_once() -> None:
    line = Line()
    for model_ref, priority in (("x", "batch"), ("y", "batch"), ("y", "interactive")):
        line.come(model_ref=model_ref, priority="batch" if priority == "batch" else "interactive")

    assert list(line.queue.models()) == ["y", "x"]
    assert [line.queue.waiting(model_ref) for model_ref in ("x", "y", "z")] == [1, 2, 0]


def test_jobs_expire_at_their_deadline_in_its_order() -> None:
    line = Line()
    later, now, _ = line.come(deadline_ms=20), line.come(deadline_ms=10), line.come(deadline_ms=21)

    assert line.queue.expired(now_ms=9) == []
    assert line.queue.expired(now_ms=10) == [now]
    assert line.queue.expired(now_ms=20) == [now, later]


def test_what_does_not_wait_has_no_position_and_cannot_be_taken() -> None:
    queue = JobQueue()
    nobody = JobId("nobody")

    assert (queue.get(nobody), queue.position(nobody), queue.remove(nobody), queue.take(nobody)) == (None,) * 4
    assert (len(queue), nobody in queue, list(queue.models())) == (0, False, [])


def test_a_sessions_second_job_is_served_although_new_sessions_keep_coming() -> None:
    line = Line()
    line.come("a")
    second = line.come("a")
    line.come("b")

    for n in range(100):
        line.come(f"new {n}")
        line.serve(1)

    assert second.id not in line.queue


def test_a_job_of_an_earlier_process_is_served_although_new_sessions_keep_coming() -> None:
    line = Line()
    recovered = line.come("a", tag=5_000)

    for n in range(100):
        line.come(f"new {n}")
        line.serve(1)

    assert recovered.id not in line.queue


def test_sessions_that_are_over_are_forgotten() -> None:
    line = Line()
    line.come("stays")

    for n in range(3_000):
        line.queue.take(line.come(f"s{n}").id)

    assert len(line.queue._lanes["interactive"].models["m"].last_tags) < 2_000


def test_sessions_that_leave_while_nothing_is_served_are_forgotten() -> None:
    line = Line()
    stays = line.come("stays")

    for n in range(3_000):
        line.queue.remove(line.come(f"s{n}").id)

    turns = line.queue._lanes["interactive"].models["m"]
    assert len(turns.last_tags) < 2_000
    assert turns.last_tags["stays"] == stays.tag


@settings(max_examples=100)
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=40))
def test_of_two_sessions_that_wait_neither_is_ever_served_twice_more(sessions: list[str]) -> None:
    line = Line()
    for session in sessions:
        line.come(session)
    left, served = Counter(sessions), Counter[str]()

    for ticket in line.serve():
        assert ticket.session_id is not None
        left[ticket.session_id] -= 1
        served[ticket.session_id] += 1

        waiting = [served[session] for session in left if left[session]]
        assert max(waiting, default=0) - min(waiting, default=0) <= 1


def test_the_first_jobs_are_those_of_the_lowest_positions() -> None:
    line = Line()
    for number in range(40):
        priority: Priority = "batch" if number % 3 else "interactive"
        line.come(f"session-{number % 5}", priority=priority, model_ref=f"model-{number % 4}")

    assert [ticket.id for ticket in line.queue.first(25)] == line.ids()[:25]
    assert [ticket.id for ticket in line.queue.first(100)] == line.ids()
    assert JobQueue().first(5) == []
