"""Tokens a second."""

from __future__ import annotations

from roles.worker.inference.rate import WINDOW_S, Rate


def test_the_rate_is_the_mean_of_the_last_seconds() -> None:
    rate = Rate()
    for second in range(20):
        rate.add(100, 1000.0 + second)

    assert 99 <= rate.per_second(1020.0) <= 121


def test_a_moment_of_work_is_not_blown_up() -> None:
    rate = Rate()
    rate.add(30, 50.9)

    assert rate.per_second(50.91) == 30.0


def test_an_idle_worker_has_no_rate() -> None:
    rate = Rate()
    rate.add(30, 50.0)

    assert rate.per_second(50.0 + WINDOW_S + 1) == 0.0
