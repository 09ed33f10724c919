"""What `llorch jobs submit` does: submit one job, show its events as they come, cancel it when the user has enough."""

from __future__ import annotations

import asyncio
import contextlib
import uuid

import aiohttp
import msgspec

from llorch.cli.figures import summary
from llorch.cli.output import ReaderGone, Status, note, one_line, write, write_json, write_text
from llorch.client import Client
from llorch.errors import LlorchError, Unreachable
from llorch.sse import Event
from llorch.wire.codec import decode_reply
from llorch.wire.events import End, Failed, Loading, Queued, Token
from llorch.wire.tasks import Accepted, CancelReply, SubmitTask

SUBMIT_TRIES = 4
RETRY_WAIT_S = 0.5
CANCEL_TIMEOUT_S = 5.0


class JobFailed(LlorchError):
    """The job ended with an `error` event."""


async def submit(client: Client, task: SubmitTask, *, key: str = "") -> Accepted:
    """Submit a job; a lost answer is asked for again, and the key keeps that from making two jobs.

    Raises:
        RemoteError: Refused.
        Unreachable: The orchestrator does not answer.
    """
    headers = {"Idempotency-Key": key or str(uuid.uuid4()), "Accept": "application/json"}
    for left in reversed(range(SUBMIT_TRIES)):
        try:
            return await client.send("POST", "/v2/tasks", Accepted, body=task, headers=headers)
        except Unreachable as error:
            if not left or isinstance(error.__cause__, aiohttp.ClientConnectorError):
                raise
        await asyncio.sleep(RETRY_WAIT_S)
    raise AssertionError


async def show(client: Client, events_url: str, *, as_json: bool = False) -> int:
    """Follow a job to its end and print its text, or its events as JSON lines; return the exit status.

    Raises:
        JobFailed: It ended with an error. With *as_json* that is the last line instead, and status 1.
        ReaderGone: Nobody reads our output any more.
    """
    printer = EventPrinter() if as_json else TextPrinter()
    with contextlib.closing(printer):
        async with contextlib.aclosing(client.follow(events_url)) as events:
            async for event in events:
                printer.take(event)
    return printer.status


async def submit_and_show(client: Client, task: SubmitTask, *, key: str = "", as_json: bool = False) -> int:
    """Submit a job and `show` it. Ctrl-C (asyncio cancels us), or a reader that goes, cancels the job."""
    job = await submit(client, task, key=key)
    try:
        return await show(client, job.events_url, as_json=as_json)
    except (asyncio.CancelledError, ReaderGone):
        await cancel_job(client, job.job_id)
        raise


class EventPrinter:
    """Prints events as JSON lines."""

    status = 0

    def take(self, event: Event) -> None:
        """Print one."""
        write_json({"event": event.kind, "id": event.id, "data": msgspec.Raw(event.data)})
        if event.kind == "error":
            self.status = 1

    def close(self) -> None:
        """Nothing is held."""


class TextPrinter:
    """Prints the text as it comes; what happens before it, on a terminal, as one line that goes away."""

    status = 0

    def __init__(self) -> None:
        self._line = Status()
        self._last = ""

    def take(self, event: Event) -> None:
        """Print what one event brings.

        Raises:
            JobFailed: It is an `error`.
        """
        if event.kind == "token":
            self._line.close()
            self._last = decode_reply(event.data, Token).t or self._last
            write_text(self._last)
        elif event.kind == "queued":
            self._line.show(queued_text(decode_reply(event.data, Queued)))
        elif event.kind == "loading":
            self._line.show(loading_text(decode_reply(event.data, Loading)))
        elif event.kind == "end":
            self.close()
            end = decode_reply(event.data, End)
            note(
                summary(
                    tokens=end.tokens_out,
                    decode_ms=end.decode_time_ms,
                    first_token_ms=end.first_token_ms,
                    queue_ms=end.queue_ms,
                )
            )
        elif event.kind == "error":
            self.close()
            failed = decode_reply(event.data, Failed)
            raise JobFailed(f"{failed.code}: {one_line(failed.message)}")

    def close(self) -> None:
        """End the text with a line feed, and remove the status line."""
        self._line.close()
        if self._last and not self._last.endswith("\n"):
            self._last = ""
            write("\n")


def queued_text(event: Queued) -> str:
    """Say where a waiting job is."""
    place = "next in the queue" if event.position == 0 else f"queued, {event.position} before it"
    return f"{place}: {event.waiting_for}" if isinstance(event.waiting_for, str) else place


def loading_text(event: Loading) -> str:
    """Say how far the model is."""
    doing = {"starting": "starting a worker", "loading": "loading the model", "downloading": "downloading the model"}
    return f"{doing[event.stage]} … {event.percent:.0f} %" if event.stage != "starting" else f"{doing[event.stage]} …"


async def cancel_job(client: Client, job_id: str) -> None:
    """Cancel a job as far as that is possible; the user is leaving and gets a line where it is not."""
    try:
        await client.send("DELETE", f"/v2/tasks/{job_id}", CancelReply, timeout_s=CANCEL_TIMEOUT_S)
    except LlorchError as error:
        note(f"llorch: job {job_id} could not be cancelled: {error.message}")
