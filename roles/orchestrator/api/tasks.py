"""Addresses of the client API: jobs and their events."""

from __future__ import annotations

import msgspec
from aiohttp import web
from msgspec import UNSET

from llorch import log
from llorch.edge import (
    Endpoint,
    Parameter,
    bearer,
    correlation_id,
    query,
    read,
    reply,
    stream,
    wants_events,
)
from llorch.job import FINAL, State
from llorch.wire.codec import FieldProblem, invalid
from llorch.wire.events import ID_SCHEMA, START, EventId, parse_event_id
from llorch.wire.tasks import (
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_KEY_EXPECTED,
    Accepted,
    CancelReply,
    Explanation,
    Priority,
    SubmitTask,
    Task,
    TaskPage,
)
from roles.orchestrator.api.keys import CORE
from roles.orchestrator.state.rows import Filter

MAX_LIMIT = 200
_PRIORITIES = ("interactive", "batch")


async def submit(request: web.Request) -> web.StreamResponse:
    """POST /v2/tasks: queue a job; answer 202, or its events if the client accepts them.

    A refusal is always an HTTP status, because nothing is streamed before the job is durable.
    """
    core = request.app[CORE]
    task = await read(request, SubmitTask)
    owner = _owner(request)
    accepted = await core.submissions.submit(
        task, key=_key(request), owner=owner, correlation_id=correlation_id(request)
    )
    headers = {"X-Job-Id": accepted.job_id}
    if wants_events(request):
        return await stream(request, await core.follow(accepted.job_id, START, owner=owner), headers=headers)
    return reply(accepted, status=202, headers=headers | {"Location": f"/v2/tasks/{accepted.job_id}"})


async def page(request: web.Request) -> web.Response:
    """GET /v2/tasks: jobs, newest first."""
    tasks, before = await request.app[CORE].tasks(_filter(request))
    return reply(TaskPage(tasks=tasks, next_cursor=UNSET if before is None else str(before)))


async def show(request: web.Request) -> web.Response:
    """GET /v2/tasks/{id}: everything known about a job."""
    query(request)
    return reply(await request.app[CORE].task(request.match_info["id"]))


async def follow(request: web.Request) -> web.StreamResponse:
    """GET /v2/tasks/{id}/events: its events, behind `Last-Event-ID` or `?after=`."""
    after = query(request, "after").get("after", "")
    given = request.headers.get("Last-Event-ID", "") or after
    position: EventId = parse_event_id(given) if given else START
    events = await request.app[CORE].follow(request.match_info["id"], position, owner=_owner(request))
    return await stream(request, events)


async def cancel(request: web.Request) -> web.Response:
    """DELETE /v2/tasks/{id}: end a job; 202 while its worker still has it, 200 once it is final."""
    query(request)
    answer = await request.app[CORE].cancel(request.match_info["id"])
    return reply(answer, status=200 if answer.status in FINAL else 202)


async def why(request: web.Request) -> web.Response:
    """GET /v2/tasks/{id}/explain: why a job is where it is."""
    query(request)
    return reply(await request.app[CORE].explain(request.match_info["id"]))


def _key(request: web.Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
        raise invalid([FieldProblem("Idempotency-Key", IDEMPOTENCY_KEY_EXPECTED)])
    return key


def _owner(request: web.Request) -> str:
    token = bearer(request)
    return log.fingerprint(token) if token else ""


def _filter(request: web.Request) -> Filter:
    given = query(request, "status", "model", "priority", "session_id", "limit", "cursor")
    problems: list[FieldProblem] = []
    states = [state.value for state in State]
    if given.get("status", states[0]) not in states:
        problems.append(FieldProblem("status", f"expected one of {', '.join(states)}"))
    if given.get("priority", _PRIORITIES[0]) not in _PRIORITIES:
        problems.append(FieldProblem("priority", f"expected one of {', '.join(_PRIORITIES)}"))
    for name, most in (("limit", MAX_LIMIT), ("cursor", 2**53)):
        text = given.get(name, "1")
        if not (text.isascii() and text.isdigit() and len(text) < 17 and 1 <= int(text) <= most):
            problems.append(FieldProblem(name, f"expected an integer from 1 to {most}"))
    if problems:
        raise invalid(problems)
    return Filter(
        limit=int(given.get("limit", "50")),
        before_seq=int(given["cursor"]) if "cursor" in given else None,
        state=State(given["status"]) if "status" in given else None,
        model=given.get("model"),
        priority=msgspec.convert(given["priority"], Priority) if "priority" in given else None,
        session_id=given.get("session_id"),
    )


_ID = "/v2/tasks/{id}"

ENDPOINTS = (
    Endpoint(
        "POST",
        "/v2/tasks",
        submit,
        "Submit a job. 202: it is on disk. With `Accept: text/event-stream` the answer is its event stream.",
        body=SubmitTask,
        replies={202: Accepted, 200: None},
        refusals=(404, 409, 429, 503, 507),
        parameters=(
            Parameter(
                "Idempotency-Key",
                {"type": "string", "pattern": r"^[!-~]{1,255}$"},
                place="header",
                description="The same key and body give the same job.",
            ),
        ),
        events=True,
    ),
    Endpoint(
        "GET",
        "/v2/tasks",
        page,
        "List jobs, newest first.",
        replies={200: TaskPage},
        parameters=(
            Parameter("status", {"type": "string", "enum": [state.value for state in State]}),
            Parameter("model", {"type": "string"}, description="The name that jobs were submitted with."),
            Parameter("priority", {"type": "string", "enum": list(_PRIORITIES)}),
            Parameter("session_id", {"type": "string"}),
            Parameter("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 50}),
            Parameter("cursor", {"type": "string", "pattern": "^[1-9][0-9]{0,14}$"}, description="From `next_cursor`."),
        ),
    ),
    Endpoint("GET", _ID, show, "Everything known about a job.", replies={200: Task}),
    Endpoint(
        "GET",
        _ID + "/events",
        follow,
        "A job's events, past and live.",
        replies={200: None},
        parameters=(
            Parameter("after", ID_SCHEMA, description="Go on behind this event id, or behind this many tokens."),
            Parameter("Last-Event-ID", ID_SCHEMA, place="header", description="The same; sent by browsers."),
        ),
        events=True,
    ),
    Endpoint(
        "DELETE",
        _ID,
        cancel,
        "Cancel a job. 202 while its worker still has it, 200 with the outcome once it is final.",
        replies={200: CancelReply, 202: CancelReply},
    ),
    Endpoint("POST", _ID + "/cancel", cancel, "The same as DELETE.", replies={200: CancelReply, 202: CancelReply}),
    Endpoint("GET", _ID + "/explain", why, "Why a job is where it is.", replies={200: Explanation}),
)
