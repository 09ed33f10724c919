"""How fast a download is, how long it will take, and how long to wait after a failure. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from llorch.errors import DiskFull, LlorchError
from roles.pool.model_cache.partial import ELSEWHERE

WINDOW_S = 10.0


def may_go_on(error: LlorchError) -> bool:
    """Tell whether what a failed download brought may be whole one day, when it is asked for again."""
    return error.retriable or error.code == DiskFull.code


def failures(before: int, error: LlorchError, *, brought: bool) -> int:
    """Return how many tries have failed in a row: one that *brought* something begins anew, a wait for others is none.

    Args:
        before: How many there were before this one.
        error: Why it failed.
        brought: Whether something came by it.
    """
    if ELSEWHERE in (error.details or {}):
        return before
    return 1 if brought else before + 1


class Pace:
    """The rate of the last seconds, from what has come by when. The caller passes the time in."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def saw(self, done_bytes: int, *, now_s: float) -> None:
        """Take note that so much has come; less than before begins anew."""
        if self._seen and done_bytes < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now_s, done_bytes))
        while now_s - self._seen[0][0] > WINDOW_S and len(self._seen) > 2:
            self._seen.popleft()

    @property
    def bytes_s(self) -> float:
        """Bytes a second; 0 where nothing can be told yet."""
        if len(self._seen) < 2:
            return 0.0
        (first_s, first), (last_s, last) = self._seen[0], self._seen[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0

    def seconds_left(self, left_bytes: int) -> float | None:
        """Return how long *left_bytes* will take at this rate; None where that cannot be told."""
        rate = self.bytes_s
        return round(left_bytes / rate, 1) if rate > 0 else None


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a download is tried again, and when: after `first_s`, twice as long each time, at most `longest_s`.

    A try that brought something does not count.
    """

    first_s: float = 1.0
    longest_s: float = 60.0
    tries: int = 30

    def wait_s(self, failures: int, *, retry_after_s: int | None, chance: float) -> float | None:
        """Return how long to wait after the *failures*-th failure in a row; None: give up.

        Args:
            failures: 1 for the first one; 0 where it was none.
            retry_after_s: What the hub asks for; it is never asked earlier.
            chance: From 0 to 1, so that many pools do not come back at the same moment.
        """
        if failures >= self.tries:
            return None
        wait = min(self.longest_s, self.first_s * 2.0 ** min(max(failures, 1) - 1, 30))
        return max(wait * (0.75 + chance / 2), float(retry_after_s or 0))
