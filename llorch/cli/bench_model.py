"""`llorch bench model`: how fast a worker alone reads prompts and writes tokens, started here for this."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from llorch import models
from llorch.cli import bench_load as load
from llorch.cli.bench_figures import Sample, generation_rate, mean_and_deviation, prompt_rate
from llorch.cli.bench_machine import Machine, this_machine
from llorch.cli.bench_processes import Started, worker
from llorch.cli.output import Status, note
from llorch.client import Client
from llorch.config import data_dir, expanded
from llorch.errors import ModelNotFound
from llorch.settings import Settings, Worker
from llorch.wire.workers import CountTokens, Execute, TokenCount
from roles.pool.app import models_dir
from roles.pool.model_cache.catalogue import Catalogue, ModelFile

STORY = "Once upon a time"
ROOM_TOKENS = 16
"""Of a context, left for what stands before a prompt and for a little more of it in another numbering."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One test: `pp` reads prompts, `tg` writes tokens, so many streams at once.

    `tokens` is the mean of what one stream had, which can be less than was asked for. `tokens_per_s` is of all streams,
    the mean of `repeats`: those in which enough came to tell; null where that is none.
    """

    test: str
    streams: int
    repeats: int
    tokens: float
    tokens_per_s: float | None
    deviation: float | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `bench model` found. `memory_bytes` is what the worker says, `process_bytes` what its processes hold."""

    mode: str
    machine: Machine
    model: str
    architecture: str
    quantization: str
    size_bytes: int
    parameters: int | None
    engine: str
    backend: str
    slots: int
    context_length: int
    load_ms: int
    memory_bytes: int
    process_bytes: int
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: prompt tokens and new tokens of one stream, and how often."""

    prompt_tokens: int
    new_tokens: int
    repeats: int


def model_file(name: str, settings: Settings) -> ModelFile:
    """Return the model that *name* (a file, an alias or a reference) stands for on this host.

    Raises:
        ModelNotFound: It is not here, or there is no such name.
        ModelInvalid: It is no whole GGUF file.
    """
    catalogue = Catalogue(models_dir(settings.pool.models_dir, data_dir(settings.pool, "pool")), settings.aliases)
    path = expanded(name)
    if not name.startswith(("hf:", "file:")) and ("/" in name or path.suffix == ".gguf"):
        return catalogue.inspect(f"file:{path.absolute()}")
    wanted = models.resolve(name, settings.aliases)
    if wanted.startswith("file:"):
        return catalogue.inspect(wanted)
    found = [one for one in catalogue.models() if models.stands_for(wanted, one.model_ref)]
    if not found:
        raise ModelNotFound(f"{name} is not on this host; llorch pool models download {name} fetches it")
    return catalogue.inspect(max(found, key=lambda one: one.added_ms).model_ref)


async def measure(model: ModelFile, plan: Plan, folder: Path, *, options: Worker, more: Sequence[str]) -> Report:
    """Start a worker with *options* and the flags *more*, measure it, end it.

    Raises:
        EngineFailed: It did not start, or a job failed.
    """
    machine = this_machine()
    line = Status()
    line.show("loading the model …")
    try:
        async with worker(model.path, folder, options=options, more=more) as (started, health):
            bench = _Bench(started, plan, health.context_length, line)
            rows = await bench.rows(sorted({1, health.slots}))
            return Report(
                mode="model",
                machine=machine,
                model=model.ref,
                architecture=model.metadata.architecture,
                quantization=model.metadata.quantization,
                size_bytes=model.size_bytes,
                parameters=model.metadata.parameters,
                engine=health.engine,
                backend=health.backend,
                slots=health.slots,
                context_length=health.context_length,
                load_ms=health.load_ms,
                memory_bytes=health.memory_bytes,
                process_bytes=started.memory_bytes(),
                rows=rows,
            )
    finally:
        line.close()


class _Bench:
    """The tests of one worker; owns the numbering that makes every prompt another one."""

    def __init__(self, started: Started, plan: Plan, context: int, line: Status) -> None:
        self._client = started.client
        self._plan = plan
        self._context = context
        self._line = line
        self._number = 100

    async def rows(self, streams: Sequence[int]) -> list[Row]:
        """Run all tests."""
        most = max(1, self._context - ROOM_TOKENS)
        prompt_tokens, new_tokens = min(self._plan.prompt_tokens, most), min(self._plan.new_tokens, most)
        if (prompt_tokens, new_tokens) != (self._plan.prompt_tokens, self._plan.new_tokens):
            note(f"llorch: the context is {self._context} tokens: measured with {prompt_tokens} and {new_tokens}")
        words = await longest_prompt(self._client, prompt_tokens)
        await self._together(1, STORY, 2)
        rows = []
        for count in streams:
            rows.append(await self._row("pp", count, " word" * words, 1))
            rows.append(await self._row("tg", count, f". {STORY}", new_tokens))
        return rows

    async def _row(self, test: str, streams: int, text: str, new_tokens: int) -> Row:
        rates: list[float] = []
        counted: list[int] = []
        for repeat in range(self._plan.repeats):
            self._line.show(f"{test}, {streams} at once: {repeat + 1} of {self._plan.repeats} …")
            samples = await self._together(streams, text, new_tokens)
            found = prompt_rate(samples) if test == "pp" else generation_rate(samples)
            counted += [sample.tokens_in if test == "pp" else sample.tokens_out for sample in samples]
            rates += [] if found is None else [found]
        mean, deviation = mean_and_deviation(rates)
        tokens = round(sum(counted) / len(counted), 1)
        return Row(
            test=test, streams=streams, repeats=len(rates), tokens=tokens, tokens_per_s=mean, deviation=deviation
        )

    async def _together(self, streams: int, text: str, new_tokens: int) -> list[Sample]:
        samples: list[Sample] = []

        async def job(_number: int) -> Sample:
            self._number += 1
            return await load.read_job(self._client, "/execute", execute(f"{self._number}{text}", new_tokens))

        await load.run(job, samples, jobs=streams, in_flight=streams)
        load.check(samples)
        return samples


def execute(prompt: str, max_tokens: int) -> Execute:
    """Return a request to a worker, of a job of its own."""
    return Execute(job_id=str(uuid.uuid4()), prompt=prompt, max_tokens=max_tokens, temperature=0)


async def longest_prompt(client: Client, tokens: int) -> int:
    """Return how many words make a prompt of at most *tokens* tokens, at least one."""
    least, most = 1, max(1, tokens)
    while least < most:
        middle = (least + most + 1) // 2
        body = CountTokens(prompt="100" + " word" * middle)
        if (await client.send("POST", "/count", TokenCount, body=body)).tokens <= tokens:
            least = middle
        else:
            most = middle - 1
    return least


def flags(given: Mapping[str, str | None]) -> list[str]:
    """Return the options of `serve worker` that were given. Pure."""
    return [word for name, value in given.items() if value is not None for word in (f"--{name}", value)]
