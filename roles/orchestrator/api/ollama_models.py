"""Addresses of Ollama's API about models: what pools have and have loaded, fetching and deleting."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from aiohttp import web

from llorch.edge import Endpoint, query, read, reply, stream
from llorch.errors import LlorchError, ModelNotFound, NoPool, PoolUnreachable, RemoteError, Unreachable
from llorch.models import model_id
from llorch.wire.codec import encode
from llorch.wire.events import Failed
from llorch.wire.models import Deleted, Download, DownloadModel, Started
from llorch.wire.ollama import Named, Progress, PullRequest, RunningList, Shown, Tags
from llorch.wire.pools import Model
from roles.orchestrator.api.keys import CORE
from roles.orchestrator.api.ollama import IN_LINES, WORDS, called
from roles.orchestrator.core import Orchestrator
from roles.orchestrator.dialects import ollama as words
from roles.orchestrator.dialects import ollama_models as shapes
from roles.orchestrator.fetching import fetchable
from roles.orchestrator.pool_record import PoolRecord


async def tags(request: web.Request) -> web.Response:
    """GET /api/tags: the models that pools have."""
    query(request)
    core = request.app[CORE]
    models = [model for pool in core.fleet.online() for model in pool.servable]
    return reply(Tags(shapes.tags(models, core.names.shown)))


async def loaded(request: web.Request) -> web.Response:
    """GET /api/ps: the models that workers have loaded."""
    query(request)
    core = request.app[CORE]
    workers = [w for p in core.fleet.online() for w in p.workers.values() if w.status in {"ready", "busy"}]
    found = [
        shapes.running(
            worker,
            core.fleet.model(worker.model_ref),
            shapes.shown_names(worker.model_ref, core.names.shown(worker.model_ref))[0],
            until_ms=core.fleet.kept_until_ms(worker.worker_id),
        )
        for worker in workers
    ]
    return reply(RunningList(found))


async def show(request: web.Request) -> web.Response:
    """POST /api/show: what is known of a model that a pool has."""
    asked = await read(request, Named)
    core = request.app[CORE]
    _, model = _having(core, await called(core, asked.wanted))[0]
    return reply(shapes.shown(model, sees=core.fleet.sees(model.model_ref)))


async def delete(request: web.Request) -> web.Response:
    """DELETE /api/delete: have every pool that has a model delete it."""
    asked = await read(request, Named)
    core = request.app[CORE]
    for pool, model in _having(core, await called(core, asked.wanted)):
        try:
            await pool.client.send("DELETE", f"/v2/models/{model_id(model.model_ref)}", Deleted)
        except Unreachable as error:
            raise PoolUnreachable(error.message) from error
    return web.Response()


async def pull(request: web.Request) -> web.StreamResponse:
    """POST /api/pull: have a pool fetch a model, unless one has it; a client that leaves does not end it."""
    asked = await read(request, PullRequest)
    core = request.app[CORE]
    ref = await core.names.pinned(await called(core, asked.wanted))
    begun = None if core.fleet.model(ref) is not None else await _begin(core, ref)
    if asked.stream is not False:
        async with aclosing(_lines(begun)) as lines:
            return await stream(request, lines, headers=IN_LINES)
    async with aclosing(_progress(begun)) as found:
        last = [line async for line in found][-1]
    return reply(last)


def _having(core: Orchestrator, name: str) -> list[tuple[PoolRecord, Model]]:
    """Return the pools that have a model, and what they know of it.

    Raises:
        ModelNotFound: None has it.
    """
    ref = core.names.here(name)
    found = [(pool, pool.models[ref]) for pool in core.fleet.online() if ref in pool.models]
    if not found:
        raise ModelNotFound("no host has this model; pull it first", details={"near": []})
    return found


async def _begin(core: Orchestrator, ref: str) -> tuple[PoolRecord, Started]:
    """Have a pool begin to fetch a model: the first that does not refuse.

    Raises:
        ModelNotFound: It is no model of the hub.
        NoPool: There is none.
        LlorchError: The last one's refusal.
    """
    if not fetchable(ref):
        raise ModelNotFound("no host has this file, and it is not on the hub", details={"near": []})
    pools = {pool.pool_id: pool for pool in core.fleet.online()}
    refusal: LlorchError = NoPool("no pool is online that could fetch it", retry_after_s=10)
    for pool_id in shapes.host({pool.pool_id: pool.devices for pool in pools.values()}):
        try:
            return pools[pool_id], await core.download(pool_id, DownloadModel(model_ref=ref))
        except (PoolUnreachable, RemoteError) as error:
            refusal = error
    raise refusal


async def _lines(begun: tuple[PoolRecord, Started] | None) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(_progress(begun)) as found:
            async for line in found:
                yield encode(line) + b"\n"
    except LlorchError as error:
        yield words.error_line(error)


async def _progress(begun: tuple[PoolRecord, Started] | None) -> AsyncGenerator[Progress, None]:
    """Yield how far a download is, to its end.

    Raises:
        LlorchError: It failed, or its pool does not answer any more.
    """
    yield Progress(status="pulling manifest")
    if begun is not None and begun[1].state != "complete":
        async with aclosing(_views(*begun)) as views:
            async for view in views:
                yield shapes.progress(view)
    yield Progress(status="success")


async def _views(pool: PoolRecord, started: Started) -> AsyncGenerator[Download, None]:
    async with aclosing(pool.client.events(started.events_url)) as found:
        async for event in found:
            if event.kind == "error":
                failed = msgspec.json.decode(event.data, type=Failed)
                raise RemoteError(failed.message, code=failed.code, status=502, retriable=failed.retriable)
            yield msgspec.json.decode(event.data, type=Download)
            if event.kind == "complete":
                return


_OF_THE_POOL = (409, 502, 503, 504, 507)
ENDPOINTS = (
    Endpoint("GET", "/api/tags", tags, "The models that pools have.", replies={200: Tags}, words=WORDS),
    Endpoint("GET", "/api/ps", loaded, "The models that workers have loaded.", replies={200: RunningList}, words=WORDS),
    Endpoint(
        "POST",
        "/api/show",
        show,
        "What is known of a model that a pool has.",
        body=Named,
        replies={200: Shown},
        refusals=(404, *_OF_THE_POOL),
        words=WORDS,
    ),
    Endpoint(
        "POST",
        "/api/pull",
        pull,
        "Have a pool fetch a model; in lines of progress unless `stream` is false.",
        body=PullRequest,
        replies={200: Progress},
        refusals=(403, 404, *_OF_THE_POOL),
        lines=True,
        words=WORDS,
    ),
    Endpoint(
        "DELETE",
        "/api/delete",
        delete,
        "Have every pool that has a model delete it.",
        body=Named,
        replies={200: None},
        refusals=(404, *_OF_THE_POOL),
        words=WORDS,
    ),
)
