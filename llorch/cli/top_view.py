"""What `llorch top` shows: pools, devices, workers, the queue and its jobs, fitted into any size of screen. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llorch.cli import watch_view
from llorch.cli.figures import BAR_CELLS, age, bar, size
from llorch.cli.output import one_line
from llorch.cli.pool_view import short_names
from llorch.cli.watch_view import Column, short_model
from llorch.wire.operations import Overview
from llorch.wire.pools import Device, Pool, Worker

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

BAR_FRAME = len("[] 100%")
ROOMY = 20
"""From so many lines on, blank ones set the parts off."""
STYLES = {
    "online": "",
    "draining": "yellow",
    "offline": "red",
    "starting": "cyan",
    "ready": "",
    "busy": "green",
    "stopped": "dim",
    "failed": "red",
}
DEVICES = (
    Column("POOL", 8, 0, most=24),
    Column("STATE", 8, 1, most=14),
    Column("DEVICE", 6, 3, most=10),
    Column("MEMORY", BAR_FRAME + 6, 2, most=BAR_FRAME + BAR_CELLS, right=True),
    Column("USED", 9, 4, right=True),
    Column("OF", 9, 5, right=True),
    Column("LOAD", 5, 6, right=True),
    Column("TEMP", 6, 7, right=True),
    Column("NAME", 12, 8, most=48),
)
WORKERS = (
    Column("POOL", 8, 4, most=24),
    Column("WORKER", 8, 2, most=36, whole=True),
    Column("MODEL", 10, 0, most=40),
    Column("STATE", 8, 1, most=24),
    Column("SLOTS", 5, 3, right=True),
    Column("TOK/S", 6, 5, right=True),
    Column("DEVICE", 6, 6, most=10),
    Column("MEMORY", 9, 7, right=True),
)


@dataclass(frozen=True, slots=True)
class Look:
    """What there is at one moment; `rates` are tokens per second by job."""

    overview: Overview
    pools: Sequence[Pool]
    rates: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table: what stands under each column, how it looks, and the bytes used of how many for a bar."""

    cells: Mapping[str, str]
    style: str = ""
    memory: tuple[int, int] | None = None


def headline(look: Look) -> str:
    """Return the first line: pools, slots, speed."""
    states = [pool.status for pool in look.pools]
    named = [f"{states.count(state)} {state}" for state in ("online", "draining", "offline") if state in states]
    live = [worker for pool in look.pools for worker in pool.workers if worker.status in {"ready", "busy"}]
    busy, slots = sum(worker.slots_busy for worker in live), sum(worker.slots for worker in live)
    speed = f"{sum(look.rates.values()):.1f} tokens/s"
    return f"pools: {', '.join(named) or 'none'} · slots: {busy}/{slots} busy · {speed}"


def queue_line(overview: Overview) -> str:
    """Return how many jobs run and how many wait in each class."""
    waiting = overview.waiting
    return (
        f"jobs: {overview.running:,} running · waiting: {waiting['interactive']:,} interactive, "
        f"{waiting['batch']:,} batch · {overview.finished_per_s:.2f} jobs/s"
    )


def device_rows(pools: Sequence[Pool], *, now_ms: int) -> list[Row]:
    """Return a row for each device, under the name of its pool; a pool without any has one, too."""
    rows: list[Row] = []
    for pool in pools:
        silent = f" {age(now_ms - pool.last_seen_ms)}" if pool.status == "offline" else ""
        first = {"POOL": pool.pool_id, "STATE": pool.status + silent}
        found = [_device(device) for device in pool.devices] or [Row({})]
        for number, row in enumerate(found):
            rows.append(replace(row, cells={**({} if number else first), **row.cells}, style=STYLES[pool.status]))
    return rows


def worker_rows(look: Look) -> list[Row]:
    """Return a row for each worker; those that write have how fast."""
    speeds: dict[str, float] = {}
    for job in look.overview.jobs:
        if isinstance(job.worker_id, str) and job.job_id in look.rates:
            speeds[job.worker_id] = speeds.get(job.worker_id, 0.0) + look.rates[job.job_id]
    named = [(pool, short_names(pool.models)) for pool in look.pools]
    return [_worker(pool, worker, names, speeds) for pool, names in named for worker in pool.workers]


def rows_each(lines: int, wanted: Sequence[int]) -> list[int]:
    """Return how many of *lines* each table gets, of those that have *wanted* rows.

    Each has its fair share first. What is left goes to the last, which are the jobs, then to those before it.
    """
    given = [min(want, max(0, lines) // len(wanted)) for want in wanted]
    for number in reversed(range(len(wanted))):
        given[number] += min(wanted[number] - given[number], max(0, lines) - sum(given))
    return given


def screen(look: Look, *, trouble: str, width: int, height: int) -> RenderableType:
    """Return all of one screen, never wider or higher than it.

    Args:
        look: What there is.
        trouble: What is wrong, if something is; the rest is then old and dimmed.
        width: Cells of a line.
        height: Lines.
    """
    from rich.console import Group

    head = [_text(headline(look), "bold"), *([_text(one_line(trouble), "red")] if trouble else [])]
    queue = _text(queue_line(look.overview), "bold")
    devices, workers = device_rows(look.pools, now_ms=look.overview.time_ms), worker_rows(look)
    jobs = [job for job in look.overview.jobs if job.status in watch_view.BUSY or job.status == "queued"]
    ended = watch_view.hidden(look.overview, jobs)
    gaps = 3 if height >= ROOMY else 0
    headers = sum(1 for rows in (devices, workers, jobs) if rows)
    left = height - len(head) - 1 - headers - gaps
    counts = rows_each(left, (len(devices), len(workers), len(jobs) + bool(ended)))
    rows = [
        Row(watch_view.cells(job, look.rates, now_ms=look.overview.time_ms), _job_style(job.status)) for job in jobs
    ]
    parts: list[RenderableType] = [*head]
    for columns, found, count in ((DEVICES, devices, counts[0]), (WORKERS, workers, counts[1])):
        if found and count:
            parts += _blank(gaps)
            parts += _table(columns, found, count, width=width, more=0, dim=bool(trouble))
    parts += [*_blank(gaps), queue]
    if rows and counts[2]:
        parts += _table(watch_view.COLUMNS, rows, counts[2], width=width, more=ended, dim=bool(trouble))
    return Group(*parts)


def _table(
    columns: Sequence[Column], rows: Sequence[Row], count: int, *, width: int, more: int, dim: bool
) -> list[RenderableType]:
    """Return a table of *count* lines below its header; the last one says how many rows are not shown."""
    fits = len(rows) + bool(more) <= count
    shown = rows if fits else rows[: max(0, count - 1)]
    widths = watch_view.layout(width, [_fitted(column, rows) for column in columns])
    table = watch_view.table(width, widths)
    for row in shown:
        _add(table, row, widths, dim=dim)
    hidden = len(rows) - len(shown) + more
    return [table, *([_text(f"… and {hidden:,} more", "dim")] if hidden and count else [])]


def _fitted(column: Column, rows: Sequence[Row]) -> Column:
    """Return a column that grows no further than what stands in it needs; a bar and a whole id take what they can."""
    if column.whole or any(row.memory is not None and column.name == "MEMORY" for row in rows):
        return column
    longest = max((len(row.cells.get(column.name, "")) for row in rows), default=0)
    return replace(column, most=min(column.most, longest))


def _add(table: Table, row: Row, widths: Sequence[tuple[Column, int]], *, dim: bool) -> None:
    from rich.text import Text

    cells: list[Text] = []
    for column, width in widths:
        if column.name == "MEMORY" and row.memory is not None:
            used, total = row.memory
            share = used / total if total else 0
            style = "" if dim else "red" if share >= 0.95 else "yellow" if share >= 0.8 else "green"
            cells.append(Text(bar(used, total, cells=width - BAR_FRAME), style))
        else:
            cells.append(Text(one_line(row.cells.get(column.name, ""))))
    table.add_row(*cells, style="dim" if dim else row.style)


def _device(device: Device) -> Row:
    percent, celsius = device.utilization_percent, device.temperature_c
    cells = {
        "DEVICE": device.id,
        "USED": size(device.memory_used_bytes),
        "OF": size(device.memory_total_bytes),
        "LOAD": f"{percent:.0f} %" if isinstance(percent, float) else "",
        "TEMP": f"{celsius:.0f} °C" if isinstance(celsius, float) else "",
        "NAME": device.name,
    }
    return Row(cells, memory=(device.memory_used_bytes, device.memory_total_bytes))


def _worker(pool: Pool, worker: Worker, names: Mapping[str, str], speeds: Mapping[str, float]) -> Row:
    loading = f" {worker.progress:.0f} %" if worker.status == "starting" else ""
    cells = {
        "POOL": pool.pool_id,
        "WORKER": worker.worker_id,
        "MODEL": names.get(worker.model_ref) or short_model(worker.model_ref),
        "STATE": worker.status + loading,
        "SLOTS": f"{worker.slots_busy}/{worker.slots}",
        "TOK/S": f"{speeds[worker.worker_id]:.1f}" if worker.worker_id in speeds else "",
        "DEVICE": worker.device,
        "MEMORY": size(worker.memory_bytes),
    }
    return Row(cells, STYLES[worker.status])


def _job_style(status: str) -> str:
    return {"running": "green", "dispatched": "green", "cancelling": "yellow"}.get(status, "")


def _blank(gaps: int) -> list[Text]:
    return [_text("", "")] if gaps else []


def _text(text: str, style: str) -> Text:
    from rich.text import Text

    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
