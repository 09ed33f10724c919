"""How fast a download is, and when a failed one is tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llorch.errors import Conflict, DiskFull, HubUnreachable, ModelInvalid, RemoteError
from roles.pool.model_cache.pace import WINDOW_S, Pace, Patience, failures, may_go_on
from roles.pool.model_cache.partial import ELSEWHERE


def test_the_rate_is_that_of_the_last_seconds() -> None:
    pace = Pace()
    for second in range(60):
        pace.saw(second * 100 if second < 30 else 3000 + (second - 30) * 1000, now_s=float(second))

    assert pace.bytes_s == pytest.approx(1000)
    assert pace.seconds_left(5000) == pytest.approx(5)


def test_nothing_is_told_before_anything_is_known() -> None:
    pace = Pace()
    pace.saw(700, now_s=1.0)

    assert pace.bytes_s == 0
    assert pace.seconds_left(100) is None


def test_what_came_earlier_is_no_rate_and_beginning_again_is_none_either() -> None:
    pace = Pace()
    pace.saw(1_000_000, now_s=0.0)
    pace.saw(1_000_100, now_s=1.0)
    before = pace.bytes_s
    pace.saw(50, now_s=2.0)

    assert (before, pace.bytes_s) == (100, 0)


def test_a_stall_shows() -> None:
    pace = Pace()
    pace.saw(0, now_s=0.0)
    pace.saw(1000, now_s=1.0)
    pace.saw(1000, now_s=1.0 + WINDOW_S * 2)

    assert pace.bytes_s < 100


@given(st.integers(1, 29), st.floats(0, 1))
def test_each_wait_is_longer_up_to_a_limit(failures: int, chance: float) -> None:
    wait = Patience().wait_s(failures, retry_after_s=None, chance=chance)

    assert wait is not None
    assert 0.75 * min(60, 2 ** (failures - 1)) <= wait <= 1.25 * min(60, 2 ** (failures - 1))


def test_the_hub_is_never_asked_earlier_than_it_wants_and_not_for_ever() -> None:
    patience = Patience(tries=3)

    assert patience.wait_s(1, retry_after_s=90, chance=0.0) == 90
    assert patience.wait_s(3, retry_after_s=None, chance=0.0) is None


def test_a_full_disk_and_a_hub_that_is_away_are_no_reason_to_begin_anew() -> None:
    told = RemoteError("full", code="DISK_FULL", status=507, retriable=False)

    assert all(map(may_go_on, (DiskFull("full"), told, HubUnreachable("away"))))
    assert not any(map(may_go_on, (ModelInvalid("wrong"), Conflict("not here"))))


def test_only_tries_that_failed_count_in_a_row() -> None:
    away, elsewhere = HubUnreachable("away"), HubUnreachable("it comes already", details={ELSEWHERE: True})

    assert failures(3, away, brought=False) == 4
    assert failures(3, away, brought=True) == 1
    assert failures(3, elsewhere, brought=False) == 3


def test_a_wait_for_another_process_has_no_end() -> None:
    assert Patience(tries=1).wait_s(0, retry_after_s=5, chance=0.0) == 5.0
