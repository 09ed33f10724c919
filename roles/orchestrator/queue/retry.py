"""Whether a failed attempt is followed by another, and when. Pure: chance comes in as a number.

Exponential back-off with full jitter above a half: min(cap, base * 2^(n-1)) * (0.5 + chance / 2). An attempt that never
began waits by the same rule, from a shorter base to a lower cap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llorch.errors import LlorchError

MAX_ATTEMPTS = 5
BASE_MS = 1_000
CAP_MS = 60_000
FREE_BASE_MS = 100
FREE_CAP_MS = 5_000
FREE_CODES = frozenset({"ALL_SLOTS_BUSY", "NOT_READY", "DRAINING"})
"""The worker did not begin: try again soon, maybe elsewhere, and do not count it."""

LAST_CODES = frozenset({"CANNOT_CONTINUE"})
"""Another attempt of this job cannot help, but another job may."""

LEFT_MS = "left_ms"
"""In an error's details: so little of the job's time was left that it was not tried again."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Queue the job again; it may run from `not_before_ms` on."""

    not_before_ms: int
    counts: bool


@dataclass(frozen=True, slots=True)
class GiveUp:
    """End the job with this error; `left_ms` is what is left of its time, where that is why."""

    code: str
    message: str
    retriable: bool
    left_ms: int | None = None

    def details(self, known: Mapping[str, object] | None) -> Mapping[str, object] | None:
        """Return the error's details, of which some are *known*."""
        return known if self.left_ms is None else {**(known or {}), LEFT_MS: self.left_ms}


def after_failure(
    error: LlorchError, *, attempt: int, now_ms: int, deadline_ms: int, chance: float, refusals: int = 0
) -> Retry | GiveUp:
    """Decide what follows attempt number *attempt* (from 1) that ended with *error*.

    Args:
        error: What ended it; the caller's own faults are never retried.
        attempt: How many attempts there have been that count, this one included.
        now_ms: The time.
        deadline_ms: The job's; an attempt that would come behind it is not waited for.
        chance: Uniform in 0…1.
        refusals: How many attempts there have been before this one that do not count.
    """
    if error.code in FREE_CODES:
        return Retry(now_ms + _delay_ms(refusals, FREE_BASE_MS, FREE_CAP_MS, chance=chance), counts=False)
    if not error.retriable or error.code in LAST_CODES:
        return GiveUp(error.code, error.message, retriable=error.retriable)
    if attempt >= MAX_ATTEMPTS:
        return GiveUp(error.code, f"{error.message}; given up after {attempt} attempts", retriable=True)
    not_before_ms = now_ms + _delay_ms(attempt - 1, BASE_MS, CAP_MS, chance=chance)
    if not_before_ms >= deadline_ms:
        message, left_ms = f"{error.message}; no time is left for another attempt", max(0, deadline_ms - now_ms)
        return GiveUp(error.code, message, retriable=True, left_ms=left_ms)
    return Retry(not_before_ms, counts=True)


def _delay_ms(before: int, base_ms: int, cap_ms: int, *, chance: float) -> int:
    """Return how long the wait is behind so many earlier ones; the power is bounded, for refusals are not."""
    return round(min(cap_ms, base_ms << min(before, 10)) * (0.5 + chance / 2))
