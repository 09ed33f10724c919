"""How many tokens a second, lately. Pure: the clock is passed in."""

from __future__ import annotations

WINDOW_S = 5


class Rate:
    """Counts over the last `WINDOW_S` whole seconds and the present one. Written by the jobs' tasks."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def add(self, count: int, now_s: float) -> None:
        """Note that *count* tokens have come."""
        second = int(now_s)
        if second in self._counts:
            self._counts[second] += count
        else:
            self._counts = {s: c for s, c in self._counts.items() if s >= second - WINDOW_S}
            self._counts[second] = count

    def per_second(self, now_s: float) -> float:
        """Return the mean over the seconds in which the first and the last of them came; 0 when idle."""
        recent = {s: c for s, c in self._counts.items() if s >= int(now_s) - WINDOW_S}
        if not recent:
            return 0.0
        return round(sum(recent.values()) / max(1.0, now_s - min(recent)), 1)
