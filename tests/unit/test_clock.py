"""The time never goes back, and is the wall clock's again after a while."""

from __future__ import annotations

from roles.orchestrator.clock import SteadyClock

HOUR_MS = 3_600_000


class Hands:
    """A wall clock that can be set, and a steady one."""

    def __init__(self) -> None:
        self.wall = 100 * HOUR_MS
        self.steady = 5
        self.clock = SteadyClock(lambda: self.wall, lambda: self.steady * 1_000_000)

    def pass_(self, ms: int) -> int:
        """Let time pass; return what the clock says then."""
        self.wall += ms
        self.steady += ms
        return self.clock()


def test_it_is_the_time_of_the_wall_clock() -> None:
    hands = Hands()

    assert [hands.pass_(ms) - hands.wall for ms in (0, 1, 7, 2_000, 10 * HOUR_MS)] == [0] * 5


def test_it_goes_on_an_eighth_slower_when_the_wall_clock_is_set_back() -> None:
    hands = Hands()
    before = hands.pass_(1_000)

    hands.wall -= HOUR_MS

    assert (hands.pass_(0) - before, hands.pass_(8_000) - before, hands.pass_(8_000) - before) == (0, 7_000, 14_000)


def test_it_never_goes_back_however_often_it_is_asked() -> None:
    hands = Hands()
    hands.wall -= HOUR_MS

    seen = [hands.pass_(ms) for ms in (0, 1, 0, 0, 1, 60_000, 1, 0)]

    assert seen == sorted(seen)


def test_it_is_the_wall_clock_s_time_again_after_eight_times_the_step() -> None:
    hands = Hands()

    hands.wall -= HOUR_MS
    nearly, there, on = (hands.pass_(ms) - hands.wall for ms in (8 * HOUR_MS - 8_000, 8_000, 1_000))

    assert (nearly, there, on) == (1_000, 0, 0)


def test_it_follows_a_wall_clock_that_is_set_forward_or_ran_on_while_the_machine_slept() -> None:
    hands = Hands()

    hands.wall += HOUR_MS

    assert (hands.pass_(0) - hands.wall, hands.pass_(500) - hands.wall) == (0, 0)
