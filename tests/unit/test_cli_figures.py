"""How numbers are shown to a person."""

from __future__ import annotations

import pytest

from llorch.cli.figures import age, bar, duration, rate, size, summary


@pytest.mark.parametrize(
    ("ms", "shown"),
    [(0, "0 ms"), (999, "999 ms"), (2_400, "2.4 s"), (185_000, "3 min 05 s"), (7_800_000, "2 h 10 min")],
)
def test_a_length_of_time_is_shown_in_the_unit_that_suits_it(ms: float, shown: str) -> None:
    assert duration(ms) == shown


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (0, "0s"),
        (59_400, "59s"),
        (59_600, "1m00s"),
        (7_800_000, "2h10m"),
        (99 * 86_400_000, "99d0h"),
        (10**12, "11574d"),
    ],
)
def test_an_age_takes_six_characters_at_most(ms: float, shown: str) -> None:
    assert age(ms) == shown


@pytest.mark.parametrize(("count", "shown"), [(512, "512 B"), (3 * 2**20, "3.0 MiB"), (2**50, "1.0 PiB")])
def test_bytes_are_shown_in_the_unit_that_suits_them(count: int, shown: str) -> None:
    assert size(count) == shown


@pytest.mark.parametrize(
    ("used", "total", "shown"),
    [(0, 10, "[....]   0%"), (5, 10, "[##..]  50%"), (20, 10, "[####] 100%"), (1, 0, "[....]   0%")],
)
def test_a_bar_is_filled_by_its_share_and_never_beyond(used: int, total: int, shown: str) -> None:
    assert bar(used, total, cells=4) == shown


def test_a_rate_needs_time_to_have_passed() -> None:
    assert (rate(10, 2_000), rate(10, 0)) == ("5.0 tokens/s", "–")


def test_the_last_line_of_a_job_has_its_four_figures() -> None:
    line = summary(tokens=1, decode_ms=100, first_token_ms=30, queue_ms=2_000)

    assert line == "1 token · 10.0 tokens/s · first token after 30 ms · 2.0 s in queue"
