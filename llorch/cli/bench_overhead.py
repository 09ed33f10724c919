"""`llorch bench overhead`: what the orchestrator costs, beside a worker that is asked directly.

Strategy: an orchestrator, a pool with its worker, and a second worker like it that belongs to nobody, all here in a
temporary folder. Each request goes one way and then the other, and the ways take turns at being first, so that a
machine that gets slower or faster meanwhile does that to both. The worker that is not asked does nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec
from msgspec.structs import replace

from llorch.cli import bench_load as load
from llorch.cli.bench_figures import Percentiles, Sample, difference, percentiles, rate, span_s
from llorch.cli.bench_machine import Machine, this_machine
from llorch.cli.bench_model import execute
from llorch.cli.bench_processes import POLL_S, role, worker
from llorch.cli.bench_submissions import Submissions, submit_for
from llorch.cli.output import Status
from llorch.client import Client
from llorch.settings import Worker
from llorch.wire.pools import PoolList
from llorch.wire.tasks import MAX_TIMEOUT_MS, SubmitTask

CONNECTIONS = 64
ORPHAN_S = 10
"""How long a worker goes on whose pool was killed along with this command."""
PROMPT = "Write a haiku about rain"


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """What one way of asking gave; `tokens_per_s` is the median round's, of all its streams."""

    ttft_ms: Percentiles
    tokens_per_s: float | None


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Both ways with one number of jobs in flight.

    `rounds` of `in_flight` requests each way. `added_ttft_ms` is by how much a percentile of the one way is more than
    the same of the other; `tokens_ratio` the median over the rounds of tokens a second through the orchestrator to
    those of the worker alone.
    """

    in_flight: int
    rounds: int
    samples: int
    tokens_out: int
    direct: Way
    through: Way
    added_ttft_ms: Percentiles
    tokens_ratio: float | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `bench overhead` found. Load, orchestrator, pool and workers share `machine`; that is always so."""

    mode: str
    machine: Machine
    same_machine: bool
    model: str
    max_tokens: int
    pairs: list[Pair]
    submissions: Submissions
    orchestrator_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: a model, how many tokens a job, how many rounds for each number in flight, for how long."""

    model: str
    path: Path
    max_tokens: int
    rounds: int
    in_flight: Sequence[int]
    submit_s: float


async def measure(plan: Plan, folder: Path, *, options: Worker) -> Report:
    """Start everything in *folder*, measure, end everything.

    Raises:
        EngineFailed: Something did not start, or a job failed.
    """
    machine = this_machine()
    line = Status()
    try:
        line.show("submitting …")
        submissions = await _submissions(plan, folder)
        line.show("starting orchestrator, pool and workers …")
        pairs, orchestrator_bytes = await _pairs(plan, folder, options, line)
    finally:
        line.close()
    return Report(
        mode="overhead",
        machine=machine,
        same_machine=True,
        model=plan.model,
        max_tokens=plan.max_tokens,
        pairs=pairs,
        submissions=submissions,
        orchestrator_bytes=orchestrator_bytes,
    )


def compared(direct: Sequence[Sequence[Sample]], through: Sequence[Sequence[Sample]], *, in_flight: int) -> Pair:
    """Return the figures of rounds that were run both ways. Pure."""
    ways = [
        Way(
            ttft_ms=percentiles([sample.ttft_ms for samples in rounds for sample in samples]),
            tokens_per_s=_median([_rate(samples) for samples in rounds]),
        )
        for rounds in (direct, through)
    ]
    ratios = [
        (theirs / ours) if theirs and ours else None
        for ours, theirs in zip(map(_rate, direct), map(_rate, through), strict=True)
    ]
    bare, whole = ways[0].ttft_ms, ways[1].ttft_ms
    return Pair(
        in_flight=in_flight,
        rounds=len(direct),
        samples=sum(map(len, direct)),
        tokens_out=sum(sample.tokens_out for rounds in (direct, through) for samples in rounds for sample in samples),
        direct=ways[0],
        through=ways[1],
        added_ttft_ms=Percentiles(
            p50=difference(whole.p50, bare.p50),
            p95=difference(whole.p95, bare.p95),
            p99=difference(whole.p99, bare.p99),
        ),
        tokens_ratio=_median(ratios),
    )


def _rate(samples: Sequence[Sample]) -> float | None:
    return rate(sum(sample.tokens_out for sample in samples), span_s(samples))


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(median(known), 4) if known else None


async def _submissions(plan: Plan, folder: Path) -> Submissions:
    arguments = ("orchestrator", "--data-dir", str(folder / "submitted"))
    unbounded = {"LLORCH_ORCHESTRATOR_QUEUE_CAPACITY": "-1"}
    async with role(arguments, folder, env=unbounded) as started:
        return await submit_for(started.client.url, plan.model, connections=CONNECTIONS, seconds=plan.submit_s)


async def _pairs(plan: Plan, folder: Path, options: Worker, line: Status) -> tuple[list[Pair], int]:
    options = replace(options, slots=max(options.slots, *plan.in_flight))
    same = {
        f"LLORCH_WORKER_{name.upper()}": str(getattr(options, name)) for name in ("slots", "ctx", "threads", "batch")
    }
    soon = {"LLORCH_POOL_ORPHAN_S": str(ORPHAN_S)}
    async with AsyncExitStack() as stack:
        whole = await stack.enter_async_context(role(("orchestrator", "--data-dir", str(folder / "o")), folder))
        url = whole.client.url
        pool = ("pool", "--data-dir", str(folder / "p"), "--pool-id", "bench", "--orchestrator", url)
        await stack.enter_async_context(role(pool, folder, env={**same, **soon}))
        bare, _ = await stack.enter_async_context(worker(plan.path, folder, options=options))
        while True:
            if (await whole.client.send("GET", "/v2/pools", PoolList)).pools:
                break
            await asyncio.sleep(POLL_S)
        ways = Ways(plan, direct=bare.client, through=whole.client)
        await ways.directly(1)
        await ways.through(1)
        pairs = []
        for in_flight in plan.in_flight:
            direct: list[list[Sample]] = []
            through: list[list[Sample]] = []
            for number in range(plan.rounds):
                line.show(f"{in_flight} in flight: {number + 1} of {plan.rounds} rounds …")
                if number % 2:
                    through.append(await ways.through(in_flight))
                direct.append(await ways.directly(in_flight))
                if not number % 2:
                    through.append(await ways.through(in_flight))
            pairs.append(compared(direct, through, in_flight=in_flight))
        return pairs, whole.memory_bytes()


class Ways:
    """The same requests, both ways."""

    def __init__(self, plan: Plan, *, direct: Client, through: Client) -> None:
        self._plan = plan
        self._direct = direct
        self._through = through

    async def directly(self, in_flight: int) -> list[Sample]:
        """Ask the worker that belongs to nobody."""

        async def job(number: int) -> Sample:
            body = execute(f"{PROMPT} {number}", self._plan.max_tokens)
            return await load.read_job(self._direct, "/execute", body)

        return await self._round(job, in_flight)

    async def through(self, in_flight: int) -> list[Sample]:
        """Ask the orchestrator."""

        async def job(number: int) -> Sample:
            body = SubmitTask(
                model=self._plan.model,
                prompt=f"{PROMPT} {number}",
                max_tokens=self._plan.max_tokens,
                temperature=0,
                seed=0,
                timeout_ms=MAX_TIMEOUT_MS,
                on_disconnect="cancel",
            )
            return await load.read_job(self._through, "/v2/tasks", body)

        return await self._round(job, in_flight)

    async def _round(self, job: load.Measure, in_flight: int) -> list[Sample]:
        samples: list[Sample] = []
        await load.run(job, samples, jobs=in_flight, in_flight=in_flight)
        load.check(samples)
        return samples
