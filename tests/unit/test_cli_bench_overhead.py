"""Both ways beside each other: what is compared, and what cannot be."""

from __future__ import annotations

import pytest

from llorch.cli.bench_figures import Percentiles, Sample
from llorch.cli.bench_overhead import compared


def sample(ttft_s: float, *, tokens: int = 10, ended_s: float = 1.0) -> Sample:
    """Return a job that began at 0."""
    return Sample(began_s=0.0, ended_s=ended_s, first_token_s=ttft_s, last_token_s=ended_s, tokens_out=tokens)


def test_a_percentile_of_one_way_is_compared_with_the_same_of_the_other() -> None:
    direct = [[sample(0.010)], [sample(0.030)], [sample(0.020)]]
    through = [[sample(0.014)], [sample(0.024)], [sample(0.050)]]

    found = compared(direct, through, in_flight=1)

    assert (found.rounds, found.samples, found.tokens_out) == (3, 3, 60)
    assert found.direct.ttft_ms == Percentiles(p50=20.0, p95=30.0, p99=30.0)
    assert found.through.ttft_ms == Percentiles(p50=24.0, p95=50.0, p99=50.0)
    assert found.added_ttft_ms == Percentiles(p50=4.0, p95=20.0, p99=20.0)


def test_the_ratio_is_that_of_the_median_round_so_that_a_slow_moment_does_not_decide() -> None:
    direct = [[sample(0.1), sample(0.1)]] * 3
    through = [[sample(0.1, ended_s=end), sample(0.1, ended_s=end)] for end in (1.25, 1.0, 100.0)]

    found = compared(direct, through, in_flight=2)

    assert found.tokens_ratio == pytest.approx(0.8)
    assert (found.direct.tokens_per_s, found.through.tokens_per_s) == (20.0, 16.0)


def test_jobs_without_a_token_have_nothing_to_compare() -> None:
    silent = [[Sample(began_s=0.0, ended_s=1.0)]]

    found = compared(silent, silent, in_flight=1)

    assert (found.tokens_ratio, found.added_ttft_ms) == (None, Percentiles(p50=None, p95=None, p99=None))
