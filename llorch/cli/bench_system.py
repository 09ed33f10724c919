"""`llorch bench system`: one load after another against the orchestrator that runs, with more and more in flight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from llorch.cli import bench_load as load
from llorch.cli.bench_figures import Level, Sample, level
from llorch.cli.bench_machine import Machine, is_here, own_addresses, this_machine
from llorch.cli.output import Status, one_line
from llorch.cli.submit import JobFailed
from llorch.client import Client
from llorch.wire.meta import Version
from llorch.wire.tasks import MAX_TIMEOUT_MS, SubmitTask

NUMBER = "{n}"
"""Stands in a prompt for the job's number: no two jobs then share the beginning that an engine could remember."""


class WarmUp(msgspec.Struct, frozen=True, kw_only=True):
    """The first job, which is in no other figure. `cold`: a worker was started for it, ready after `load_ms`."""

    cold: bool
    load_ms: float | None
    ttft_ms: float | None
    tokens_out: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `bench system` found. `same_machine`: load and orchestrator shared `machine`, which made the load."""

    mode: str
    machine: Machine
    same_machine: bool
    url: str
    orchestrator: str
    model: str
    max_tokens: int
    jobs: int
    warm_up: WarmUp | None
    levels: list[Level]
    interrupted: bool


@dataclass(slots=True)
class Run:
    """One measurement, which can be cut short at any moment and still tells what it has; written by `measure` alone."""

    client: Client
    model: str
    prompt: str
    max_tokens: int
    jobs: int
    in_flight: Sequence[int]
    machine: Machine = field(default_factory=this_machine)
    version: str = ""
    warm_up: WarmUp | None = None
    seen: list[tuple[int, list[Sample]]] = field(default_factory=list)
    _number: int = 0

    async def measure(self, line: Status) -> None:
        """Measure everything, saying on *line* how far it is.

        Raises:
            RemoteError: The orchestrator refuses to talk.
            JobFailed: The first job failed, and so would the others.
        """
        self.version = (await self.client.send("GET", "/v2/meta/version", Version)).version
        self.warm_up = await self._warm_up(line)
        for in_flight in self.in_flight:
            jobs = max(self.jobs, in_flight)
            samples: list[Sample] = []
            self.seen.append((in_flight, samples))

            async def job(number: int, in_flight: int = in_flight, jobs: int = jobs) -> Sample:
                line.show(f"{in_flight} in flight: job {number + 1} of {jobs} …")
                return await self._job()

            await load.run(job, samples, jobs=jobs, in_flight=in_flight)

    def report(self, *, interrupted: bool = False) -> Report:
        """Return what is known so far."""
        return Report(
            mode="system",
            machine=self.machine,
            same_machine=is_here(self.client.url, own_addresses()),
            url=self.client.url,
            orchestrator=self.version,
            model=self.model,
            max_tokens=self.max_tokens,
            jobs=self.jobs,
            warm_up=self.warm_up,
            levels=[level(samples, in_flight=in_flight) for in_flight, samples in self.seen if samples],
            interrupted=interrupted,
        )

    async def _warm_up(self, line: Status) -> WarmUp:
        kinds: dict[str, float] = {}

        def heard(kind: str, after_s: float) -> None:
            kinds.setdefault(kind, after_s)
            line.show(f"first job: {kind} …")

        sample = await self._job(heard)
        if sample.code:
            raise JobFailed(f"the first job failed: {sample.code}: {one_line(sample.reason)}")
        cold = "loading" in kinds
        return WarmUp(
            cold=cold,
            load_ms=round(kinds["started"] * 1e3, 1) if cold else None,
            ttft_ms=None if sample.ttft_ms is None else round(sample.ttft_ms, 1),
            tokens_out=sample.tokens_out,
        )

    async def _job(self, heard: Callable[[str, float], object] | None = None) -> Sample:
        self._number += 1
        task = SubmitTask(
            model=self.model,
            prompt=self.prompt.replace(NUMBER, str(self._number)),
            max_tokens=self.max_tokens,
            temperature=0,
            seed=self._number,
            timeout_ms=MAX_TIMEOUT_MS,
            on_disconnect="cancel",
        )
        return await load.read_job(self.client, "/v2/tasks", task, heard=heard)
