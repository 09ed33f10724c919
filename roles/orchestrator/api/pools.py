"""Addresses of pools: what they say, and what operators ask of them."""

from __future__ import annotations

from aiohttp import web

from llorch.edge import Endpoint, query, read, reply
from llorch.wire.models import DownloadModel, Started
from llorch.wire.pools import Heartbeat, HeartbeatReply, Pool, PoolList, Register, Registered, Spawned, SpawnWorker
from roles.orchestrator.api.keys import CORE, SETTINGS
from roles.orchestrator.pool_record import public


async def register(request: web.Request) -> web.Response:
    """POST /v2/pools/register: take in a pool, or take it in again."""
    body = await read(request, Register)
    await request.app[CORE].register(body)
    interval_ms = round(request.app[SETTINGS].orchestrator.heartbeat_interval_s * 1000)
    return reply(Registered(body.pool_id, interval_ms))


async def heartbeat(request: web.Request) -> web.Response:
    """POST /v2/pools/{id}/heartbeat: what a pool has now."""
    beat = await read(request, Heartbeat)
    await request.app[CORE].heard(request.match_info["id"], beat)
    return reply(HeartbeatReply(beat.seq))


async def remove(request: web.Request) -> web.Response:
    """DELETE /v2/pools/{id}: a pool says goodbye."""
    query(request)
    await request.app[CORE].remove_pool(request.match_info["id"])
    return web.Response(status=204)


async def pools(request: web.Request) -> web.Response:
    """GET /v2/pools."""
    query(request)
    return reply(PoolList(request.app[CORE].fleet.pools()))


async def pool(request: web.Request) -> web.Response:
    """GET /v2/pools/{id}."""
    query(request)
    return reply(public(request.app[CORE].fleet.pool(request.match_info["id"])))


async def drain(request: web.Request) -> web.Response:
    """POST /v2/pools/{id}/drain: give it no new jobs and workers; what runs there goes on."""
    query(request)
    return reply(await request.app[CORE].drain_pool(request.match_info["id"]))


async def resume(request: web.Request) -> web.Response:
    """DELETE /v2/pools/{id}/drain: give it work again."""
    query(request)
    await request.app[CORE].resume_pool(request.match_info["id"])
    return web.Response(status=204)


async def spawn(request: web.Request) -> web.Response:
    """POST /v2/pools/{id}/workers/spawn: ask a pool for a worker."""
    body = await read(request, SpawnWorker)
    return reply(await request.app[CORE].spawn(request.match_info["id"], body), status=202)


async def download(request: web.Request) -> web.Response:
    """POST /v2/pools/{id}/models/download: have a pool fetch a model, from another pool that has it, else the hub."""
    started = await request.app[CORE].download(request.match_info["id"], await read(request, DownloadModel))
    return reply(started, status=200 if started.state in {"planned", "complete"} else 202)


_ID = "/v2/pools/{id}"
_CONFLICT = (409,)
_OF_THE_POOL = (409, 502, 503)
_DOWNLOAD = "Have a pool fetch a model; `model_ref` may be an alias here, and pools that have it are asked first."
_DRAIN = "Give a pool no new jobs and workers until this is deleted; what runs there goes on."
_SPAWN = "Ask a pool for a worker; `model_ref` may be an alias here."

ENDPOINTS = (
    Endpoint(
        "POST",
        "/v2/pools/register",
        register,
        "Register a pool.",
        body=Register,
        replies={200: Registered},
        refusals=_CONFLICT,
    ),
    Endpoint("GET", "/v2/pools", pools, "All pools.", replies={200: PoolList}),
    Endpoint("GET", _ID, pool, "One pool.", replies={200: Pool}),
    Endpoint("DELETE", _ID, remove, "Forget a pool.", replies={204: None}),
    Endpoint(
        "POST",
        _ID + "/heartbeat",
        heartbeat,
        "What a pool has now.",
        body=Heartbeat,
        replies={200: HeartbeatReply},
        refusals=_CONFLICT,
    ),
    Endpoint("POST", _ID + "/drain", drain, _DRAIN, replies={200: Pool}),
    Endpoint("DELETE", _ID + "/drain", resume, "Give a drained pool work again.", replies={204: None}),
    *(
        Endpoint("POST", path, spawn, _SPAWN, body=SpawnWorker, replies={202: Spawned}, refusals=_OF_THE_POOL)
        for path in (_ID + "/workers/spawn", "/pools/{id}/workers/spawn")
    ),
    Endpoint(
        "POST",
        _ID + "/models/download",
        download,
        _DOWNLOAD,
        body=DownloadModel,
        replies={200: Started, 202: Started},
        refusals=(*_OF_THE_POOL, 507),
    ),
)
