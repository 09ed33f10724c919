"""Refusals: a growing pause for what failed, none for anything else, and forgetting when there is reason to."""

from __future__ import annotations

import pytest

from roles.orchestrator.scheduler.backoff import FIRST_MS, MOST_MODELS, MOST_MS, Backoff

SPOT = ("p", "d")


def refused(count: int, code: str = "ENGINE_FAILED") -> Backoff:
    found = Backoff()
    for _ in range(count):
        found.refused("m", SPOT, code=code, message="no", now_ms=0)
    return found


@pytest.mark.parametrize(("count", "pause_ms"), [(1, FIRST_MS), (2, 2 * FIRST_MS), (4, 8 * FIRST_MS), (50, MOST_MS)])
def test_the_pause_doubles_up_to_a_limit(count: int, pause_ms: int) -> None:
    found = refused(count)

    assert found.blocked("m", now_ms=pause_ms - 1) == {SPOT}
    assert found.blocked("m", now_ms=pause_ms) == set()
    assert found.blocked("other", now_ms=0) == set()


def test_what_is_wrong_with_the_file_holds_for_the_whole_pool_and_for_good() -> None:
    assert refused(1, "MODEL_INVALID").blocked("m", now_ms=2**60) == {("p", "")}


def test_a_worker_that_came_up_clears_what_its_pool_has_refused() -> None:
    found = refused(3)

    found.came_up("m", "p")
    found.refused("m", SPOT, code="ENGINE_FAILED", message="no", now_ms=0)

    assert found.blocked("m", now_ms=FIRST_MS) == set()


def test_a_pool_that_registers_anew_is_asked_again_but_its_failures_still_count() -> None:
    found = refused(1, "MODEL_NOT_FOUND")

    found.forget("p", failures=False)
    asked = found.blocked("m", now_ms=0)
    found.refused("m", SPOT, code="ENGINE_FAILED", message="no", now_ms=0)

    assert asked == set()
    assert found.of("m")[0].retry_at_ms == FIRST_MS


def test_refusals_of_any_number_of_models_take_no_more_memory_than_those_of_the_last() -> None:
    known = Backoff()

    for number in range(MOST_MODELS + 1):
        known.refused(f"file:/{number}", ("p", ""), code="MODEL_NOT_FOUND", message="no such file", now_ms=0)
        known.refused("file:/0", ("p", ""), code="MODEL_NOT_FOUND", message="no such file", now_ms=0)

    refused = [bool(known.of(f"file:/{number}")) for number in (0, 1, 2, MOST_MODELS)]
    assert refused == [True, False, True, True]
