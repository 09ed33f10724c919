"""Addresses that tell of the orchestrator itself."""

from __future__ import annotations

from aiohttp import web

from llorch import __version__, openapi
from llorch.edge import Endpoint, query, reply
from llorch.models import BUILTIN_ALIASES
from llorch.wire.meta import Capabilities, Health, ReadyReply, Version
from llorch.wire.tasks import MAX_TIMEOUT_MS
from roles.orchestrator.api import (
    anthropic,
    batches,
    decisions,
    embeddings,
    ollama,
    ollama_models,
    openai,
    operations,
    pools,
    responses,
    tasks,
)
from roles.orchestrator.api.keys import CORE, SETTINGS


async def health(_request: web.Request) -> web.Response:
    """GET /health: the process answers."""
    return reply(Health("ok"))


async def ready(request: web.Request) -> web.Response:
    """GET /ready: 200 when it takes work, 503 when it does not."""
    query(request)
    core = request.app[CORE]
    if core.draining:
        return reply(ReadyReply(ready=False, reason="shutting down"), status=503)
    if not core.fleet.online():
        return reply(ReadyReply(ready=True, reason="no pool is online: jobs are accepted and wait"))
    return reply(ReadyReply(ready=True))


async def version(request: web.Request) -> web.Response:
    """GET /v2/meta/version."""
    query(request)
    return reply(Version(__version__, "orchestrator"))


async def capabilities(request: web.Request) -> web.Response:
    """GET /v2/meta/capabilities."""
    query(request)
    core, settings = request.app[CORE], request.app[SETTINGS].orchestrator
    online = core.fleet.online()
    workers = [w for p in online for w in p.workers.values() if w.status in {"ready", "busy"}]
    return reply(
        Capabilities(
            engines=sorted({worker.engine for worker in workers}),
            priorities=["interactive", "batch"],
            aliases={**BUILTIN_ALIASES, **core.aliases},
            models=sorted({model.model_ref for record in online for model in record.servable}),
            max_body_bytes=settings.max_body_bytes,
            max_timeout_ms=MAX_TIMEOUT_MS,
            queue_capacity=settings.queue_capacity,
            slots=sum(worker.slots for worker in workers),
            slots_busy=sum(core.fleet.leases(worker.worker_id) for worker in workers),
        )
    )


async def document(_request: web.Request) -> web.Response:
    """GET /openapi.json."""
    return reply(openapi.document("llorch orchestrator", ENDPOINTS))


ENDPOINTS = (
    *operations.ENDPOINTS,
    *tasks.ENDPOINTS,
    *openai.ENDPOINTS,
    *embeddings.ENDPOINTS,
    *batches.ENDPOINTS,
    *anthropic.ENDPOINTS,
    *responses.ENDPOINTS,
    *ollama.ENDPOINTS,
    *ollama_models.ENDPOINTS,
    *pools.ENDPOINTS,
    *decisions.ENDPOINTS,
    Endpoint("GET", "/health", health, "The process answers.", replies={200: Health}, access="open"),
    Endpoint("GET", "/ready", ready, "Whether it takes work.", replies={200: ReadyReply, 503: ReadyReply}),
    Endpoint("GET", "/v2/meta/version", version, "Its version.", replies={200: Version}),
    Endpoint("GET", "/v2/meta/capabilities", capabilities, "What can be asked for.", replies={200: Capabilities}),
    Endpoint("GET", "/openapi.json", document, "This document."),
)
