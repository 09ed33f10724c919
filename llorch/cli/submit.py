"""What `llorch jobs submit` does: submit one job, show its events as they come, cancel it when the user has enough.

Strategy: whatever is asked of the orchestrator may be asked again, because a job has its key before it is submitted
and its events have ids. An orchestrator that is away for a while costs a pause, at every step, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid

import msgspec

from llorch.cli.figures import summary
from llorch.cli.output import ReaderGone, Status, note, one_line, write, write_json, write_text
from llorch.cli.patience import patiently
from llorch.client import Client
from llorch.errors import LlorchError, Unreachable
from llorch.sse import Event
from llorch.tls import aiohttp
from llorch.wire.codec import decode_reply
from llorch.wire.embedding import Capability, read_vector
from llorch.wire.events import End, Failed, Loading, Queued, Started, Token
from llorch.wire.tasks import Accepted, CancelReply, SubmitTask

PATIENCE_S = 600.0
CANCEL_PATIENCE_S = 30.0
CANCEL_TIMEOUT_S = 5.0


class JobFailed(LlorchError):
    """The job ended with an `error` event."""


async def submit(client: Client, task: SubmitTask, *, key: str = "", patience_s: float = PATIENCE_S) -> Accepted:
    """Submit a job; a lost answer is asked for again, and the key keeps that from making two jobs.

    Raises:
        RemoteError: Refused.
        Unreachable: Nothing listens there; or what took the request stayed away.
    """
    headers = {"Idempotency-Key": key or str(uuid.uuid4()), "Accept": "application/json"}

    async def post() -> Accepted:
        return await client.send("POST", "/v2/tasks", Accepted, body=task, headers=headers)

    try:
        return await post()
    except Unreachable as error:
        if isinstance(error.__cause__, aiohttp.ClientConnectorError):
            raise
    return await patiently(post, patience_s=patience_s)


async def show(client: Client, events_url: str, *, after: str = "", as_json: bool = False) -> int:
    """Follow a job to its end and print its text, or its events as JSON lines; return the exit status.

    Args:
        client: The orchestrator.
        events_url: The job's events.
        after: The id of an event: print what comes behind it.
        as_json: Print events; an `error` is then the last line, and the status 1.

    Raises:
        JobFailed: It ended with an error.
        ReaderGone: Nobody reads our output any more.
    """
    printer = EventPrinter() if as_json else TextPrinter()
    with contextlib.closing(printer):
        async with contextlib.aclosing(client.follow(events_url, after=after, patience_s=PATIENCE_S)) as events:
            async for event in events:
                printer.take(event)
    return printer.status


async def submit_and_show(client: Client, task: SubmitTask, *, key: str = "", as_json: bool = False) -> int:
    """Submit a job and `show` it. Being told to stop (asyncio cancels us), or a reader that goes, cancels the job.

    Somebody who stops it is told what became of the job. `| head` has what it wanted: it hears of the job only when
    that could not be cancelled.
    """
    key = key or str(uuid.uuid4())
    job_id = ""
    try:
        job = await submit(client, task, key=key)
        job_id = job.job_id
        return await show(client, job.events_url, as_json=as_json)
    except asyncio.CancelledError:
        await (cancel_job(client, job_id) if job_id else _take_back(client, task, key))
        raise
    except ReaderGone:
        await cancel_job(client, job_id, quiet=True)
        raise


async def _take_back(client: Client, task: SubmitTask, key: str) -> None:
    """Cancel a job whose submission was not answered yet: submitted again under its key, it has an id."""
    try:
        async with asyncio.timeout(CANCEL_TIMEOUT_S):
            job = await submit(client, task, key=key, patience_s=0)
    except (LlorchError, TimeoutError):
        note(
            "llorch: the orchestrator did not answer, so the job may have been accepted; "
            f"to find out, submit it again with --idempotency-key {key}"
        )
        return
    await cancel_job(client, job.job_id)


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
    """Prints the text as it comes; what happens before it, on a terminal, as one line that goes away.

    A vector is a line of numbers, and so is a score.
    """

    status = 0

    def __init__(self) -> None:
        self._line = Status()
        self._last = ""
        self._kind: Capability = "text-gen"

    def take(self, event: Event) -> None:
        """Print what one event brings.

        Raises:
            JobFailed: It is an `error`.
        """
        if event.kind == "token":
            self._line.close()
            self._last = decode_reply(event.data, Token).t or self._last
            write_text(shown_vector(self._last) if self._kind == "embedding" else self._last)
        elif event.kind == "started":
            self._kind = decode_reply(event.data, Started).kind or "text-gen"
        elif event.kind == "queued" and not self._last:  # once there is text, a job that waits again is a pause
            self._line.show(queued_text(decode_reply(event.data, Queued)))
        elif event.kind == "loading" and not self._last:
            self._line.show(loading_text(decode_reply(event.data, Loading)))
        elif event.kind == "end":
            self.close()
            end = decode_reply(event.data, End)
            note(
                summary(
                    tokens=end.tokens_out if self._kind == "text-gen" else end.tokens_in,
                    read=self._kind != "text-gen",
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


def shown_vector(line: str) -> str:
    """Return a vector as people read it."""
    return f"[{', '.join(f'{number:.7g}' for number in read_vector(line))}]\n"


def queued_text(event: Queued) -> str:
    """Say where a waiting job is."""
    place = "next in the queue" if event.position == 0 else f"queued, {event.position} before it"
    return f"{place}: {event.waiting_for}" if isinstance(event.waiting_for, str) else place


def loading_text(event: Loading) -> str:
    """Say how far the model is."""
    doing = {"starting": "starting a worker", "loading": "loading the model", "downloading": "downloading the model"}
    return f"{doing[event.stage]} … {event.percent:.0f} %" if event.stage != "starting" else f"{doing[event.stage]} …"


async def cancel_job(client: Client, job_id: str, *, quiet: bool = False) -> None:
    """Cancel a job and say what became of it, *quiet* only what went wrong.

    While the orchestrator is away, it says that, and tries again for a while.
    """
    known_away = False

    def away(error: LlorchError) -> None:
        nonlocal known_away
        if not known_away:
            note(
                f"llorch: {error.message}; job {job_id} will be cancelled when it is back within "
                f"{CANCEL_PATIENCE_S:.0f} s; Ctrl-C again leaves it"
            )
        known_away = True

    async def ask() -> CancelReply:
        return await client.send("DELETE", f"/v2/tasks/{job_id}", CancelReply, timeout_s=CANCEL_TIMEOUT_S)

    try:
        answer = await patiently(ask, patience_s=CANCEL_PATIENCE_S, told=away)
    except LlorchError as error:
        note(f"llorch: job {job_id} was not cancelled: {error.message}; later: llorch jobs cancel {job_id}")
        return
    if not quiet:
        note(f"llorch: job {job_id}: {answer.status}")
