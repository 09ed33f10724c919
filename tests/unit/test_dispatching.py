"""Which job goes to which worker: what was computed before counts as much as the time it saves, and no more."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from roles.orchestrator.scheduler.decide import decide
from roles.orchestrator.scheduler.decisions import Dispatch, Hold
from roles.orchestrator.scheduler.dispatching import MOST_HELD, MOST_HELD_MS, dispatches
from roles.orchestrator.scheduler.snapshot import Kept, Pace, Snapshot, Wish, WorkerView

NOW_MS = 1_000_000
PACE = Pace(prefill_ms_per_byte=0.5, decode_ms=2_000)
"""A prompt of 10 000 bytes takes 5 s to read and its answer 2 s; the load of a worker stretches both."""
LONG = 10_000


def worker(worker_id: str, *, leases: int = 0, slots: int = 4) -> WorkerView:
    return WorkerView(worker_id=worker_id, pool_id="p", free_slots=slots - leases, leases=leases, memory_free_bytes=1)


def wish(job_id: str, *kept: Kept, held_since_ms: int = 0) -> Wish:
    return Wish(job_id=job_id, prompt_bytes=LONG, kept=kept, held_since_ms=held_since_ms)


def look(workers: list[WorkerView], *wishes: Wish, heads: tuple[str, ...] = ("j",), pace: Pace = PACE) -> Snapshot:
    return Snapshot(
        now_ms=NOW_MS,
        model_ref="m",
        waiting=len(heads),
        heads=heads,
        workers=tuple(each for each in workers if each.free_slots),
        wishes=wishes,
        pace=pace,
        slots=sum(each.leases + each.free_slots for each in workers),
        online=1,
    )


def test_a_long_beginning_outweighs_a_small_difference_in_load() -> None:
    idle, has_it = worker("idle"), worker("has it", leases=2)

    (found,) = dispatches(look([idle, has_it], wish("j", Kept(worker=has_it, kept_bytes=9_000))))

    assert found == Dispatch("j", "has it", "p", 2, 4, 2, kept_bytes=9_000, prompt_bytes=LONG, favoured=True)
    assert "it had computed 90% of its prompt" in found.text


def test_a_short_beginning_does_not() -> None:
    idle, has_it = worker("idle"), worker("has it", leases=2)

    (found,) = dispatches(look([idle, has_it], wish("j", Kept(worker=has_it, kept_bytes=1_000))))

    assert found == Dispatch("j", "idle", "p", 0, 4, 2)


def test_load_alone_decides_before_anything_was_measured() -> None:
    idle, has_it = worker("idle"), worker("has it", leases=2)
    kept = wish("j", Kept(worker=has_it, kept_bytes=LONG, busy_bytes=LONG, busy_slots=2))

    (found,) = dispatches(look([idle, has_it], kept, pace=Pace()))

    assert found == Dispatch("j", "idle", "p", 0, 4, 2)


def test_a_worker_that_has_a_beginning_in_two_slots_gets_two_jobs_with_it() -> None:
    has_it = worker("has it", slots=2)
    kept = [wish(job, Kept(worker=has_it, kept_bytes=9_000, kept_slots=2)) for job in ("a", "b", "c")]

    found = list(dispatches(look([worker("other", leases=3), has_it], *kept, heads=("a", "b", "c"))))

    assert [(type(each), each.worker_id) for each in found] == [
        (Dispatch, "has it"),
        (Dispatch, "has it"),
        (Hold, "has it"),
    ]


def test_a_job_waits_for_a_busy_worker_if_that_saves_more_and_others_go_before_it() -> None:
    free, busy = worker("free", slots=1), worker("busy", leases=4)
    kept = wish("first", Kept(worker=busy, busy_bytes=9_000, busy_slots=1))

    held, gone = dispatches(look([free, busy], kept, heads=("first", "second")))

    assert held == Hold("first", "busy", "p", NOW_MS, NOW_MS + 4_500, 4_500)
    assert gone == Dispatch("second", "free", "p", 0, 1, 1)


def test_a_job_does_not_wait_if_the_wait_costs_more() -> None:
    free, busy = worker("free"), worker("busy", leases=4)
    kept = wish("j", Kept(worker=busy, busy_bytes=3_000, busy_slots=1))

    (found,) = dispatches(look([free, busy], kept))

    assert found == Dispatch("j", "free", "p", 0, 4, 1)


def test_the_second_that_waits_for_one_slot_expects_two_waits() -> None:
    free, busy = worker("free"), worker("busy", leases=4)
    kept = [wish(job, Kept(worker=busy, busy_bytes=9_000, busy_slots=1)) for job in ("a", "b")]

    found = list(dispatches(look([free, busy], *kept, heads=("a", "b"))))

    assert [type(each) for each in found] == [Hold, Dispatch]


def test_a_slot_is_given_to_one_job_and_the_next_with_the_same_beginning_waits_for_it() -> None:
    free, has_it = worker("free"), worker("has it", leases=1)
    kept = [wish(job, Kept(worker=has_it, kept_bytes=9_000)) for job in ("a", "b")]

    gone, held = dispatches(look([free, has_it], *kept, heads=("a", "b")))

    assert (gone.job_id, gone.worker_id) == ("a", "has it")
    assert held == Hold("b", "has it", "p", NOW_MS, NOW_MS + 4_500, 4_500)


def test_a_slot_that_has_yet_to_read_the_beginning_is_not_waited_for() -> None:
    free, busy = worker("free"), worker("busy", leases=4)

    def waiting_for(unread_bytes: int) -> Dispatch | Hold:
        kept = Kept(worker=busy, busy_bytes=9_000, busy_slots=1, unread_bytes=unread_bytes)
        return next(dispatches(look([free, busy], wish("j", kept))))

    assert isinstance(waiting_for(1_000), Hold)
    assert waiting_for(10_000) == Dispatch("j", "free", "p", 0, 4, 1)


def test_no_job_waits_longer_than_it_would_take_to_read_its_prompt() -> None:
    free, busy = worker("free"), worker("busy", leases=4)

    def held_for(ms: int) -> Dispatch | Hold:
        kept = wish("j", Kept(worker=busy, busy_bytes=9_000, busy_slots=1), held_since_ms=NOW_MS - ms)
        return next(dispatches(look([free, busy], kept)))

    assert held_for(4_499) == Hold("j", "busy", "p", NOW_MS - 4_499, NOW_MS + 1, 4_500)
    assert held_for(4_500) == Dispatch("j", "free", "p", 0, 4, 1)


@st.composite
def _snapshots(draw: st.DrawFn) -> Snapshot:
    """Return any fleet of a few workers, any jobs, and anything that the ones have of the others."""
    slots = st.integers(1, 4)
    workers = [
        worker(f"w{number}", slots=(total := draw(slots)), leases=draw(st.integers(0, total)))
        for number in range(draw(st.integers(1, 5)))
    ]
    free = sum(each.free_slots for each in workers)
    heads = tuple(f"j{number}" for number in range(draw(st.integers(0, free + MOST_HELD)))) if free else ()
    sizes = st.integers(0, LONG)
    wishes = []
    for job_id in heads:
        having = draw(st.lists(st.sampled_from(workers), unique_by=lambda each: each.worker_id))
        kept = [
            Kept(
                worker=each,
                kept_bytes=draw(sizes),
                kept_slots=draw(st.integers(0, each.free_slots)),
                busy_bytes=draw(sizes),
                busy_slots=draw(st.integers(0, each.leases)),
            )
            for each in having
        ]
        held_since_ms = draw(st.sampled_from([0, NOW_MS - 1, NOW_MS - 3_000, NOW_MS - MOST_HELD_MS]))
        wishes.append(wish(job_id, *kept, held_since_ms=held_since_ms))
    pace = Pace(prefill_ms_per_byte=draw(st.floats(0, 10)), decode_ms=draw(st.floats(0, 100_000)))
    return look(workers, *wishes, heads=heads, pace=pace)


@given(_snapshots())
def test_no_slot_stays_free_that_a_job_could_have_and_none_is_given_twice(snapshot: Snapshot) -> None:
    found = list(dispatches(snapshot))

    gone = [each for each in found if isinstance(each, Dispatch)]
    held = [each for each in found if isinstance(each, Hold)]
    free = {each.worker_id: each.free_slots for each in snapshot.workers}
    given_away = {worker_id: sum(each.worker_id == worker_id for each in gone) for worker_id in free}
    assert [each.job_id for each in found] == list(snapshot.heads[: len(found)])
    assert len(gone) == min(sum(free.values()), len(snapshot.heads) - len(held))
    assert all(given_away[worker_id] <= count for worker_id, count in free.items())
    assert len(held) <= MOST_HELD
    assert all(NOW_MS < each.until_ms <= each.since_ms + MOST_HELD_MS for each in held)


@given(_snapshots())
def test_a_recorded_snapshot_leads_to_the_same_decisions(snapshot: Snapshot) -> None:
    again = msgspec.json.decode(msgspec.json.encode(snapshot), type=Snapshot)

    assert decide(again) == decide(snapshot)
