"""How many jobs are finished a second, as measured over the last minutes. Pure: the clock comes in."""

from __future__ import annotations

from collections import deque

WINDOW_MS = 300_000
MAX_SAMPLES = 1_000


class ServiceRate:
    """A sliding window over the ends of jobs."""

    def __init__(self) -> None:
        self._ends: deque[int] = deque(maxlen=MAX_SAMPLES)

    def finished(self, now_ms: int) -> None:
        """Count one end."""
        self._ends.append(now_ms)

    def per_second(self, now_ms: int) -> float:
        """Return the rate over the window; 0 when nothing ended in it."""
        while self._ends and self._ends[0] < now_ms - WINDOW_MS:
            self._ends.popleft()
        if not self._ends:
            return 0.0
        return len(self._ends) * 1000 / max(1000, now_ms - self._ends[0])
