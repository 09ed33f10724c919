"""What `llorch jobs watch` does: look at the queue once a second, and show it or tell of its changes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING

from llorch.cli import watch_view as view
from llorch.cli.figures import duration
from llorch.cli.output import note, one_line, write, write_json
from llorch.cli.patience import away
from llorch.client import Client
from llorch.errors import LlorchError
from llorch.wire.operations import LiveJob, Overview

if TYPE_CHECKING:
    from rich.console import RenderableType

EVERY_S = 1.0
LOOK_TIMEOUT_S = 5.0
MOST = 200
OVERLAP_MS = 2_000
"""A job's end is on disk a moment after it happened: looks overlap, so that none falls in between."""

STYLES = {
    "running": "green",
    "dispatched": "green",
    "cancelling": "yellow",
    "completed": "dim",
    "cancelled": "dim yellow",
    "failed": "red",
}


async def watch(client: Client, *, as_json: bool) -> None:
    """Show the queue until cancelled: as a table on a terminal, else a line for each change.

    Raises:
        LlorchError: The first look failed, or a later one did for another reason than that the orchestrator is away.
    """
    if as_json or not sys.stdout.isatty():
        await tell_changes(client, as_json=as_json)
    else:
        await show_table(client)


async def tell_changes(client: Client, *, as_json: bool) -> None:
    """Write a line for each job that there is, then one for each change; raises as `watch` does."""
    known: dict[str, LiveJob] = {}
    gone = False
    async for found in looks(client, limit=lambda: MOST, ended_ms=OVERLAP_MS, wake=asyncio.Event()):
        if isinstance(found, LlorchError):
            if not gone:
                note(f"llorch: {found.message}; waiting for it")
            gone = True
            continue
        if gone:
            note("llorch: the orchestrator is back")
        gone = False
        for job in view.changes(known, found):
            if as_json:
                write_json({"time_ms": found.time_ms, "job": job})
            else:
                write(one_line(view.change_line(job, now_ms=found.time_ms)) + "\n")
        known = {job.job_id: job for job in found.jobs}


async def show_table(client: Client) -> None:
    """Show the table, on a screen of its own; raises as `watch` does."""
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    resized = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, resized.set)
    rates = view.Rates()
    trouble = Trouble()

    def lines() -> int:
        return min(MOST, console.size.height)

    overview = await look(client, limit=lines(), since_ms=None)
    speeds: Mapping[str, float] = {}
    with Live(console=console, screen=True, auto_refresh=False) as live:
        async for found in looks(client, limit=lines, ended_ms=view.SHOW_ENDED_MS, wake=resized):
            said = trouble.take(found)
            if isinstance(found, Overview):
                overview, speeds = found, rates.look(found)
            live.update(screen(overview, speeds, said, console.size.width, console.size.height), refresh=True)


class Trouble:
    """How long the orchestrator has been away."""

    def __init__(self) -> None:
        self._since: float | None = None

    def take(self, found: Overview | LlorchError) -> str:
        """Take in how a look went; return what to say of it, nothing when it went well."""
        now = time.monotonic()
        if isinstance(found, Overview):
            self._since = None
            return ""
        self._since = self._since if self._since is not None else now
        return f"away for {duration((now - self._since) * 1000)}: {found.message}"


def screen(overview: Overview, speeds: Mapping[str, float], trouble: str, width: int, height: int) -> RenderableType:
    """Return all of one screen: a headline, what is wrong if something is, and the table."""
    from rich.console import Group
    from rich.text import Text

    head = [Text(view.headline(overview, speeds), style="bold", no_wrap=True, overflow="ellipsis")]
    if trouble:
        head.append(Text(one_line(trouble), style="red", no_wrap=True, overflow="ellipsis"))
    jobs = view.room(overview.jobs, max(0, height - len(head) - 3))
    shown = view.layout(width)
    table = view.table(width, shown)
    for job in jobs:
        values = view.cells(job, speeds, now_ms=overview.time_ms)
        row = [Text(one_line(values[column.name])) for column, _ in shown]
        table.add_row(*row, style="dim" if trouble else STYLES.get(job.status, ""))
    rest = view.hidden(overview, jobs)
    foot = f"… and {rest:,} more" if rest else "" if jobs else "nothing runs, nothing waits"
    return Group(*head, "", table, Text(foot, style="dim"))


async def looks(
    client: Client, *, limit: Callable[[], int], ended_ms: int, wake: asyncio.Event
) -> AsyncIterator[Overview | LlorchError]:
    """Yield an overview once a second, or when woken; while the orchestrator is away, that error.

    Args:
        client: The orchestrator.
        limit: Tells the most jobs of each kind.
        ended_ms: With jobs that ended so long before the last look, or since.
        wake: Look now.

    Raises:
        LlorchError: The first look failed, or a later one did for another reason.
    """
    seen_ms: int | None = None
    while True:
        found: Overview | LlorchError
        try:
            found = await look(client, limit=limit(), since_ms=None if seen_ms is None else seen_ms - ended_ms)
            seen_ms = found.time_ms
        except LlorchError as error:
            if seen_ms is None or not away(error):
                raise
            found = error
        yield found
        wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EVERY_S):
                await wake.wait()


async def look(client: Client, *, limit: int, since_ms: int | None) -> Overview:
    """Ask for one overview."""
    params = {"limit": str(limit)} | ({} if since_ms is None else {"finished_since_ms": str(max(1, since_ms))})
    return await client.send("GET", "/v2/queue", Overview, params=params, timeout_s=LOOK_TIMEOUT_S)
