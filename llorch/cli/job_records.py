"""`llorch jobs export` and `llorch jobs purge`: take the records of jobs out, and erase them."""

from __future__ import annotations

from typing import Annotated

import typer

from llorch.cli.options import Config, Json, Url, orchestrator, settings
from llorch.job import FINAL, State

EXPORT_EXAMPLE = "Example: llorch jobs export --status completed --since 1d --output jobs.jsonl"
PURGE_EXAMPLE = "Example: llorch jobs purge --older-than 1d --status completed"


def export(
    *,
    context: typer.Context,
    status: Annotated[
        list[State] | None, typer.Option("--status", metavar="STATE", help="Only this state; may be repeated.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Only jobs of this model.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Submitted then or later: 2026-11-25, or 12h ago.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Submitted before then.")] = None,
    with_output: Annotated[bool, typer.Option("--with-output", help="With their texts, where still kept.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV instead of JSON lines.")] = False,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="A new file, mode 0600 [stdout].")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    url: Url = None,
    config: Config = None,
) -> int:
    """Write the records of jobs, newest first, as JSON lines or CSV."""
    import sys
    from contextlib import closing
    from datetime import datetime

    from llorch.cli import export as run
    from llorch.cli import interrupts
    from llorch.cli.output import Status, note
    from llorch.cli.times import moment_ms

    now = datetime.now().astimezone()
    try:
        since_ms = None if since is None else moment_ms(since, now=now)
        until_ms = None if until is None else moment_ms(until, now=now)
    except ValueError as error:
        raise typer.BadParameter(f"--since, --until: {error}", context) from None
    wanted = run.Wanted(
        statuses=[state.value for state in status or ()],
        model=model,
        since_ms=since_ms,
        until_ms=until_ms,
        with_output=with_output,
    )
    found = settings(config)

    async def main() -> int:
        with (
            closing(Status(wanted=output is not None or not sys.stdout.isatty())) as line,
            run.destination(output, overwrite=force) as take,
        ):
            async with orchestrator(found, url) as client:
                count = await run.export(
                    client, wanted, take, as_csv=as_csv, told=lambda count: line.show(f"{count:,} jobs")
                )
        note(f"{count:,} job{'' if count == 1 else 's'}")
        return 0

    return interrupts.run(main)


def purge(
    *,
    context: typer.Context,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Jobs that ended so long ago: 90m, 12h, 1d, 2w.")
    ],
    status: Annotated[
        list[State] | None, typer.Option("--status", metavar="STATE", help="Only jobs that ended so; may be repeated.")
    ] = None,
    outputs_only: Annotated[bool, typer.Option("--outputs-only", help="Erase the texts, keep the records.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", "--force", help="Do not ask.")] = False,
    as_json: Json = False,
    url: Url = None,
    config: Config = None,
) -> int:
    """Erase jobs that have ended, after showing how many. Waiting and running jobs are never touched."""
    import msgspec

    from llorch.cli import interrupts
    from llorch.cli import purge as run
    from llorch.cli.output import note, write, write_json
    from llorch.cli.question import agreed, can_ask
    from llorch.cli.times import age_ms
    from llorch.wire.operations import Purge

    try:
        older_than_ms = age_ms(older_than)
    except ValueError as error:
        raise typer.BadParameter(f"--older-than: {error}", context) from None
    living = [state for state in status or () if state not in FINAL]
    if living:
        raise typer.BadParameter(f"--status: jobs that are {living[0]} are never erased; cancel them first", context)
    if not (yes or dry_run or can_ask()):
        raise typer.BadParameter("nobody can be asked whether to erase: give --yes, or --dry-run", context)
    wanted = msgspec.convert(
        {"older_than_ms": older_than_ms, "statuses": sorted(set(status or FINAL)), "outputs_only": outputs_only}, Purge
    )
    found = settings(config)

    async def main() -> int:
        async with orchestrator(found, url) as client:
            counted = await run.count(client, wanted)
            if not counted.jobs or dry_run:
                done = counted
            elif yes or agreed(run.question(counted, wanted)):
                done = await run.erase(client, wanted)
            else:
                note("Nothing was erased.")
                return 1
        if as_json:
            write_json(done)
        else:
            write(run.summary(done, wanted, counted_only=dry_run) + "\n")
        return 0

    return interrupts.run(main)
