"""The pool's addresses for models and downloads: decode, one call, encode."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import msgspec
from aiohttp import web

from llorch.edge import Endpoint, Parameter, query, read, reply, stream
from llorch.errors import InvalidRequest
from llorch.sse import encode_event
from llorch.wire.codec import encode
from llorch.wire.events import Failed
from llorch.wire.models import (
    Deleted,
    DiskUsage,
    Download,
    DownloadList,
    DownloadModel,
    PinModel,
    Preloading,
    PreloadModel,
    RegisterModel,
    Started,
    StoredModel,
    Unregistered,
    Verified,
)
from llorch.wire.pools import ModelList
from roles.pool.core import Pool

POOL: web.AppKey[Pool] = web.AppKey("pool")
SHORTEST_S = 0.1
"""Between two events of progress: nobody reads faster."""


async def listed(request: web.Request) -> web.Response:
    """GET /v2/models: those that can be used."""
    query(request)
    return reply(ModelList(await request.app[POOL].models()))


async def one(request: web.Request) -> web.Response:
    """GET /v2/models/{id}: a model's files and hashes, and what became of it."""
    query(request)
    return reply(await request.app[POOL].library.model(request.match_info["id"]))


async def delete(request: web.Request) -> web.Response:
    """DELETE /v2/models/{id}: delete a download; never under a running worker."""
    query(request)
    return reply(await request.app[POOL].library.delete(request.match_info["id"]))


async def verify(request: web.Request) -> web.Response:
    """POST /v2/models/{id}/verify: read its files and compare their hashes."""
    query(request)
    return reply(await request.app[POOL].library.verify(request.match_info["id"]))


async def pin(request: web.Request) -> web.Response:
    """POST /v2/models/{id}/pin: keep it when room is needed, or not any more."""
    body = await read(request, PinModel)
    return reply(await request.app[POOL].library.pin(request.match_info["id"], pinned=body.pinned))


async def register(request: web.Request) -> web.Response:
    """POST /v2/models/register: list a file of one's own."""
    body = await read(request, RegisterModel)
    return reply(await request.app[POOL].library.register(body.model_ref))


async def unregister(request: web.Request) -> web.Response:
    """POST /v2/models/unregister: list it no longer; the file stays."""
    body = await read(request, RegisterModel)
    return reply(await request.app[POOL].library.unregister(body.model_ref))


async def usage(request: web.Request) -> web.Response:
    """GET /v2/models/disk-usage: what takes the space."""
    query(request)
    return reply(await request.app[POOL].library.usage())


async def file(request: web.Request) -> web.StreamResponse:
    """GET /v2/models/{id}/file: one file of a model, for other pools; knows ranges."""
    part = query(request, "part").get("part", "0")
    if not (part.isascii() and part.isdigit() and len(part) < 6):
        problem = "expected the number of a file, from 0"
        raise InvalidRequest(
            f"the request is not valid: part: {problem}", details={"fields": [{"field": "part", "problem": problem}]}
        )
    path = await request.app[POOL].library.file(request.match_info["id"], int(part))
    return web.FileResponse(path, headers={"Content-Type": "application/octet-stream"})


async def download(request: web.Request) -> web.Response:
    """POST /v2/models/download: fetch a model; the same one asked for twice is one download."""
    started = await request.app[POOL].downloads.ask(await read(request, DownloadModel))
    return reply(started, status=200 if started.state in {"planned", "complete"} else 202)


async def preload(request: web.Request) -> web.Response:
    """POST /v2/models/preload: read a model's file ahead, for a worker that is soon to load it."""
    body = await read(request, PreloadModel)
    return reply(await request.app[POOL].preload(body.model_ref), status=202)


async def downloads(request: web.Request) -> web.Response:
    """GET /v2/models/downloads: those that run, and those that ended lately."""
    query(request)
    return reply(DownloadList(request.app[POOL].downloads.downloads()))


async def one_download(request: web.Request) -> web.Response:
    """GET /v2/models/downloads/{id}."""
    query(request)
    return reply(request.app[POOL].downloads.download(request.match_info["id"]))


async def cancel(request: web.Request) -> web.Response:
    """DELETE /v2/models/downloads/{id}: end it and delete what has come; idempotent."""
    query(request)
    return reply(await request.app[POOL].downloads.cancel(request.match_info["id"]))


async def events(request: web.Request) -> web.StreamResponse:
    """GET /v2/models/downloads/{id}/events: progress, then complete or error."""
    found = request.app[POOL].downloads
    found.download(request.match_info["id"])
    return await stream(request, blocks(found.watch(request.match_info["id"])))


async def blocks(views: AsyncGenerator[Download, None]) -> AsyncGenerator[bytes, None]:
    """Yield a download's events as they are written."""
    number = 0
    async with contextlib.aclosing(views):
        async for view in views:
            number += 1
            kind, body = event(view)
            yield encode_event(kind, str(number), encode(body))
            await asyncio.sleep(SHORTEST_S)


def event(view: Download) -> tuple[str, msgspec.Struct]:
    """Return the event that tells where a download is. Pure."""
    if view.state == "complete":
        return "complete", view
    if view.state == "failed":
        return "error", Failed(code=str(view.error_code), message=str(view.error), retriable=False)
    if view.state == "cancelled":
        return "error", Failed(code="CANCELLED", message="the download was cancelled", retriable=False)
    return "progress", view


_ID = "/v2/models/{id}"
_DOWNLOADS = "/v2/models/downloads"
_DOWNLOAD = "Fetch a model of the hub, given by a reference that names a commit."
_PART = Parameter(
    "part",
    {"type": "integer", "minimum": 0, "maximum": 99_999},
    description="Which file of a set; the first is 0.",
)

# Fixed addresses before those with an id: the first that fits is taken.
ENDPOINTS = (
    Endpoint("GET", "/v2/models", listed, "The model files of this host.", replies={200: ModelList}),
    Endpoint(
        "POST",
        "/v2/models/download",
        download,
        _DOWNLOAD,
        body=DownloadModel,
        replies={200: Started, 202: Started},
        refusals=(507,),
    ),
    Endpoint(
        "POST",
        "/models/download",
        download,
        _DOWNLOAD,
        body=DownloadModel,
        replies={200: Started, 202: Started},
        refusals=(507,),
    ),
    Endpoint("GET", _DOWNLOADS, downloads, "Downloads.", replies={200: DownloadList}),
    Endpoint("GET", _DOWNLOADS + "/{id}", one_download, "One download.", replies={200: Download}),
    Endpoint("DELETE", _DOWNLOADS + "/{id}", cancel, "Cancel a download.", replies={200: Download}),
    Endpoint("GET", _DOWNLOADS + "/{id}/events", events, "Its progress, then complete or error.", events=True),
    Endpoint("GET", "/v2/models/disk-usage", usage, "What takes the space.", replies={200: DiskUsage}),
    Endpoint(
        "POST",
        "/v2/models/register",
        register,
        "List a file of one's own.",
        body=RegisterModel,
        replies={200: StoredModel},
        refusals=(404, 409, 507),
    ),
    Endpoint(
        "POST",
        "/v2/models/preload",
        preload,
        "Read its file ahead, for a worker that is soon to load it.",
        body=PreloadModel,
        replies={202: Preloading},
        refusals=(404, 409),
    ),
    Endpoint(
        "POST",
        "/v2/models/unregister",
        unregister,
        "List it no longer; the file stays.",
        body=RegisterModel,
        replies={200: Unregistered},
        refusals=(404,),
    ),
    Endpoint("GET", _ID, one, "One model: files, hashes, use.", replies={200: StoredModel}),
    Endpoint("DELETE", _ID, delete, "Delete a downloaded model.", replies={200: Deleted}, refusals=(409,)),
    Endpoint("POST", _ID + "/verify", verify, "Compare its hashes.", replies={200: Verified}, refusals=(507,)),
    Endpoint(
        "POST",
        _ID + "/pin",
        pin,
        "Keep it when room is needed.",
        body=PinModel,
        replies={200: StoredModel},
        refusals=(507,),
    ),
    Endpoint(
        "GET",
        _ID + "/file",
        file,
        "One file of a model, for other pools.",
        parameters=(_PART,),
        media_type="application/octet-stream",
    ),
)
