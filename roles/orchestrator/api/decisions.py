"""Addresses of the decision log: what was decided lately, and from what."""

from __future__ import annotations

import msgspec
from aiohttp import web

from llorch.edge import Endpoint, Parameter, query, reply
from llorch.errors import NotFound
from llorch.wire.codec import FieldProblem, invalid
from llorch.wire.decisions import DecisionLine, DecisionList, DecisionRecord, DecisionSummary
from roles.orchestrator.api.keys import CORE
from roles.orchestrator.scheduler.decisions import Decision, Dispatch, Hold, StopWorker
from roles.orchestrator.scheduler.journal import Entry

MAX_LIMIT = 512


async def decisions(request: web.Request) -> web.Response:
    """GET /v2/decisions: the last ones, oldest first."""
    text = query(request, "limit").get("limit", "50")
    if not (text.isascii() and text.isdigit() and len(text) < 17 and 1 <= int(text) <= MAX_LIMIT):
        raise invalid([FieldProblem("limit", f"expected an integer from 1 to {MAX_LIMIT}")])
    entries = request.app[CORE].dispatcher.placement.journal.entries(int(text))
    return reply(DecisionList([_summary(entry) for entry in entries]))


async def decision(request: web.Request) -> web.Response:
    """GET /v2/decisions/{seq}: one, with the snapshot it was made from."""
    query(request)
    text = request.match_info["seq"]
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 17 else 0
    entry = request.app[CORE].dispatcher.placement.journal.entry(number)
    if entry is None:
        raise NotFound("there is no such decision, or it is not kept any more")
    return reply(
        DecisionRecord(
            seq=entry.seq,
            digest=entry.digest,
            snapshot=msgspec.to_builtins(entry.snapshot),
            decisions=[msgspec.to_builtins(decision) for decision in entry.decisions],
        )
    )


def _summary(entry: Entry) -> DecisionSummary:
    return DecisionSummary(
        seq=entry.seq,
        time_ms=entry.snapshot.now_ms,
        model_ref=entry.model_ref,
        digest=entry.digest,
        decisions=[
            DecisionLine(str(decision.__struct_config__.tag), _about(decision), decision.text)
            for decision in entry.decisions
        ],
    )


def _about(decision: Decision) -> str:
    if isinstance(decision, Dispatch | Hold):
        return f"job {decision.job_id}"
    if isinstance(decision, StopWorker):
        return f"worker {decision.worker_id}"
    return decision.model_ref


ENDPOINTS = (
    Endpoint(
        "GET",
        "/v2/decisions",
        decisions,
        "The last decisions of the scheduler, oldest first.",
        replies={200: DecisionList},
        parameters=(Parameter("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 50}),),
    ),
    Endpoint(
        "GET", "/v2/decisions/{seq}", decision, "One decision and all it was made from.", replies={200: DecisionRecord}
    ),
)
