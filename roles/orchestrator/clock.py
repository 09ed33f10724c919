"""The time, as a value to be passed in: of the wall clock, or of one that never goes back."""

from __future__ import annotations

import time
from collections.abc import Callable

ClockMs = Callable[[], int]
_NS = 1_000_000


def now_ms() -> int:
    """Return the time in Unix milliseconds."""
    return time.time_ns() // _NS


class SteadyClock:
    """The time of the wall clock in Unix milliseconds, but never earlier than it was.

    Pauses, deadlines and ages are differences of this time: if it went back with a wall clock that is set back, they
    would last longer by as much. Then it goes on instead, an eighth slower, until the wall clock is there too. Where
    that is ahead it is followed at once: it was set forward, or the machine was asleep, and the time has passed.

    Args:
        wall_ms: The wall clock.
        steady_ns: A clock that is never set, from any beginning.
    """

    def __init__(self, wall_ms: ClockMs = now_ms, steady_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._wall_ms = wall_ms
        self._steady_ns = steady_ns
        self._looked_ns = steady_ns()
        self._time_ns = wall_ms() * _NS

    def __call__(self) -> int:
        """Return the time."""
        looked_ns = self._steady_ns()
        passed_ns, self._looked_ns = looked_ns - self._looked_ns, looked_ns
        self._time_ns = max(self._wall_ms() * _NS, self._time_ns + passed_ns * 7 // 8)
        return self._time_ns // _NS
