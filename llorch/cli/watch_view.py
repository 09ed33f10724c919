"""What `llorch jobs watch` shows: from one overview after the other to rows, figures and lines of change. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import UNSET

from llorch.checkpoint_files import names_one
from llorch.cli.figures import age, duration
from llorch.models import SCHEMES, own_name
from llorch.wire.embedding import NOUNS
from llorch.wire.operations import LiveJob, Overview

if TYPE_CHECKING:
    from rich.table import Table

RATE_WINDOW_MS = 5_000
SHOW_ENDED_MS = 15_000
BUSY = ("dispatched", "running", "cancelling")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table: its least and most width in cells, and how dear it is where there is no room for all.

    A *whole* one has its most width or its least, where it is cut without a mark.
    """

    name: str
    width: int
    rank: int
    most: int = 0
    whole: bool = False
    right: bool = False


COLUMNS = (
    Column("STATE", 10, 0),
    Column("ID", 8, 1, most=36, whole=True),
    Column("MODEL", 10, 3, most=40),
    Column("PRIO", 5, 7, most=11, whole=True),
    Column("POS", 5, 4, right=True),
    Column("TOKENS", 6, 2, right=True),
    Column("TOK/S", 6, 5, right=True),
    Column("AGE", 6, 6, right=True),
    Column("WORKER", 12, 8, most=60),
)
WIDE = 100


def layout(width: int, columns: Sequence[Column] = COLUMNS) -> Sequence[tuple[Column, int]]:
    """Return the dearest *columns* that fit into *width* cells, in their order, each with the width it gets.

    What is left over goes to the columns that can use it, the dearest first.
    """
    gap = column_gap(width)
    kept: dict[Column, int] = {}
    left = width + gap
    for column in sorted(columns, key=lambda column: column.rank):
        if column.width + gap <= left:
            kept[column] = column.width
            left -= column.width + gap
    for column in kept:
        more = min(left, column.most - column.width)
        if more > 0 and (not column.whole or column.width + more == column.most):
            kept[column] += more
            left -= more
    return [(column, kept[column]) for column in columns if column in kept]


def column_gap(width: int) -> int:
    """Return how many cells stand between columns."""
    return 2 if width >= WIDE else 1


def table(width: int, shown: Sequence[tuple[Column, int]]) -> Table:
    """Return a table without rows, *width* cells wide, with the columns that `layout` has chosen."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, column_gap(width), 0, 0), header_style="bold")
    for column, cells in shown:
        made.add_column(
            column.name,
            width=cells,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="crop" if column.whole else "ellipsis",
        )
    return made


class Rates:
    """How fast each job writes, from what it had written at earlier looks."""

    def __init__(self) -> None:
        self._looks: dict[str, deque[tuple[int, int]]] = {}

    def look(self, overview: Overview) -> Mapping[str, float]:
        """Take in one overview; return tokens per second for the jobs that it can be told of."""
        looks: dict[str, deque[tuple[int, int]]] = {}
        for job in overview.jobs:
            if job.status in BUSY:
                looks[job.job_id] = seen = self._looks.get(job.job_id, deque())
                seen.append((overview.time_ms, job.tokens_out))
                while len(seen) > 2 and seen[0][0] < overview.time_ms - RATE_WINDOW_MS:
                    seen.popleft()
        self._looks = looks
        return {
            job_id: (seen[-1][1] - seen[0][1]) * 1000 / (seen[-1][0] - seen[0][0])
            for job_id, seen in looks.items()
            if seen[-1][0] > seen[0][0]
        }


def headline(overview: Overview, rates: Mapping[str, float]) -> str:
    """Return the line above the table."""
    interactive, batch = overview.waiting["interactive"], overview.waiting["batch"]
    waiting = f"{interactive + batch:,} waiting"
    if batch:
        waiting += f" ({batch:,} batch)"
    speed = f"{sum(rates.values()):.1f} tokens/s"
    return f"{overview.running:,} running · {waiting} · {speed} · {overview.finished_per_s:.2f} jobs/s"


def cells(job: LiveJob, rates: Mapping[str, float], *, now_ms: int) -> Mapping[str, str]:
    """Return what stands in each column for a job."""
    ended_ms = job.finished_ms if isinstance(job.finished_ms, int) else now_ms
    worker = f"{job.pool_id}/{job.worker_id[:8]}" if isinstance(job.worker_id, str) else ""
    writes = job.kind == "text-gen"
    return {
        "STATE": job.status,
        "MODEL": short_model(job.model),
        "PRIO": job.priority,
        "POS": str(job.queue_position) if isinstance(job.queue_position, int) else "",
        "TOKENS": str(job.tokens_out) if writes and (job.tokens_out or job.status in BUSY) else "",
        "TOK/S": f"{rates[job.job_id]:.1f}" if writes and job.job_id in rates else "",
        "AGE": age(ended_ms - job.submitted_ms),
        "WORKER": worker,
        "ID": job.job_id,
    }


def short_model(name: str) -> str:
    """Return the part of a model's name that tells it from others: of a reference, its file's or repository's name."""
    if not name.startswith(SCHEMES):
        return name
    repo, _, path = name.rpartition("::file=")
    if repo and names_one(path):
        path = repo.partition("@")[0]
    return own_name(name) or path.rpartition("/")[2]


def hidden(overview: Overview, shown: Sequence[LiveJob]) -> int:
    """Return how many running and waiting jobs are not among those *shown*."""
    live = sum(job.finished_ms is UNSET for job in shown)
    return max(0, overview.running + sum(overview.waiting.values()) - live)


def room(jobs: Sequence[LiveJob], rows: int) -> Sequence[LiveJob]:
    """Return the jobs that *rows* lines have room for: those that ended give way first, then the last in the queue."""
    live = [job for job in jobs if job.finished_ms is UNSET]
    ended = [job for job in jobs if job.finished_ms is not UNSET]
    return [*live[:rows], *ended[: max(0, rows - len(live))]]


def changes(known: Mapping[str, LiveJob], overview: Overview) -> Sequence[LiveJob]:
    """Return the jobs of an overview that are new, or not where they were: another state, attempt or worker."""
    return [job for job in overview.jobs if _place(job) != _place(known.get(job.job_id))]


def change_line(job: LiveJob, *, now_ms: int) -> str:
    """Tell of one change on one line."""
    words = [job.job_id, job.status, short_model(job.model)]
    if isinstance(job.queue_position, int):
        words.append(f"position {job.queue_position}")
    if isinstance(job.worker_id, str) and job.status in BUSY:
        words.append(f"worker {job.worker_id} of pool {job.pool_id}")
    if isinstance(job.finished_ms, int):
        written = f"{job.tokens_out} tokens" if job.kind == "text-gen" else NOUNS[job.kind]
        words.append(f"{written} in {duration(job.finished_ms - job.submitted_ms)}")
    elif job.status == "queued":
        words.append(f"age {duration(now_ms - job.submitted_ms)}")
    if isinstance(job.error_code, str):
        words.append(job.error_code)
    return " ".join(words)


def _place(job: LiveJob | None) -> object:
    return None if job is None else (job.status, job.attempts, job.worker_id)
