"""What `llorch bench` measured, as tables for a person. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from llorch.cli import bench_model, bench_overhead, bench_system
from llorch.cli.bench_figures import Level, Percentiles
from llorch.cli.bench_machine import described
from llorch.cli.figures import duration, size

Facts = Sequence[tuple[str, str]]
DASH = "–"
LEVELS = (
    "IN FLIGHT",
    "JOBS",
    "JOBS/S",
    "TOKENS/S",
    "PER STREAM",
    "TTFT P50/P95/P99",
    "TPOT P50/P95",
    "QUEUE P50/P95/P99",
)
ROWS = ("MODEL", "SIZE", "BACKEND", "TEST", "STREAMS", "TOKENS/S")
PAIRS = ("IN FLIGHT", "PAIRS", "TTFT DIRECT P50/P99", "TTFT THROUGH P50/P99", "ADDED P50/P99", "TOKENS/S", "RATIO")


def system_facts(found: bench_system.Report) -> Facts:
    """Return what stands above the table of `bench system`."""
    facts = [
        ("model", f"{found.model}, at most {found.max_tokens} tokens a job"),
        ("system", f"llorch {found.orchestrator} at {found.url}"),
        ("load from", described(found.machine)),
    ]
    if found.same_machine:
        facts.append(("", "the orchestrator runs on this machine, too, and shares its cores with the load"))
    if found.warm_up is not None:
        facts.append(("first job", warm_up(found.warm_up)))
    facts.append(("samples", f"{found.jobs} jobs for each number in flight, more where that is more; times in ms"))
    return facts


def warm_up(found: bench_system.WarmUp) -> str:
    """Say how the first job went, which is in no table."""
    first = DASH if found.ttft_ms is None else duration(found.ttft_ms)
    if found.load_ms is None:
        return f"warm: a worker was there; first token after {first}"
    return f"cold: a worker was ready after {duration(found.load_ms)}, first token after {first}"


def level_row(found: Level) -> tuple[str, ...]:
    """Return one line of the table of `bench system`."""
    failed = "".join(f", {count} {code}" for code, count in found.errors.items())
    return (
        str(found.in_flight),
        f"{found.completed}{failed}",
        figure(found.jobs_per_s),
        figure(found.tokens_per_s),
        figure(found.stream_tokens_per_s),
        times(found.ttft_ms),
        two(found.tpot_ms.p50, found.tpot_ms.p95),
        times(found.queue_ms),
    )


def model_facts(found: bench_model.Report) -> Facts:
    """Return what stands above the table of `bench model`."""
    repeats = max((row.repeats for row in found.rows), default=0)
    return [
        ("model", found.model),
        ("worker", f"{found.engine} on {found.backend}, {found.slots} slots of {found.context_length} tokens"),
        ("machine", f"{described(found.machine)}; the load shares it"),
        ("loaded in", duration(found.load_ms)),
        ("memory", f"{size(found.memory_bytes)} by its own account, {size(found.process_bytes)} held by its processes"),
        ("samples", f"{repeats} for each line: mean ± deviation"),
    ]


def model_row(found: bench_model.Report, row: bench_model.Row) -> tuple[str, ...]:
    """Return one line of the table of `bench model`."""
    spread = "" if row.deviation is None else f" ± {figure(row.deviation)}"
    return (
        f"{found.architecture} {found.quantization}",
        size(found.size_bytes),
        found.backend,
        f"{row.test}{row.tokens:.0f}",
        str(row.streams),
        f"{figure(row.tokens_per_s)}{spread}",
    )


def overhead_facts(found: bench_overhead.Report) -> Facts:
    """Return what stands above the table of `bench overhead`."""
    took = found.submissions
    return [
        ("model", f"{found.model}, at most {found.max_tokens} tokens a job"),
        ("machine", described(found.machine)),
        ("", "load, orchestrator, pool and workers share it; times in ms"),
        ("submissions", f"{figure(took.jobs_per_s)}/s on disk ({took.jobs} in {took.seconds:.1f} s)"),
        ("", f"{took.connections} connections, p50/p99 {two(took.latency_ms.p50, took.latency_ms.p99)} ms"),
        ("orchestrator", f"{size(found.orchestrator_bytes)} at the end"),
    ]


def pair_row(found: bench_overhead.Pair) -> tuple[str, ...]:
    """Return one line of the table of `bench overhead`."""
    direct, through, added = found.direct.ttft_ms, found.through.ttft_ms, found.added_ttft_ms
    return (
        str(found.in_flight),
        str(found.samples),
        two(direct.p50, direct.p99),
        two(through.p50, through.p99),
        two(added.p50, added.p99),
        f"{figure(found.through.tokens_per_s)} / {figure(found.direct.tokens_per_s)}",
        DASH if found.tokens_ratio is None else f"{found.tokens_ratio:.1%}",
    )


def figure(value: float | None) -> str:
    """Return a number in about four figures: `0.42`, `12.3`, `4,484`, or a dash."""
    if value is None:
        return DASH
    size_of = abs(value)
    return f"{value:,.0f}" if size_of >= 1000 else f"{value:.1f}" if size_of >= 10 else f"{value:.2f}"


def times(found: Percentiles) -> str:
    """Return all three of them."""
    return " / ".join(figure(value) for value in (found.p50, found.p95, found.p99))


def two(one: float | None, other: float | None) -> str:
    """Return two of them."""
    return f"{figure(one)} / {figure(other)}"
