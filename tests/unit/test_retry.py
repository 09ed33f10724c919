"""What follows a failed attempt: another one, later and later, or the end."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llorch import errors
from llorch.errors import LlorchError, RemoteError, TimeoutExceeded, WorkerLost
from roles.orchestrator.queue.retry import BASE_MS, CAP_MS, FREE_CODES, MAX_ATTEMPTS, GiveUp, Retry, after_failure

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
CALLERS = [kind for kind in KINDS if issubclass(kind, errors.CallerError)]
OTHERS = [
    kind
    for kind in KINDS
    if issubclass(kind, errors.BusyError | errors.PeerError)
    and kind not in {TimeoutExceeded, errors.CannotContinue}  # have tests of their own
]
NEVER_MS = 2**53


@pytest.mark.parametrize("kind", CALLERS, ids=lambda kind: str(kind.__name__))
@pytest.mark.parametrize("attempt", [1, MAX_ATTEMPTS])
def test_the_callers_own_faults_are_never_tried_again(kind: type[LlorchError], attempt: int) -> None:
    outcome = after_failure(kind("no"), attempt=attempt, now_ms=0, deadline_ms=NEVER_MS, chance=0.5)

    assert outcome == GiveUp(kind.code, "no", retriable=False)


@pytest.mark.parametrize("kind", OTHERS, ids=lambda kind: str(kind.__name__))
def test_what_is_not_the_callers_fault_is_tried_again(kind: type[LlorchError]) -> None:
    outcome = after_failure(kind("no"), attempt=1, now_ms=0, deadline_ms=NEVER_MS, chance=1.0)

    assert isinstance(outcome, Retry)


def test_a_job_that_cannot_go_on_ends_with_an_error_that_says_ask_again() -> None:
    outcome = after_failure(errors.CannotContinue("no"), attempt=1, now_ms=0, deadline_ms=NEVER_MS, chance=1.0)

    assert outcome == GiveUp("CANNOT_CONTINUE", "no", retriable=True)


@pytest.mark.parametrize(
    ("attempt", "chance", "delay_ms"),
    [
        (1, 0.0, 500),
        (1, 0.5, 750),
        (1, 1.0, 1_000),
        (2, 0.0, 1_000),
        (2, 1.0, 2_000),
        (3, 1.0, 4_000),
        (4, 0.0, 4_000),
        (4, 1.0, 8_000),
    ],
)
def test_each_attempt_waits_twice_as_long_as_the_one_before(attempt: int, chance: float, delay_ms: int) -> None:
    outcome = after_failure(WorkerLost("gone"), attempt=attempt, now_ms=10_000, deadline_ms=NEVER_MS, chance=chance)

    assert outcome == Retry(10_000 + delay_ms, counts=True)


@pytest.mark.parametrize("attempt", [MAX_ATTEMPTS, MAX_ATTEMPTS + 1])
def test_the_fifth_failure_is_the_last(attempt: int) -> None:
    outcome = after_failure(WorkerLost("gone"), attempt=attempt, now_ms=0, deadline_ms=NEVER_MS, chance=0.5)

    assert outcome == GiveUp("WORKER_LOST", f"gone; given up after {attempt} attempts", retriable=True)


@pytest.mark.parametrize("left_ms", [1, 1_000])
def test_an_attempt_that_would_come_after_the_deadline_is_not_waited_for(left_ms: int) -> None:
    outcome = after_failure(WorkerLost("gone"), attempt=1, now_ms=500, deadline_ms=500 + left_ms, chance=1.0)

    assert outcome == GiveUp(
        "WORKER_LOST", "gone; no time is left for another attempt", retriable=True, left_ms=left_ms
    )
    assert outcome.details(None) == {"left_ms": left_ms}
    assert outcome.details({"prompt_tokens": 3}) == {"prompt_tokens": 3, "left_ms": left_ms}


def test_an_attempt_just_before_the_deadline_is_made() -> None:
    outcome = after_failure(WorkerLost("gone"), attempt=1, now_ms=500, deadline_ms=1_501, chance=1.0)

    assert outcome == Retry(1_500, counts=True)


@pytest.mark.parametrize("code", sorted(FREE_CODES))
def test_a_job_that_did_not_begin_is_left_to_the_queue_whose_deadline_it_is(code: str) -> None:
    error = RemoteError("not now", code=code, status=503, retriable=True)

    outcome = after_failure(error, attempt=1, now_ms=1_000, deadline_ms=1_010, chance=1.0)

    assert outcome == Retry(1_100, counts=False)


@pytest.mark.parametrize("code", sorted(FREE_CODES))
@pytest.mark.parametrize("attempt", [1, MAX_ATTEMPTS, 1_000])
def test_a_worker_that_did_not_begin_costs_no_attempt(code: str, attempt: int) -> None:
    error = RemoteError("not now", code=code, status=503, retriable=True)

    outcome = after_failure(error, attempt=attempt, now_ms=1_000, deadline_ms=NEVER_MS, chance=1.0)

    assert outcome == Retry(1_100, counts=False)


@pytest.mark.parametrize(
    ("refusals", "chance", "delay_ms"),
    [
        (0, 0.0, 50),
        (1, 1.0, 200),
        (2, 1.0, 400),
        (5, 1.0, 3_200),
        (6, 1.0, 5_000),
        (6, 0.0, 2_500),
        (10**6, 1.0, 5_000),
    ],
)
def test_a_worker_that_does_not_begin_is_asked_less_and_less_often(refusals: int, chance: float, delay_ms: int) -> None:
    error = errors.AllSlotsBusy("full")

    outcome = after_failure(error, attempt=1, now_ms=1_000, deadline_ms=NEVER_MS, chance=chance, refusals=refusals)

    assert outcome == Retry(1_000 + delay_ms, counts=False)


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("TIMEOUT", GiveUp("TIMEOUT", "late", retriable=False)),
        ("STALLED", Retry(1_000, counts=True)),
        ("STARTUP_TIMEOUT", Retry(1_000, counts=True)),
    ],
)
def test_only_the_jobs_own_time_limit_is_final(code: str, outcome: Retry | GiveUp) -> None:
    assert (
        after_failure(TimeoutExceeded("late", code=code), attempt=1, now_ms=0, deadline_ms=NEVER_MS, chance=1.0)
        == outcome
    )


@given(
    attempt=st.integers(min_value=1, max_value=MAX_ATTEMPTS - 1),
    chance=st.floats(min_value=0, max_value=1),
    now_ms=st.integers(min_value=0, max_value=2**45),
)
def test_the_wait_is_between_half_and_the_whole_of_the_step_and_never_over_the_cap(
    attempt: int, chance: float, now_ms: int
) -> None:
    outcome = after_failure(WorkerLost("gone"), attempt=attempt, now_ms=now_ms, deadline_ms=NEVER_MS, chance=chance)

    step_ms = BASE_MS * 2 ** (attempt - 1)
    assert isinstance(outcome, Retry)
    assert step_ms // 2 <= outcome.not_before_ms - now_ms <= min(step_ms, CAP_MS)
