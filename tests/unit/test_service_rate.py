"""The measured service rate: a window that slides, and never a division by nothing."""

from __future__ import annotations

import pytest

from roles.orchestrator.queue.service_rate import MAX_SAMPLES, WINDOW_MS, ServiceRate


def rate_of(ends_ms: list[int], now_ms: int) -> float:
    """Return the rate at *now_ms* after jobs ended at *ends_ms*."""
    rate = ServiceRate()
    for end_ms in ends_ms:
        rate.finished(end_ms)
    return rate.per_second(now_ms)


@pytest.mark.parametrize(
    ("ends_ms", "now_ms", "per_second"),
    [
        ([], 0, 0.0),
        ([], 10**12, 0.0),
        ([1000], 1000, 1.0),
        ([1000], 1500, 1.0),
        ([1000], 2000, 1.0),
        ([1000], 3000, 0.5),
        ([0, 1000, 2000, 3000], 4000, 1.0),
        ([0, 0, 0, 0], 2000, 2.0),
        ([0], WINDOW_MS, 1000 / WINDOW_MS),
        ([0], WINDOW_MS + 1, 0.0),
        ([0, WINDOW_MS], WINDOW_MS + 1, 1.0),
    ],
)
def test_the_rate_is_the_ends_in_the_window_over_the_time_since_the_first(
    ends_ms: list[int], now_ms: int, per_second: float
) -> None:
    assert rate_of(ends_ms, now_ms) == per_second


def test_a_burst_within_a_second_is_not_taken_for_more_than_it_was() -> None:
    assert rate_of([5] * 10, 5) == 10.0


def test_more_ends_than_are_kept_do_not_lower_the_rate() -> None:
    ends = [n * 10 for n in range(3 * MAX_SAMPLES)]

    found = rate_of(ends, ends[-1] + 10)

    assert found == 100.0


def test_a_rate_that_fell_to_nothing_comes_back() -> None:
    rate = ServiceRate()
    rate.finished(0)
    silent = rate.per_second(10 * WINDOW_MS)
    rate.finished(10 * WINDOW_MS)

    assert (silent, rate.per_second(10 * WINDOW_MS)) == (0.0, 1.0)
