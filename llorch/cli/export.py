"""What `llorch jobs export` does: read jobs page by page, write them as they come: millions are no problem."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
from msgspec import UNSET

from llorch.cli.output import write
from llorch.cli.patience import patiently
from llorch.client import Client
from llorch.config import expanded
from llorch.errors import LlorchError, RemoteError
from llorch.flush import flush
from llorch.job import FINAL
from llorch.wire.codec import decode_reply, encode
from llorch.wire.events import Token
from llorch.wire.tasks import Task, TaskPage

PAGE = 200
PATIENCE_S = 60.0
TEXTS_AT_ONCE = 8
TIMINGS = ("submitted_ms", "deadline_ms", "dispatched_ms", "started_ms", "first_token_ms", "finished_ms")
ERROR = ("code", "message", "retriable")
SKIPPED = ("timings", "error", "attempt_log", "events_url", "queue_position")
COLUMNS = (
    *(field for field in Task.__struct_fields__ if field not in SKIPPED),
    *TIMINGS,
    *(f"error_{name}" for name in ERROR),
)


class NotWritten(LlorchError):
    """The file cannot be written, or is there already."""

    code = "NOT_WRITTEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which jobs: those submitted from *since_ms* on and before *until_ms*; no statuses are all of them."""

    statuses: Sequence[str] = ()
    model: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    with_output: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """A job, and its text where that was wanted and is still kept."""

    task: Task
    output: str | None = None


async def pages(client: Client, wanted: Wanted) -> AsyncIterator[Sequence[Record]]:
    """Yield the wanted jobs, newest first, a page at a time. While the orchestrator is away, wait for it.

    Raises:
        LlorchError: Refused, or it stayed away.
    """
    params = {"limit": str(PAGE)}
    if len(wanted.statuses) == 1:
        params["status"] = wanted.statuses[0]
    if wanted.model is not None:
        params["model"] = wanted.model
    while True:
        ask = partial(client.send, "GET", "/v2/tasks", TaskPage, params=dict(params))
        page = await (ask() if "cursor" not in params else patiently(ask, patience_s=PATIENCE_S))
        tasks = [task for task in page.tasks if matches(task, wanted)]
        yield await _texts(client, tasks) if wanted.with_output else [Record(task) for task in tasks]
        oldest_ms = page.tasks[-1].timings.submitted_ms if page.tasks else 0
        if page.next_cursor is UNSET or (wanted.since_ms is not None and oldest_ms < wanted.since_ms):
            return
        params["cursor"] = page.next_cursor


def matches(task: Task, wanted: Wanted) -> bool:
    """Tell whether a job is one of those wanted."""
    submitted_ms = task.timings.submitted_ms
    return (
        (not wanted.statuses or task.status in wanted.statuses)
        and (wanted.since_ms is None or submitted_ms >= wanted.since_ms)
        and (wanted.until_ms is None or submitted_ms < wanted.until_ms)
    )


def json_lines(records: Sequence[Record], *, with_output: bool) -> str:
    """Return records as JSON, a line each; with outputs, `output` is null where there is none."""
    lines: list[bytes] = []
    for record in records:
        fields = msgspec.to_builtins(record.task)
        lines.append(encode(fields | {"output": record.output} if with_output else fields))
    return "".join(line.decode() + "\n" for line in lines)


def csv_lines(records: Sequence[Record], *, with_output: bool, header: bool) -> str:
    """Return records as CSV (RFC 4180), nested fields flat; what is not known is empty."""
    columns = (*COLUMNS, "output") if with_output else COLUMNS
    text = io.StringIO()
    writer = csv.writer(text)
    if header:
        writer.writerow(columns)
    for record in records:
        fields = msgspec.to_builtins(record.task)
        flat = fields | fields["timings"] | {f"error_{name}": value for name, value in fields.get("error", {}).items()}
        flat["output"] = record.output
        writer.writerow(["" if flat.get(name) is None else flat[name] for name in columns])
    return text.getvalue()


@contextlib.contextmanager
def destination(name: str | None, *, overwrite: bool) -> Iterator[Callable[[str], object]]:
    """Yield what takes the text: stdout, or a new file (mode 0600) that has its name once all of it is there.

    Raises:
        NotWritten: It exists and may not be overwritten, or cannot be written.
    """
    if name is None or name == "-":
        yield write
        return
    path = expanded(name)
    try:
        if path.exists() and not overwrite:
            raise NotWritten(f"{path} exists; give another --output, or --force")
        path = path.resolve()  # what a link leads to is written, and the link stays
        if path.exists() and not path.is_file():  # a pipe, or a device
            with path.open("w", encoding="utf-8", newline="") as file:
                yield file.write
            return
    except OSError as error:
        raise NotWritten(f"{path} cannot be written: {error.strerror}") from None
    partial_path = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        number = os.open(partial_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(number, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123 - a descriptor, not a path
            yield file.write
            file.flush()
            flush(number)
        partial_path.replace(path)
    except OSError as error:
        raise NotWritten(f"{path} cannot be written: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            partial_path.unlink(missing_ok=True)


async def export(
    client: Client, wanted: Wanted, take: Callable[[str], object], *, as_csv: bool, told: Callable[[int], None]
) -> int:
    """Write the wanted jobs; return how many."""
    count = 0
    if as_csv:
        take(csv_lines([], with_output=wanted.with_output, header=True))
    async with contextlib.aclosing(pages(client, wanted)) as found:  # type: ignore[type-var]
        async for page in found:
            text = (
                csv_lines(page, with_output=wanted.with_output, header=False)
                if as_csv
                else json_lines(page, with_output=wanted.with_output)
            )
            if text:
                take(text)
            count += len(page)
            told(count)
    return count


async def _texts(client: Client, tasks: Sequence[Task]) -> Sequence[Record]:
    """Fetch the texts of jobs, some at once."""
    slots = asyncio.Semaphore(TEXTS_AT_ONCE)

    async def one(task: Task) -> Record:
        async with slots:
            ask = partial(_text, client, task)
            return Record(task, await patiently(ask, patience_s=PATIENCE_S) if task.status in FINAL else None)

    async with asyncio.TaskGroup() as group:
        fetching = [group.create_task(one(task)) for task in tasks]
    return [fetched.result() for fetched in fetching]


async def _text(client: Client, task: Task) -> str | None:
    """Return what a job wrote; None when that is not kept any more."""
    try:
        events = [event async for event in client.events(task.events_url)]
    except RemoteError as error:
        if error.status == 404:
            return None
        raise
    return "".join(decode_reply(event.data, Token).t for event in events if event.kind == "token")
