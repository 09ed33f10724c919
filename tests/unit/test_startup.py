"""How a worker came to be: told by two clocks that never agree, and shared out so that the parts make the whole."""

from __future__ import annotations

from random import Random

import pytest
from msgspec.structs import astuple, replace

from llorch.wire.pools import WorkerReport
from llorch.wire.tasks import Breakdown
from roles.orchestrator.scheduler.startup import Startup, Startups, breakdown
from tests.support.worlds import report

POOL_CLOCK_MS = 90_000_000
"""How far the pool's clock is ahead."""


def ready(*, started_ms: int, ready_ms: int, load_ms: int = 0) -> WorkerReport:
    """Return a worker as its pool tells of it, by the pool's clock."""
    worker = report("w", "m")
    return replace(worker, started_ms=POOL_CLOCK_MS + started_ms, ready_ms=POOL_CLOCK_MS + ready_ms, load_ms=load_ms)


def test_a_worker_that_was_fetched_spawned_and_loaded_tells_when_by_one_clock() -> None:
    known = Startups()
    known.fetching("p", "m", now_ms=1_000)
    known.asked("w", "p", model_ref="m", asked_ms=3_000)

    known.heard(report("w", "m", status="starting"), now_ms=3_010, told_ms=POOL_CLOCK_MS + 3_010)
    known.heard(ready(started_ms=3_005, ready_ms=4_000, load_ms=600), now_ms=4_030, told_ms=POOL_CLOCK_MS + 4_020)
    known.heard(ready(started_ms=3_005, ready_ms=4_000, load_ms=600), now_ms=9_999, told_ms=POOL_CLOCK_MS + 4_021)

    assert known.of("w") == Startup(asked_ms=1_000, fetched_ms=3_000, loading_ms=3_410, ready_ms=4_010)


def test_a_worker_that_somebody_else_asked_for_began_when_its_pool_says() -> None:
    known = Startups()

    known.heard(ready(started_ms=100, ready_ms=1_100), now_ms=5_000, told_ms=POOL_CLOCK_MS + 1_100)

    assert known.of("w") == Startup(asked_ms=4_000, fetched_ms=4_000, loading_ms=4_000, ready_ms=5_000)


def test_a_worker_that_was_there_when_its_pool_registered_is_no_cold_start_unless_it_was_asked_for() -> None:
    known = Startups()
    known.asked("v", "p", model_ref="m", asked_ms=50)

    for worker_id in "vw":
        known.heard(replace(ready(started_ms=0, ready_ms=30), worker_id=worker_id), now_ms=100, told_ms=0)

    assert known.of("w") is None
    assert known.of("v") == Startup(asked_ms=50, fetched_ms=50, loading_ms=70, ready_ms=100)


def test_a_fetch_counts_for_one_worker_and_nothing_is_known_of_one_that_is_forgotten() -> None:
    known = Startups()
    known.fetching("p", "m", now_ms=1)
    known.fetching("q", "m", now_ms=1)
    known.asked("v", "p", model_ref="m", asked_ms=50)
    known.asked("w", "p", model_ref="m", asked_ms=70)
    known.leave("q")
    known.asked("u", "q", model_ref="m", asked_ms=90)
    for worker_id in "uvw":
        told = replace(ready(started_ms=0, ready_ms=1), worker_id=worker_id)
        known.heard(told, now_ms=100, told_ms=POOL_CLOCK_MS + 1)

    asked = {worker_id: startup.asked_ms for worker_id in "uvw" if (startup := known.of(worker_id))}
    known.forget("w")

    assert asked == {"u": 90, "v": 1, "w": 70}
    assert known.of("w") is None


def test_a_job_that_came_while_the_worker_loaded_does_not_pay_for_what_was_before() -> None:
    startup = Startup(asked_ms=100, fetched_ms=200, loading_ms=300, ready_ms=500)

    found = breakdown(startup, submitted_ms=400, dispatched_ms=504, first_token_ms=520)

    assert found == Breakdown(load_ms=100, dispatch_ms=4, prefill_ms=16)


def test_a_job_whose_worker_was_there_was_decided_on_and_then_computed() -> None:
    assert breakdown(None, submitted_ms=10, dispatched_ms=14, first_token_ms=40) == Breakdown(4, 0, 0, 0, 0, 26)


@pytest.mark.parametrize("seed", range(50))
def test_the_parts_are_never_negative_and_always_make_the_whole(seed: int) -> None:
    random = Random(seed)
    marks = [random.randrange(1_000) for _ in range(7)]
    startup = Startup(*marks[:4]) if seed % 5 else None
    submitted_ms, first_token_ms = sorted(marks[4:6])

    found = astuple(
        breakdown(startup, submitted_ms=submitted_ms, dispatched_ms=marks[6], first_token_ms=first_token_ms)
    )

    assert sum(found) == first_token_ms - submitted_ms
    assert min(found) >= 0
