"""What `llorch pool models download` shows: a bar on a terminal, lines elsewhere, events as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import msgspec

from llorch.cli.figures import duration, size
from llorch.cli.output import colourful, note, one_line, write_json
from llorch.client import Client
from llorch.errors import LlorchError, RemoteError, TimeoutExceeded, Unreachable
from llorch.sse import Event
from llorch.wire.codec import decode_reply
from llorch.wire.events import Failed
from llorch.wire.models import Download, Started, StoredModel

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PATIENCE_S = 120.0
AGAIN_S = 0.5
STEP_PERCENT = 10


class DownloadFailed(LlorchError):
    """The download ended with an `error` event."""


class Shown(Protocol):
    """Where progress is shown."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def take(self, view: Download) -> None:
        """Show how far it is."""


async def follow(client: Client, started: Started, *, as_json: bool) -> None:
    """Show a download to its end; a pool that is restarted meanwhile is waited for, because the download goes on.

    Raises:
        DownloadFailed: It ended otherwise; the message says why.
        Unreachable: The pool has not answered for too long.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + PATIENCE_S
    with _shown(as_json=as_json) as shown:
        while True:
            try:
                async with contextlib.aclosing(client.events(started.events_url)) as events:
                    async for event in events:
                        give_up = loop.time() + PATIENCE_S
                        if as_json:
                            write_json({"event": event.kind, "id": event.id, "data": msgspec.Raw(event.data)})
                        if _ended(event, shown):
                            return
            except (Unreachable, TimeoutExceeded):
                if loop.time() >= give_up:
                    raise
            except RemoteError as error:
                if error.status == 404 and await _there(client, started):
                    return
                if not error.retriable:
                    raise
            await asyncio.sleep(AGAIN_S)


def line(view: Download) -> str:
    """Return where a download is, in one line. Pure."""
    total = view.bytes_total
    if view.state == "waiting":
        return f"waiting to try again: {view.error}"
    if view.state == "verifying":
        return f"checking the hash: {view.percent:.0f} %"
    if view.state != "downloading" or not isinstance(total, int):
        return {"queued": "waiting for its turn", "looking": "asking what there is"}.get(view.state, view.state)
    parts = [f"{view.percent:.0f} %", f"{size(view.bytes_done)} of {size(total)}"]
    if view.rate_bytes_s > 0:
        parts.append(f"{size(round(view.rate_bytes_s))}/s")
    if isinstance(view.seconds_left, float | int):
        parts.append(f"{duration(view.seconds_left * 1000)} left")
    return ", ".join(parts)


class Nothing:
    """Shows nothing."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""

    def take(self, view: Download) -> None:
        """Show how far it is: not at all."""


class Lines(Nothing):
    """Writes a line to stderr for every change of state, and for every tenth."""

    def __init__(self) -> None:
        self._told: tuple[str, int] = ("", -1)

    def take(self, view: Download) -> None:
        """Show how far it is."""
        now = (view.state, int(view.percent) // STEP_PERCENT)
        if view.state not in {"complete", "failed", "cancelled"} and now != self._told:
            self._told = now
            note(one_line(line(view)))


class Bar(Nothing):
    """Draws a bar on stderr: bytes, rate, time left."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        """Begin to draw."""
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        console = Console(stderr=True, no_color=not colourful(sys.stderr), highlight=False)
        columns = (BarColumn(None), DownloadColumn(binary_units=True), TextColumn("{task.description}", markup=False))
        self._progress = Progress(*columns, console=console, transient=True)
        self._progress.start()
        self._task = self._progress.add_task("", total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take it away."""
        if self._progress is not None:
            self._progress.stop()

    def take(self, view: Download) -> None:
        """Show how far it is."""
        if self._progress is None or self._task is None:
            return
        total = view.bytes_total if isinstance(view.bytes_total, int) else None
        self._progress.update(self._task, completed=view.bytes_done, total=total, description=_beside(view))


def _beside(view: Download) -> str:
    """Return what stands beside the bar, which has the bytes already."""
    if view.state != "downloading":
        return one_line(line(view))
    rate = f"{size(round(view.rate_bytes_s))}/s" if view.rate_bytes_s > 0 else ""
    left = f"{duration(view.seconds_left * 1000)} left" if isinstance(view.seconds_left, float | int) else ""
    return " · ".join(part for part in (rate, left) if part)


def _shown(*, as_json: bool) -> Shown:
    if as_json:
        return Nothing()
    return Bar() if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else Lines()


def _ended(event: Event, shown: Shown) -> bool:
    if event.kind == "error":
        raise DownloadFailed(decode_reply(event.data, Failed).message)
    shown.take(decode_reply(event.data, Download))
    return event.kind == "complete"


async def _there(client: Client, started: Started) -> bool:
    """Tell whether a download that the pool does not know any more has left its model."""
    with contextlib.suppress(RemoteError):
        stored = await client.send("GET", f"/v2/models/{started.download_id}", StoredModel)
        return not stored.corrupt
    return False
