"""The pool's addresses: decode, one call, encode."""

from __future__ import annotations

import ipaddress
import os
import signal

from aiohttp import web

from llorch import __version__, openapi
from llorch.edge import Endpoint, check_token, query, read, reply
from llorch.errors import Forbidden
from llorch.wire.meta import Health, ReadyReply, Version
from llorch.wire.pools import JoinOrchestrator, PoolStatus, Spawned, SpawnWorker, Worker, WorkerList, WorkerLogs
from llorch.wire.workers import Ready
from roles.pool import models_api
from roles.pool.models_api import POOL
from roles.pool.registration import Registration
from roles.pool.worker_lifecycle.records import view

REGISTRATION = web.AppKey("registration", Registration)


async def status(request: web.Request) -> web.Response:
    """GET /v2/status: devices, workers, models, disk."""
    query(request)
    return reply(await request.app[POOL].status())


async def spawn(request: web.Request) -> web.Response:
    """POST /v2/workers/spawn: start a worker, if preflight passes."""
    body = await read(request, SpawnWorker)
    record = await request.app[POOL].spawn(body)
    return reply(Spawned(record.worker_id, record.status), status=202)


async def workers(request: web.Request) -> web.Response:
    """GET /v2/workers: those that live, and those that ended lately."""
    query(request)
    return reply(WorkerList([view(record) for record in request.app[POOL].supervisor.workers()]))


async def worker(request: web.Request) -> web.Response:
    """GET /v2/workers/{id}."""
    query(request)
    return reply(view(request.app[POOL].supervisor.worker(request.match_info["id"])))


async def stop(request: web.Request) -> web.Response:
    """POST /v2/workers/{id}/stop: drain, then SIGTERM, then SIGKILL; idempotent."""
    return reply(view(request.app[POOL].supervisor.stop(request.match_info["id"])), status=202)


async def drain(request: web.Request) -> web.Response:
    """POST /v2/workers/{id}/drain: let it finish its jobs and end; idempotent."""
    return reply(view(request.app[POOL].supervisor.drain(request.match_info["id"])), status=202)


async def logs(request: web.Request) -> web.Response:
    """GET /v2/workers/{id}/logs: the last lines that it logged."""
    query(request)
    worker_id = request.match_info["id"]
    return reply(WorkerLogs(worker_id, list(await request.app[POOL].supervisor.logs(worker_id))))


async def handover(request: web.Request) -> web.Response:
    """POST /v2/handover: end this process as on SIGTERM, but leave the workers to the next one of this pool."""
    left = request.app[POOL].supervisor.hand_over()
    os.kill(os.getpid(), signal.SIGTERM)
    return reply(WorkerList([view(record) for record in left]), status=202)


async def worker_ready(request: web.Request) -> web.Response:
    """POST /v2/internal/workers/ready: a worker of this host has loaded its model."""
    if not from_this_machine(request):
        raise Forbidden("only workers of this host may call this address")
    body = await read(request, Ready)
    supervisor = request.app[POOL].supervisor
    check_token(request, supervisor.worker(body.worker_id).token)
    return reply(view(supervisor.ready(body.worker_id, body)))


async def health(_request: web.Request) -> web.Response:
    """GET /health: the process answers."""
    return reply(Health("ok"))


async def ready(request: web.Request) -> web.Response:
    """GET /ready: 200 when it starts workers, 503 when it does not."""
    query(request)
    if request.app[POOL].supervisor.draining:
        return reply(ReadyReply(ready=False, reason="shutting down"), status=503)
    return reply(ReadyReply(ready=True))


async def report(request: web.Request) -> web.Response:
    """POST /v2/report: the orchestrator has come back and wants to know."""
    query(request)
    request.app[POOL].supervisor.roster.changed()
    return web.Response(status=204)


async def join(request: web.Request) -> web.Response:
    """POST /v2/orchestrator: register with that orchestrator, and report to it until this process ends."""
    body = await read(request, JoinOrchestrator)
    await request.app[REGISTRATION].move(body.url.rstrip("/"))
    return reply(await request.app[POOL].status())


async def version(request: web.Request) -> web.Response:
    """GET /v2/meta/version."""
    query(request)
    return reply(Version(__version__, "pool"))


async def document(_request: web.Request) -> web.Response:
    """GET /openapi.json."""
    return reply(openapi.document("llorch pool", ENDPOINTS))


def from_this_machine(request: web.Request) -> bool:
    """Tell whether the caller runs on this machine: from a loopback address, or from the one that was called."""
    transport = request.transport
    peer = transport.get_extra_info("peername") if transport else None
    own = transport.get_extra_info("sockname") if transport else None
    return same_machine(peer[0] if peer else "", own[0] if own else "")


def same_machine(peer: str, own: str) -> bool:
    """Tell whether a connection from *peer* to *own* cannot have come over a network."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or peer == own


_ID = "/v2/workers/{id}"
_STATUS = "Devices, workers, models, disk."
_SPAWN = "Start a worker for a resolved model reference, if it fits."

ENDPOINTS = (
    Endpoint("GET", "/v2/status", status, _STATUS, replies={200: PoolStatus}),
    Endpoint("GET", "/status", status, _STATUS, replies={200: PoolStatus}),
    *(
        Endpoint("POST", path, spawn, _SPAWN, body=SpawnWorker, replies={202: Spawned}, refusals=(404, 409, 503))
        for path in ("/v2/workers/spawn", "/workers/spawn")
    ),
    Endpoint("GET", "/v2/workers", workers, "All workers.", replies={200: WorkerList}),
    Endpoint("GET", _ID, worker, "One worker.", replies={200: Worker}),
    Endpoint("POST", _ID + "/stop", stop, "Stop a worker.", replies={202: Worker}),
    Endpoint("POST", _ID + "/drain", drain, "Let a worker finish and end.", replies={202: Worker}),
    Endpoint("GET", _ID + "/logs", logs, "A worker's last log lines.", replies={200: WorkerLogs}),
    Endpoint(
        "POST",
        "/v2/handover",
        handover,
        "End the pool but not its workers, which its next process takes over; for upgrades.",
        replies={202: WorkerList},
        refusals=(409,),
    ),
    *models_api.ENDPOINTS,
    Endpoint(
        "POST",
        "/v2/internal/workers/ready",
        worker_ready,
        "A worker of this host has loaded its model; asks for the worker's own token.",
        body=Ready,
        replies={200: Worker},
        refusals=(403, 404, 409),
        access="own",
    ),
    Endpoint("POST", "/v2/report", report, "Tell the orchestrator everything now.", replies={204: None}),
    Endpoint(
        "POST",
        "/v2/orchestrator",
        join,
        "Register with that orchestrator and leave the present one, until this process ends.",
        body=JoinOrchestrator,
        replies={200: PoolStatus},
        refusals=(409, 502),
    ),
    Endpoint("GET", "/health", health, "The process answers.", replies={200: Health}, access="open"),
    Endpoint("GET", "/ready", ready, "Whether it starts workers.", replies={200: ReadyReply, 503: ReadyReply}),
    Endpoint("GET", "/v2/meta/version", version, "Its version.", replies={200: Version}),
    Endpoint("GET", "/openapi.json", document, "This document."),
)
