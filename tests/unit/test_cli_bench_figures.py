"""Percentiles and rates, from samples whose figures can be worked out by hand; and from none at all."""

from __future__ import annotations

from random import Random

import pytest

from llorch.cli import bench_figures as figures
from llorch.cli.bench_figures import Percentiles, Sample

NOTHING = Percentiles(p50=None, p95=None, p99=None)


def sample(
    began_s: float, *, ttft_s: float = 0.1, tokens: int = 11, token_s: float = 0.01, queue_ms: int = 0
) -> Sample:
    """Return a job that went well."""
    first_s = began_s + ttft_s
    last_s = first_s + token_s * (tokens - 1)
    return Sample(
        began_s=began_s,
        ended_s=last_s,
        first_token_s=first_s,
        last_token_s=last_s,
        tokens_in=5,
        tokens_out=tokens,
        queue_ms=queue_ms,
    )


@pytest.mark.parametrize(
    ("values", "share", "answer"),
    [
        ([], 0.5, None),
        ([7.0], 0.5, 7.0),
        ([7.0], 0.99, 7.0),
        ([4.0, 1.0, 3.0, 2.0], 0.5, 2.0),
        ([4.0, 1.0, 3.0, 2.0], 0.99, 4.0),
        ([4.0, 1.0, 3.0, 2.0], 0.0, 1.0),
        ([float(n) for n in range(1, 101)], 0.95, 95.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
    ],
)
def test_a_percentile_is_the_nearest_rank(values: list[float], share: float, answer: float | None) -> None:
    assert figures.percentile(values, share) == answer


def test_a_percentile_is_always_a_value_that_was_measured_and_the_share_does_not_exceed_it() -> None:
    random = Random(11)
    for _ in range(300):
        values = [random.random() for _ in range(random.randint(1, 40))]
        share = random.random()

        found = figures.percentile(values, share)

        assert found in values
        assert sum(value <= found for value in values) >= share * len(values)


def test_a_level_counts_what_was_done_in_the_time_from_the_first_request_to_the_last_end() -> None:
    samples = [sample(10.0, queue_ms=4), sample(10.1, ttft_s=0.3, queue_ms=8)]

    found = figures.level(samples, in_flight=2)

    assert (found.in_flight, found.jobs, found.completed, found.errors) == (2, 2, 2, {})
    assert found.seconds == pytest.approx(0.5)
    assert (found.tokens_in, found.tokens_out) == (10, 22)
    assert found.jobs_per_s == pytest.approx(4)
    assert found.tokens_per_s == pytest.approx(44)
    assert found.stream_tokens_per_s == pytest.approx(100)
    assert found.ttft_ms == Percentiles(p50=100.0, p95=300.0, p99=300.0)
    assert found.tpot_ms == Percentiles(p50=10.0, p95=10.0, p99=10.0)
    assert found.queue_ms == Percentiles(p50=4, p95=8, p99=8)


def test_a_failed_job_is_counted_by_its_code_and_is_in_no_other_figure() -> None:
    failed = [Sample(began_s=10.0, ended_s=10.1, code=code) for code in ("TIMEOUT", "QUEUE_FULL", "TIMEOUT")]

    found = figures.level([sample(10.0), *failed], in_flight=4)

    assert (found.jobs, found.completed, found.errors) == (4, 1, {"QUEUE_FULL": 1, "TIMEOUT": 2})
    assert found.tokens_out == 11
    assert found.ttft_ms.p99 == 100.0


def test_jobs_that_all_failed_or_were_silent_have_no_rates() -> None:
    failed = figures.level([Sample(began_s=1.0, ended_s=2.0, code="TIMEOUT")], in_flight=1)
    silent = figures.level([Sample(began_s=1.0, ended_s=2.0, tokens_in=3)], in_flight=1)

    assert (failed.jobs_per_s, failed.tokens_per_s, failed.stream_tokens_per_s) == (None, None, None)
    assert (failed.ttft_ms, failed.tpot_ms, failed.queue_ms) == (NOTHING, NOTHING, NOTHING)
    assert (silent.completed, silent.jobs_per_s, silent.tokens_per_s, silent.ttft_ms) == (1, 1.0, None, NOTHING)


def test_one_token_has_no_time_for_each_token_after_it() -> None:
    assert sample(0.0, tokens=1).tpot_ms is None
    assert sample(0.0, tokens=2, token_s=0.02).tpot_ms == pytest.approx(20)


def test_prompts_are_read_when_the_last_stream_has_its_first_token() -> None:
    assert figures.prompt_rate([sample(0.0, ttft_s=0.1), sample(0.0, ttft_s=0.5)]) == 20.0
    assert figures.prompt_rate([sample(0.0), Sample(began_s=0.0, ended_s=1.0, tokens_in=5)]) is None
    assert figures.prompt_rate([]) is None


def test_generation_is_counted_from_the_first_token_of_all_and_without_it() -> None:
    assert figures.generation_rate([sample(0.0)]) == pytest.approx(100)
    assert figures.generation_rate([sample(0.0), sample(0.0)]) == pytest.approx(210)
    assert figures.generation_rate([sample(0.0, tokens=1)]) is None
    assert figures.generation_rate([Sample(began_s=0.0, ended_s=1.0)]) is None


def test_a_deviation_needs_two_values() -> None:
    assert figures.mean_and_deviation([]) == (None, None)
    assert figures.mean_and_deviation([3.0]) == (3.0, None)
    assert figures.mean_and_deviation([1.0, 3.0]) == (2.0, 1.414)


def test_what_is_unknown_cannot_be_compared() -> None:
    assert figures.difference(3.5, 1.25) == 2.25
    assert figures.difference(None, 1.0) is None
    assert figures.difference(1.0, None) is None


def test_numbers_in_flight_are_read_as_they_are_written() -> None:
    assert figures.counts("1") == [1]
    assert figures.counts("16, 4,1") == [16, 4, 1]


@pytest.mark.parametrize("text", ["", "0", "1,", "-1", "1025", "x", "1;2", "²"])
def test_what_is_no_number_of_jobs_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected numbers from 1 to 1024"):
        figures.counts(text)
