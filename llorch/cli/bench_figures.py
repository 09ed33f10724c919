"""From what readers of streams saw to rates and percentiles. Pure.

Terms: TTFT is the time from a request to its first token, TPOT the time per output token after the first one.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

MOST_IN_FLIGHT = 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """One job as its reader saw it; moments by the reader's clock, in seconds. `code` and `reason` tell a failure."""

    began_s: float
    ended_s: float
    first_token_s: float | None = None
    last_token_s: float | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    queue_ms: int = 0
    code: str = ""
    reason: str = ""

    @property
    def ttft_ms(self) -> float | None:
        """Time to the first token; None where none came."""
        return None if self.first_token_s is None else (self.first_token_s - self.began_s) * 1e3

    @property
    def tpot_ms(self) -> float | None:
        """Time per output token after the first; None where there are not two."""
        if self.first_token_s is None or self.last_token_s is None or self.tokens_out < 2:
            return None
        return (self.last_token_s - self.first_token_s) * 1e3 / (self.tokens_out - 1)


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """Of times in milliseconds; null where nothing was measured."""

    p50: float | None
    p95: float | None
    p99: float | None


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured with one number of jobs in flight.

    `seconds` is from the first request to the last end. `tokens_per_s` counts output tokens of all streams in that
    time; `stream_tokens_per_s` is the median stream's, after its first token. `errors` counts failed jobs by code; they
    are in no other figure.
    """

    in_flight: int
    jobs: int
    completed: int
    errors: dict[str, int]
    seconds: float
    jobs_per_s: float | None
    tokens_in: int
    tokens_out: int
    tokens_per_s: float | None
    stream_tokens_per_s: float | None
    ttft_ms: Percentiles
    tpot_ms: Percentiles
    queue_ms: Percentiles


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the least of *values* that a *share* (0 to 1) of them does not exceed (nearest rank), or None of none."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def percentiles(values: Sequence[float | None]) -> Percentiles:
    """Return the usual three of those values that there are."""
    known = [value for value in values if value is not None]
    p50, p95, p99 = (_rounded(percentile(known, share)) for share in (0.5, 0.95, 0.99))
    return Percentiles(p50=p50, p95=p95, p99=p99)


def level(samples: Sequence[Sample], *, in_flight: int) -> Level:
    """Return the figures of jobs that were in flight together."""
    done = [sample for sample in samples if not sample.code]
    seconds = span_s(samples)
    tokens_out = sum(sample.tokens_out for sample in done)
    tpot_ms = percentile([sample.tpot_ms for sample in done if sample.tpot_ms], 0.5)
    return Level(
        in_flight=in_flight,
        jobs=len(samples),
        completed=len(done),
        errors=dict(sorted(Counter(sample.code for sample in samples if sample.code).items())),
        seconds=round(seconds, 4),
        jobs_per_s=rate(len(done), seconds),
        tokens_in=sum(sample.tokens_in for sample in done),
        tokens_out=tokens_out,
        tokens_per_s=rate(tokens_out, seconds),
        stream_tokens_per_s=_rounded(1e3 / tpot_ms) if tpot_ms else None,
        ttft_ms=percentiles([sample.ttft_ms for sample in done]),
        tpot_ms=percentiles([sample.tpot_ms for sample in done]),
        queue_ms=percentiles([sample.queue_ms for sample in done]),
    )


def span_s(samples: Sequence[Sample]) -> float:
    """Return the time from the first request to the last end."""
    if not samples:
        return 0.0
    return max(sample.ended_s for sample in samples) - min(sample.began_s for sample in samples)


def rate(count: int, seconds: float) -> float | None:
    """Return how many a second, or None where nothing was counted or no time has passed."""
    return round(count / seconds, 3) if count and seconds > 0 else None


def prompt_rate(samples: Sequence[Sample]) -> float | None:
    """Return the prompt tokens a second of streams that began together: until the last of them had its first token."""
    firsts = [sample.first_token_s for sample in samples if sample.first_token_s is not None]
    if len(firsts) < len(samples) or not samples:
        return None
    return rate(sum(s.tokens_in for s in samples), max(firsts) - min(s.began_s for s in samples))


def generation_rate(samples: Sequence[Sample]) -> float | None:
    """Return the tokens a second of streams that ran together, from the first token of all to the last, without it."""
    spans = [(s.first_token_s, s.last_token_s) for s in samples if s.first_token_s is not None]
    if not spans:
        return None
    last = max(end for _, end in spans if end is not None)
    return rate(sum(s.tokens_out for s in samples) - 1, last - min(begin for begin, _ in spans))


def mean_and_deviation(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the mean and the sample standard deviation; None where there are too few values for it."""
    mean = _rounded(statistics.mean(values)) if values else None
    return mean, _rounded(statistics.stdev(values)) if len(values) > 1 else None


def difference(through: float | None, direct: float | None) -> float | None:
    """Return how much more one is than the other, where both are known."""
    return None if through is None or direct is None else _rounded(through - direct)


def counts(text: str) -> list[int]:
    """Read numbers of jobs in flight, such as `1,4,16`.

    Raises:
        ValueError: It is something else; the message says what is allowed.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= MOST_IN_FLIGHT for part in parts):
        raise ValueError(f"expected numbers from 1 to {MOST_IN_FLIGHT}, such as 1,4,16, found {text!r}")
    return [int(part) for part in parts]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
