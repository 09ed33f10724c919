"""Has pools fetch models: tells each which others have them, and asks. Decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from msgspec.structs import replace

from llorch.errors import LlorchError, PoolUnreachable, Unreachable
from llorch.models import HubRef, parse_ref
from llorch.wire.models import Download, DownloadModel, Started
from roles.orchestrator.fleet import Fleet
from roles.orchestrator.pool_record import PoolRecord

MAX_SOURCES = 8
POLL_S = 0.5


def fetchable(model_ref: str) -> bool:
    """Tell whether a pool that lacks a model can get it by itself: whether it is on the hub, at a commit. Pure."""
    ref = parse_ref(model_ref)
    return isinstance(ref, HubRef) and ref.pinned


def sources(pools: Iterable[PoolRecord], pool_id: str, model_ref: str) -> list[str]:
    """Return the URLs of the pools that a pool can fetch a model from. Pure."""
    having = [pool for pool in pools if pool.pool_id != pool_id and model_ref in pool.models]
    return [pool.endpoint for pool in sorted(having, key=lambda pool: pool.pool_id)][:MAX_SOURCES]


async def download(fleet: Fleet, pool_id: str, request: DownloadModel) -> Started:
    """Ask a pool to fetch a model, from another pool that has it if there is one.

    Raises:
        PoolNotFound: No pool has that id.
        PoolUnreachable: It does not answer.
        RemoteError: Its own refusal, such as `DISK_FULL`.
    """
    pool = fleet.pool(pool_id)
    known = sources(fleet.online(), pool_id, request.model_ref)
    body = replace(request, sources=list(dict.fromkeys([*request.sources, *known])))
    try:
        return await pool.client.send("POST", "/v2/models/download", Started, body=body)
    except Unreachable as error:
        raise PoolUnreachable(error.message) from error


async def fetch(fleet: Fleet, pool_id: str, refs: Iterable[str]) -> None:
    """Have a pool fetch those files that it lacks, and return when they are there; raises as `download` does.

    Raises:
        LlorchError: One cannot be fetched; its code is the pool's.
    """
    for ref in refs:
        if ref in fleet.pool(pool_id).models or not fetchable(ref):
            continue
        started = await download(fleet, pool_id, DownloadModel(model_ref=ref, evict=True))
        state = started.state
        while state != "complete":
            await asyncio.sleep(POLL_S)
            told = await fleet.pool(pool_id).client.send("GET", f"/v2/models/downloads/{started.download_id}", Download)
            state = told.state
            if state in {"failed", "cancelled"}:
                error = LlorchError(f"could not fetch {ref}: {told.error or state}")
                error.code = told.error_code or "DOWNLOAD_FAILED"
                raise error
