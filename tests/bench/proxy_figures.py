"""From what clients saw of a server, straight and through proxies, to a table of figures and differences. Pure."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llorch.cli.bench_figures import percentile
from tests.bench.load import Streamed

COUNTED = re.compile(rb'"completion_tokens": ?(\d+)')
HEAD = (
    "way", "answers", "failed", "TTFT p50 ms", "p99", "total p50 ms", "p99", "requests/s", "tokens/s", "CPU ms/request",
    "total p50 by round", "CPU by round",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Round:
    """What was seen in one round: answers, in so many seconds, for so much processor time of the proxy's."""

    seen: Sequence[Streamed]
    seconds: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Of all rounds: times in milliseconds over all answers, rates the rounds' median; failures are in neither."""

    answers: int
    failed: int
    ttft_p50: float | None
    ttft_p99: float | None
    total_p50: float | None
    total_p99: float | None
    requests_per_s: float
    tokens_per_s: float
    cpu_ms: float
    by_round: Sequence[float | None]
    """The total's median of each."""
    cpu_by_round: Sequence[float]


def tokens_told(tail: bytes) -> int:
    """Return how many tokens an answer says that it has; 0 where it does not."""
    found = COUNTED.findall(tail)
    return int(found[-1]) if found else 0


def figures(rounds: Sequence[Round]) -> Figures:
    """Return the figures of one way at one load."""
    asked = [one for each in rounds for one in each.seen]
    done = [_answered(each.seen) for each in rounds]
    seen = [one for each in done for one in each]
    first = [one.first_token_s * 1e3 for one in seen if one.tokens]
    return Figures(
        answers=len(seen),
        failed=len(asked) - len(seen),
        ttft_p50=percentile(first, 0.5),
        ttft_p99=percentile(first, 0.99),
        total_p50=_total(seen, 0.5),
        total_p99=_total(seen, 0.99),
        requests_per_s=statistics.median(len(each) / of.seconds for each, of in zip(done, rounds, strict=True)),
        tokens_per_s=statistics.median(
            sum(tokens_told(one.tail) for one in each) / of.seconds for each, of in zip(done, rounds, strict=True)
        ),
        cpu_ms=sum(each.cpu_s for each in rounds) * 1e3 / len(asked),
        by_round=[_total(each, 0.5) for each in done],
        cpu_by_round=[each.cpu_s * 1e3 / len(each.seen) for each in rounds],
    )


def table(ways: Mapping[str, Figures]) -> str:
    """Return one load as text: a line for each way, the first one being that to which the others are compared."""
    base = next(iter(ways.values()))
    lines = [HEAD, *(_line(name, one, base) for name, one in ways.items())]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def added(parts_mb: Sequence[float]) -> str:
    """Return a sum with what it is made of, the largest first."""
    return f"{sum(parts_mb):.0f} MB ({' + '.join(f'{part:.0f}' for part in sorted(parts_mb, reverse=True))})"


def _line(name: str, one: Figures, base: Figures) -> tuple[str, ...]:
    compared = one is not base
    return (
        name,
        str(one.answers),
        str(one.failed),
        *(
            _time(value, than if compared else None)
            for value, than in (
                (one.ttft_p50, base.ttft_p50),
                (one.ttft_p99, base.ttft_p99),
                (one.total_p50, base.total_p50),
                (one.total_p99, base.total_p99),
            )
        ),
        *(
            f"{value:,.0f}" + (f" ({value / than:.0%})" if compared and than else "")
            for value, than in (
                (one.requests_per_s, base.requests_per_s),
                (one.tokens_per_s, base.tokens_per_s),
            )
        ),
        f"{one.cpu_ms:.1f}" if compared else "-",
        " ".join(_time(value, None) for value in one.by_round),
        " ".join(_time(value, None) for value in one.cpu_by_round) if compared else "-",
    )


def _time(value: float | None, than: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" + ("" if than is None else f" ({value - than:+.1f})")


def _answered(seen: Sequence[Streamed]) -> list[Streamed]:
    return [one for one in seen if one.ended]


def _total(seen: Sequence[Streamed], share: float) -> float | None:
    return percentile([one.total_s * 1e3 for one in seen], share)
