"""`llorch jobs`: submit, list, show, follow, watch, cancel, explain, export and purge jobs."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import typer

from llorch.cli import flag_checks, job_records
from llorch.cli.options import Config, Json, Url, group, orchestrator, settings

T = TypeVar("T")
app = group("Submit jobs, and see what becomes of them.")

Id = Annotated[str, typer.Argument(metavar="ID", callback=flag_checks.an_id, help="The job's id.")]


@app.command("submit", epilog='Example: llorch jobs submit --model haiku --prompt "Write a haiku about rain"')
def submit(
    *,
    context: typer.Context,
    model: Annotated[str, typer.Option("--model", "-m", help="A model's alias or reference.")],
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="The text to continue; - reads stdin.")] = None,
    messages: Annotated[
        str | None, typer.Option("--messages", metavar="FILE", help="A JSON list of {role, content}; - reads stdin.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", help="Most tokens to write [512].")] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="0 to 2; 0 is the likeliest [0.7].")
    ] = None,
    top_p: Annotated[float | None, typer.Option("--top-p", help="0 to 1; nucleus sampling.")] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", help="Only the k likeliest tokens.")] = None,
    min_p: Annotated[float | None, typer.Option("--min-p", help="0 to 1; relative to the likeliest token.")] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option("--repetition-penalty", help="0 to 2; above 1 avoids repetition.")
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help="A text that ends the output; up to four times.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="For the same text again.")] = None,
    priority: Annotated[Literal["interactive", "batch"] | None, typer.Option("--priority", help="Its class.")] = None,
    session_id: Annotated[str | None, typer.Option("--session-id", help="Sessions are served in turn.")] = None,
    timeout_ms: Annotated[int | None, typer.Option("--timeout-ms", help="Time for all of it [300000].")] = None,
    on_disconnect: Annotated[
        Literal["continue", "cancel"] | None, typer.Option("--on-disconnect", help="When the last reader goes.")
    ] = None,
    keep_alive: Annotated[
        str | None,
        typer.Option("--keep-alive", metavar="TIME", help="Keep the idle worker: 90s, 5m; 0 not at all, -1 for ever."),
    ] = None,
    idempotency_key: Annotated[
        str,
        typer.Option(
            "--idempotency-key",
            callback=flag_checks.idempotency_key,
            help="The same key gives the same job [a new one].",
        ),
    ] = "",
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the job's id and leave.")] = False,
    as_json: Json = False,
    url: Url = None,
    config: Config = None,
) -> int:
    """Submit a job and print its text as it comes. Ctrl-C cancels it; an orchestrator that restarts costs a pause."""
    fields: dict[str, object] = {
        "model": model,
        "prompt": prompt,
        "messages": messages,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "stop": stop,
        "seed": seed,
        "priority": priority,
        "session_id": session_id,
        "timeout_ms": timeout_ms,
        "on_disconnect": on_disconnect,
        "keep_alive": keep_alive,
    }
    from llorch.cli import interrupts
    from llorch.cli import submit as run
    from llorch.cli.output import write, write_json
    from llorch.cli.task_flags import WrongFlags, task

    try:
        asked = task(fields)
    except WrongFlags as error:
        raise typer.BadParameter(str(error), context) from None
    found = settings(config)

    async def main() -> int:
        async with orchestrator(found, url) as client:
            if not detach:
                return await run.submit_and_show(client, asked, key=idempotency_key, as_json=as_json)
            job = await run.submit(client, asked, key=idempotency_key)
            if as_json:
                write_json(job)
            else:
                write(f"{job.job_id}\n")
            return 0

    return interrupts.run(main)


@app.command("list", epilog="Example: llorch jobs list --status running")
def jobs(
    *,
    status: Annotated[
        Literal["queued", "dispatched", "running", "cancelling", "completed", "failed", "cancelled"] | None,
        typer.Option("--status", help="Only jobs in this state."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Only jobs of this model.")] = None,
    priority: Annotated[
        Literal["interactive", "batch"] | None, typer.Option("--priority", help="Only this class.")
    ] = None,
    session_id: Annotated[str | None, typer.Option("--session-id", help="Only this session.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, max=200, help="Most jobs to list.")] = None,
    cursor: Annotated[
        str | None, typer.Option("--cursor", callback=flag_checks.cursor, help="Where an earlier list ended.")
    ] = None,
    as_json: Json = False,
    url: Url = None,
    config: Config = None,
) -> None:
    """List jobs, newest first."""
    import time
    from urllib.parse import urlencode

    from llorch.cli.job_view import HEADER, row
    from llorch.cli.output import note, write_json, write_table
    from llorch.wire.tasks import TaskPage

    given = {
        "status": status,
        "model": model,
        "priority": priority,
        "session_id": session_id,
        "limit": limit,
        "cursor": cursor,
    }
    query = urlencode({name: value for name, value in given.items() if value is not None})
    page = _ask("GET", f"/v2/tasks?{query}", TaskPage, url, config)
    if as_json:
        write_json(page)
        return
    now_ms = time.time_ns() // 1_000_000
    write_table(HEADER, [row(task, now_ms) for task in page.tasks])
    if isinstance(page.next_cursor, str):
        note(f"There are more: --cursor {page.next_cursor}")


@app.command("show", epilog="Example: llorch jobs show 13d12f5c-ad9f-4ee8-99e7-7a9b0391fdf7")
def show(job_id: Id, as_json: Json = False, url: Url = None, config: Config = None) -> None:
    """Show everything known about a job."""
    from llorch.cli.job_view import facts
    from llorch.cli.output import write_facts, write_json
    from llorch.wire.tasks import Task

    task = _ask("GET", _path(job_id), Task, url, config)
    if as_json:
        write_json(task)
    else:
        write_facts(facts(task))


@app.command("follow", epilog="Example: llorch jobs follow 13d12f5c-ad9f-4ee8-99e7-7a9b0391fdf7")
def follow(
    job_id: Id,
    after: Annotated[
        str,
        typer.Option(
            "--after",
            metavar="EVENT",
            callback=flag_checks.event_id,
            help="Go on behind this event id, or this many tokens.",
        ),
    ] = "",
    as_json: Json = False,
    url: Url = None,
    config: Config = None,
) -> int:
    """Print a job's text from its beginning, and as it comes. Ctrl-C leaves the job alone."""
    found = settings(config)
    import asyncio

    from llorch.cli.submit import show
    from llorch.wire.tasks import Task

    async def main() -> int:
        async with orchestrator(found, url) as client:
            await client.send("GET", _path(job_id), Task)  # a wrong id or address is told at once
            return await show(client, _path(job_id, "/events"), after=after, as_json=as_json)

    return asyncio.run(main())


@app.command("watch", epilog="Example: llorch jobs watch")
def watch(as_json: Json = False, url: Url = None, config: Config = None) -> int:
    """Show what runs and what waits, anew every second, until Ctrl-C. Not on a terminal: a line for each change."""
    found = settings(config)

    from llorch.cli import interrupts
    from llorch.cli.watch import watch as show

    async def main() -> int:
        async with orchestrator(found, url) as client:
            await show(client, as_json=as_json)
        return 0

    return interrupts.run(main)


@app.command("cancel", epilog="Example: llorch jobs cancel 13d12f5c-ad9f-4ee8-99e7-7a9b0391fdf7")
def cancel(job_id: Id, as_json: Json = False, url: Url = None, config: Config = None) -> None:
    """Cancel a job; print where it stands: cancelling, or the final state it already had."""
    from llorch.cli.output import write, write_json
    from llorch.wire.tasks import CancelReply

    answer = _ask("DELETE", _path(job_id), CancelReply, url, config)
    if as_json:
        write_json(answer)
    else:
        write(f"{answer.status}\n")


@app.command("explain", epilog="Example: llorch jobs explain 13d12f5c-ad9f-4ee8-99e7-7a9b0391fdf7")
def explain(job_id: Id, as_json: Json = False, url: Url = None, config: Config = None) -> None:
    """Say why a job is where it is."""
    from llorch.cli.output import one_line, write, write_json
    from llorch.wire.tasks import Explanation

    answer = _ask("GET", _path(job_id, "/explain"), Explanation, url, config)
    if as_json:
        write_json(answer)
    else:
        write(f"{answer.status}: {one_line(answer.text)}\n")


app.command("export", epilog=job_records.EXPORT_EXAMPLE)(job_records.export)
app.command("purge", epilog=job_records.PURGE_EXAMPLE)(job_records.purge)


def _ask(method: str, path: str, kind: type[T], url: str | None, config: str | None) -> T:
    """Send one request about a job to the orchestrator."""
    found = settings(config)
    import asyncio

    async def main() -> T:
        async with orchestrator(found, url) as client:
            return await client.send(method, path, kind)

    return asyncio.run(main())


def _path(job_id: str, rest: str = "") -> str:
    from urllib.parse import quote

    return f"/v2/tasks/{quote(job_id, safe='')}{rest}"
