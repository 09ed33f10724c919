"""The worker's HTTP addresses: decode, one call, encode."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import aclosing

from aiohttp import web
from msgspec import UNSET

from llorch.edge import Endpoint, Parameter, query, read, reply, stream
from llorch.wire.codec import FieldProblem, invalid
from llorch.wire.events import ID_SCHEMA, START, parse_event_id
from llorch.wire.workers import (
    CancelAccepted,
    CancelJob,
    CountTokens,
    Execute,
    ShuttingDown,
    TokenCount,
    WorkerHealth,
)
from roles.worker.core import Core

CORE = web.AppKey("core", Core)
END: web.AppKey[Callable[[], None]] = web.AppKey("end")
"""What begins the end of this worker: another one where it is no process of its own."""


async def execute(request: web.Request) -> web.StreamResponse:
    """POST /execute: run a job; its events are the answer. When the reader leaves, the job goes on."""
    job = await request.app[CORE].execute(await read(request, Execute))
    async with aclosing(job.follow(hang_up=_hang_up(request))) as blocks:
        return await stream(request, blocks)


async def events(request: web.Request) -> web.StreamResponse:
    """GET /jobs/{job_id}/events: a job's events after the one named, past ones first. The newest reader gets them."""
    given = request.headers.get("Last-Event-ID") or query(request, "after").get("after", "")
    after = parse_event_id(given) if given else START
    job = request.app[CORE].jobs.get(request.match_info["job_id"])
    position = job.position_after(after)
    async with aclosing(job.follow(position, after=after, hang_up=_hang_up(request))) as blocks:
        return await stream(request, blocks)


async def cancel(request: web.Request) -> web.Response:
    """POST /cancel: stop a job; the same answer however often it is asked."""
    body = await read(request, CancelJob)
    return reply(request.app[CORE].cancel(body), status=202)


async def count(request: web.Request) -> web.Response:
    """POST /count: how many tokens a prompt is."""
    return reply(await request.app[CORE].count(await read(request, CountTokens)))


async def health(request: web.Request) -> web.Response:
    """GET /health: what is known without asking the engine."""
    return reply(request.app[CORE].health())


async def shutdown(request: web.Request) -> web.Response:
    """POST /shutdown: drain and end, as on SIGTERM, but for the time that jobs get. Asked again, only that changes."""
    given = query(request, "drain_s").get("drain_s")
    if request.app[CORE].ends(UNSET if given is None else drain_time(given)):
        request.app[END]()
    return reply(ShuttingDown("draining"), status=202)


def drain_time(text: str) -> float | None:
    """Return the seconds that a text says; None where they have no end. Pure.

    Raises:
        InvalidRequest: It is no number, or less than 0.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise invalid([FieldProblem("drain_s", "expected seconds, 0 or more, or inf")])
    return None if math.isinf(seconds) else seconds


def end_process() -> None:
    """End as SIGTERM does. The worker is the process."""
    os.kill(os.getpid(), signal.SIGTERM)


def _hang_up(request: web.Request) -> Callable[[], None] | None:
    return None if request.transport is None else request.transport.abort


ENDPOINTS: Sequence[Endpoint] = (
    Endpoint("POST", "/execute", execute, "Run a job.", {200: None}, Execute, events=True, refusals=(409, 502, 503)),
    Endpoint(
        "GET",
        "/jobs/{job_id}/events",
        events,
        "Follow a job again.",
        {200: None},
        events=True,
        parameters=(
            Parameter("Last-Event-ID", ID_SCHEMA, "header", "The last event that has been seen"),
            Parameter("after", ID_SCHEMA, description="The same, for those who cannot set headers"),
        ),
    ),
    Endpoint("POST", "/cancel", cancel, "Cancel a job.", {202: CancelAccepted}, CancelJob),
    Endpoint("POST", "/count", count, "Count a prompt's tokens.", {200: TokenCount}, CountTokens, refusals=(502, 503)),
    Endpoint("GET", "/health", health, "The worker's state.", {200: WorkerHealth}, access="open"),
    Endpoint(
        "POST",
        "/shutdown",
        shutdown,
        "Drain and end.",
        {202: ShuttingDown},
        parameters=(
            Parameter(
                "drain_s",
                {"type": "string", "pattern": r"^([0-9]{1,9}([.][0-9]{1,9})?|inf)$"},
                description="Seconds that running jobs may take, or inf; without it, as the worker was started with",
            ),
        ),
    ),
)
