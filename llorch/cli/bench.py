"""`llorch bench`: measures a running system, a model, or what the orchestrator costs. Asserts nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer.core import TyperGroup

from llorch.cli.options import Config, Json, Url, group, orchestrator, settings

if TYPE_CHECKING:
    from llorch.cli.bench_system import Report

app = group("Measure the running system (the default), a model alone, or what the orchestrator costs.")

InFlight = Annotated[
    str, typer.Option("--in-flight", metavar="N,N", help="How many jobs at a time, one after another.")
]


class SystemByDefault(TyperGroup):
    """The group in which `llorch bench --model X` is `llorch bench system --model X`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer hides its
        """Put the word in where none stands."""
        own = {"--help", "-h"}
        if not ctx.resilient_parsing and (not args or (args[0].startswith("-") and args[0] not in own)):
            args = ["system", *args]
        return super().parse_args(ctx, args)


@app.command("system", epilog="Example: llorch bench system --model haiku --jobs 32 --in-flight 1,4,16")
def system(
    *,
    context: typer.Context,
    model: Annotated[str, typer.Option("--model", "-m", help="A model's alias or reference.")] = "haiku",
    prompt: Annotated[
        str, typer.Option("--prompt", "-p", help="What to ask; {n} in it becomes the job's number.")
    ] = "{n}: write a haiku about rain",
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, help="Jobs for each number in flight, never less than that.")
    ] = 20,
    in_flight: InFlight = "1,4",
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Most tokens of one answer.")] = 64,
    as_json: Json = False,
    url: Url = None,
    config: Config = None,
) -> int:
    """Put load on the running orchestrator: jobs/s, tokens/s, time to first token, time in queue.

    A first job, which is in no figure, has the model loaded. Ctrl-C cancels what runs and prints what was measured.
    The status is 1 when a job failed.
    """
    numbers = _counts(in_flight, context)
    found = settings(config)
    import asyncio
    from contextlib import closing

    from llorch.cli import bench_system, interrupts
    from llorch.cli.output import Status

    async def main() -> int:
        with closing(Status()) as line:
            async with orchestrator(found, url) as client:
                measured = bench_system.Run(client, model, prompt, max_tokens, jobs, numbers)
                try:
                    await measured.measure(line)
                except asyncio.CancelledError:
                    line.close()
                    _show_system(measured.report(interrupted=True), as_json=as_json)
                    raise
                line.close()
                report = measured.report()
                _show_system(report, as_json=as_json)
        return 1 if any(level.errors for level in report.levels) else 0

    return interrupts.run(main)


@app.command("model", epilog="Example: llorch bench model haiku --prompt-tokens 64 --new-tokens 32")
def model(
    *,
    name: Annotated[
        str, typer.Argument(metavar="MODEL", help="A file, or the alias or reference of one on this host.")
    ],
    prompt_tokens: Annotated[int, typer.Option("--prompt-tokens", min=1, help="Length of the prompts to read.")] = 512,
    new_tokens: Annotated[int, typer.Option("--new-tokens", min=2, help="Most tokens to write.")] = 128,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="How often each is measured.")] = 5,
    backend: Annotated[Literal["cpu", "cuda", "metal"], typer.Option("--backend", help="What computes.")] = "cpu",
    device: Annotated[str | None, typer.Option("--device", metavar="ID", help="Such as cuda:0 [the first].")] = None,
    slots: Annotated[int | None, typer.Option("--slots", min=1, help="Jobs at once [4].")] = None,
    ctx: Annotated[int | None, typer.Option("--ctx", help="Context of one slot, in tokens [the model's].")] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="CPU threads [one a core].")] = None,
    as_json: Json = False,
    config: Config = None,
) -> int:
    """Start a worker here, and measure how fast it reads prompts (pp) and writes tokens (tg), and its load time.

    Each is measured with one stream and with as many as it has slots. As long as that takes it has the device to
    itself only if nothing else runs there: other workers are left alone.
    """
    found = settings(config, {"worker": {"slots": slots, "ctx": ctx, "threads": threads}})
    import tempfile
    from pathlib import Path

    from llorch import program
    from llorch.cli import bench_model, interrupts
    from llorch.cli import bench_view as view
    from llorch.cli.output import write_json

    program.die_with_launcher()
    file = bench_model.model_file(name, found)
    plan = bench_model.Plan(prompt_tokens, new_tokens, repeats)
    more = bench_model.flags({"backend": backend, "device": device})

    async def main() -> int:
        with tempfile.TemporaryDirectory(prefix="llorch-bench-") as folder:
            report = await bench_model.measure(file, plan, Path(folder), options=found.worker, more=more)
        if as_json:
            write_json(report)
        else:
            _write(view.model_facts(report), view.ROWS, [view.model_row(report, row) for row in report.rows])
        return 0

    return interrupts.run(main)


@app.command("overhead", epilog="Example: llorch bench overhead --rounds 50 --in-flight 1,4")
def overhead(
    *,
    context: typer.Context,
    name: Annotated[
        str, typer.Option("--model", "-m", metavar="MODEL", help="A file, or the alias or reference of one here.")
    ] = "haiku",
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="For each number in flight, each way.")] = 50,
    in_flight: InFlight = "1,4",
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Most tokens of one answer.")] = 32,
    submit_s: Annotated[
        float, typer.Option("--submit-s", min=0.1, metavar="SECONDS", help="How long to submit, without a worker.")
    ] = 3.0,
    as_json: Json = False,
    config: Config = None,
) -> int:
    """Measure what the orchestrator adds to a bare worker, in a temporary folder here; touches no running system.

    The same requests go through an orchestrator and directly to a worker, turn by turn.
    """
    numbers = _counts(in_flight, context)
    found = settings(config)
    import tempfile
    from pathlib import Path

    from llorch import program
    from llorch.cli import bench_overhead, interrupts
    from llorch.cli import bench_view as view
    from llorch.cli.bench_model import model_file
    from llorch.cli.output import write_json

    program.die_with_launcher()
    file = model_file(name, found)
    reference = file.ref if file.ref.startswith("file:") else f"file:{file.path}"
    plan = bench_overhead.Plan(reference, file.path, max_tokens, rounds, numbers, submit_s)

    async def main() -> int:
        with tempfile.TemporaryDirectory(prefix="llorch-bench-") as folder:
            report = await bench_overhead.measure(plan, Path(folder), options=found.worker)
        if as_json:
            write_json(report)
        else:
            _write(view.overhead_facts(report), view.PAIRS, [view.pair_row(pair) for pair in report.pairs])
        return 0

    return interrupts.run(main)


def _counts(text: str, context: typer.Context) -> list[int]:
    from llorch.cli.bench_figures import counts

    try:
        return counts(text)
    except ValueError as error:
        raise typer.BadParameter(f"--in-flight: {error}", context) from None


def _show_system(report: Report, *, as_json: bool) -> None:
    from llorch.cli import bench_view as view
    from llorch.cli.output import note, write_json

    if as_json:
        write_json(report)
        return
    _write(view.system_facts(report), view.LEVELS, [view.level_row(level) for level in report.levels])
    if report.interrupted:
        note("llorch: stopped early; this is what was measured")


def _write(facts: Sequence[tuple[str, str]], header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from llorch.cli.output import write, write_facts, write_table

    write_facts(facts)
    write("\n")
    write_table(header, rows)
