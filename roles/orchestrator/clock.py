"""The time, as a value to be passed in."""

from __future__ import annotations

import time
from collections.abc import Callable

ClockMs = Callable[[], int]


def now_ms() -> int:
    """Return the time in Unix milliseconds."""
    return time.time_ns() // 1_000_000
