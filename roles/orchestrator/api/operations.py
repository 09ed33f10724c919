"""Addresses for operators: the queue at a glance, and erasing what is no longer wanted."""

from __future__ import annotations

from aiohttp import web

from llorch.edge import Endpoint, Parameter, query, read, reply
from llorch.wire.codec import FieldProblem, invalid
from llorch.wire.operations import Overview, Purge, Purged
from roles.orchestrator.api.keys import OPERATIONS

MAX_LIMIT = 200
MAX_TIME_MS = 2**53


async def overview(request: web.Request) -> web.Response:
    """GET /v2/queue: running jobs, the first waiting ones, and those that ended lately."""
    given = query(request, "limit", "finished_since_ms")
    problems: list[FieldProblem] = []
    for name, most in (("limit", MAX_LIMIT), ("finished_since_ms", MAX_TIME_MS)):
        text = given.get(name, "1")
        if not (text.isascii() and text.isdigit() and len(text) < 17 and 1 <= int(text) <= most):
            problems.append(FieldProblem(name, f"expected an integer from 1 to {most}"))
    if problems:
        raise invalid(problems)
    since_ms = int(given["finished_since_ms"]) if "finished_since_ms" in given else None
    limit = int(given.get("limit", "50"))
    return reply(await request.app[OPERATIONS].overview(finished_since_ms=since_ms, limit=limit))


async def purge(request: web.Request) -> web.Response:
    """POST /v2/tasks/purge: erase jobs that have ended, or only their texts."""
    return reply(await request.app[OPERATIONS].purge(await read(request, Purge)))


ENDPOINTS = (
    Endpoint(
        "GET",
        "/v2/queue",
        overview,
        "The queue at a glance: running jobs, the next ones, those that ended lately.",
        replies={200: Overview},
        parameters=(
            Parameter(
                "limit",
                {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 50},
                description="Most jobs of each kind.",
            ),
            Parameter(
                "finished_since_ms",
                {"type": "integer", "minimum": 1, "maximum": MAX_TIME_MS},
                description="With jobs that ended at or after this time; none without it.",
            ),
        ),
    ),
    Endpoint(
        "POST",
        "/v2/tasks/purge",
        purge,
        "Erase jobs that have ended, or only their texts. Waiting and running jobs are never touched.",
        body=Purge,
        replies={200: Purged},
    ),
)
