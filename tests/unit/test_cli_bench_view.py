"""The tables of `llorch bench`: every column has its value, and what was not measured is a dash."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llorch.cli import bench_model, bench_overhead, bench_system
from llorch.cli import bench_view as view
from llorch.cli.bench_figures import Percentiles, Sample, level
from llorch.cli.bench_machine import Machine
from llorch.cli.bench_submissions import Submissions

MACHINE = Machine(
    cpu="Toaster 9000",
    cores=2,
    memory_bytes=2**34,
    system="Linux x86_64",
    python="3.11.7",
    llorch="0.1.0",
    load_average=0.25,
)
THREE = Percentiles(p50=1.5, p95=20.0, p99=3000.0)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.0, "0.00"),
        (0.417, "0.42"),
        (-1.5, "-1.50"),
        (12.34, "12.3"),
        (999.94, "999.9"),
        (4484.4, "4,484"),
    ],
)
def test_a_figure_is_as_long_as_it_is_exact(value: float | None, shown: str) -> None:
    assert view.figure(value) == shown


def test_a_level_has_a_value_in_every_column_and_tells_its_failures() -> None:
    done = Sample(began_s=0, ended_s=1, first_token_s=0.2, last_token_s=1, tokens_in=3, tokens_out=9, queue_ms=7)
    failed = Sample(began_s=0, ended_s=0.5, code="TIMEOUT")

    row = view.level_row(level([done, failed], in_flight=4))

    assert dict(zip(view.LEVELS, row, strict=True)) == {
        "IN FLIGHT": "4",
        "JOBS": "1, 1 TIMEOUT",
        "JOBS/S": "1.00",
        "TOKENS/S": "9.00",
        "PER STREAM": "10.0",
        "TTFT P50/P95/P99": "200.0 / 200.0 / 200.0",
        "TPOT P50/P95": "100.0 / 100.0",
        "QUEUE P50/P95/P99": "7.00 / 7.00 / 7.00",
    }


def test_a_level_in_which_everything_failed_is_dashes() -> None:
    row = view.level_row(level([Sample(began_s=0, ended_s=0.5, code="TIMEOUT")], in_flight=1))

    assert row == ("1", "0, 1 TIMEOUT", "–", "–", "–", "– / – / –", "– / –", "– / – / –")


def test_the_system_is_named_with_the_machine_the_samples_and_what_they_share() -> None:
    report = bench_system.Report(
        mode="system",
        machine=MACHINE,
        same_machine=True,
        url="http://127.0.0.1:8080",
        orchestrator="0.1.0",
        model="haiku",
        max_tokens=64,
        jobs=20,
        warm_up=bench_system.WarmUp(cold=True, load_ms=1234.0, ttft_ms=1300.0, tokens_out=9),
        levels=[],
        interrupted=False,
    )

    here = " ".join(value for _, value in view.system_facts(report))
    there = " ".join(value for _, value in view.system_facts(replace(report, same_machine=False, warm_up=None)))

    assert "2 cores of Toaster 9000, 16.0 GiB, Linux x86_64, Python 3.11.7, llorch 0.1.0" in here
    assert "20 jobs for each number in flight" in here
    assert "cold: a worker was ready after 1.2 s, first token after 1.3 s" in here
    assert "shares its cores with the load" in here
    assert "shares" not in there
    assert "cold" not in there


def test_a_warm_start_is_told_from_a_cold_one() -> None:
    warm = bench_system.WarmUp(cold=False, load_ms=None, ttft_ms=20.0, tokens_out=9)

    assert view.warm_up(warm) == "warm: a worker was there; first token after 20 ms"
    assert view.warm_up(replace(warm, ttft_ms=None)) == "warm: a worker was there; first token after –"


def test_a_model_is_shown_as_llama_bench_does() -> None:
    row = bench_model.Row(test="pp", streams=4, repeats=5, tokens=511.6, tokens_per_s=2786.0, deviation=27.5)
    report = bench_model.Report(
        mode="model",
        machine=MACHINE,
        model="file:/m.gguf",
        architecture="llama",
        quantization="Q8_0",
        size_bytes=2**21,
        parameters=1_400_000,
        engine="llamacpp",
        backend="cpu",
        slots=4,
        context_length=512,
        load_ms=504,
        memory_bytes=2**25,
        process_bytes=2**26,
        rows=[row],
    )

    assert view.model_row(report, row) == ("llama Q8_0", "2.0 MiB", "cpu", "pp512", "4", "2,786 ± 27.5")
    assert view.model_row(report, replace(row, deviation=None, tokens_per_s=None))[-1] == "–"
    assert dict(view.model_facts(report)) == {
        "model": "file:/m.gguf",
        "worker": "llamacpp on cpu, 4 slots of 512 tokens",
        "machine": "2 cores of Toaster 9000, 16.0 GiB, Linux x86_64, Python 3.11.7, llorch 0.1.0, "
        "load average 0.2 before; the load shares it",
        "loaded in": "504 ms",
        "memory": "32.0 MiB by its own account, 64.0 MiB held by its processes",
        "samples": "5 for each line: mean ± deviation",
    }


def test_the_overhead_is_shown_with_both_ways_and_their_difference() -> None:
    pair = bench_overhead.Pair(
        in_flight=4,
        rounds=5,
        samples=20,
        tokens_out=100,
        direct=bench_overhead.Way(ttft_ms=THREE, tokens_per_s=50.0),
        through=bench_overhead.Way(ttft_ms=THREE, tokens_per_s=48.0),
        added_ttft_ms=Percentiles(p50=1.4, p95=2.0, p99=3.0),
        tokens_ratio=0.96,
    )
    report = bench_overhead.Report(
        mode="overhead",
        machine=MACHINE,
        same_machine=True,
        model="file:/builtin/haiku.gguf",
        max_tokens=32,
        pairs=[pair],
        submissions=Submissions(connections=64, seconds=3.0, jobs=9000, jobs_per_s=3000.0, latency_ms=THREE),
        orchestrator_bytes=2**25,
    )

    assert view.pair_row(pair) == ("4", "20", "1.50 / 3,000", "1.50 / 3,000", "1.40 / 3.00", "48.0 / 50.0", "96.0%")
    assert ("submissions", "3,000/s on disk (9000 in 3.0 s)") in view.overhead_facts(report)
