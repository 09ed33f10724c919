"""The fetching process by itself: that it never outlives the pipe to its pool, and whom it believes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from llorch import program
from llorch.errors import ModelNotFound
from llorch.models import model_id
from llorch.serve import running
from llorch.wire.codec import encode
from llorch.wire.models import FileFacts, StoredModel
from roles.pool.model_cache.fetch import COMMAND, Order, fetch
from tests.support.downloading import FILE, REPO
from tests.support.hub import Hub, running_hub
from tests.support.models import make


@pytest.fixture(name="hub")
async def _hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path / "home", monkeypatch) as hub:
        hub.add(REPO, {FILE: make(tmp_path / "source.gguf")})
        yield hub


def order(tmp_path: Path, hub: Hub) -> Order:
    return Order(
        model_ref=hub.ref(REPO, FILE), folder=str(tmp_path / "m"), partial=str(tmp_path / "m" / ".p"), sources=[]
    )


async def test_it_ends_with_the_pipe_to_its_pool(tmp_path: Path, hub: Hub) -> None:
    hub.faults.hold_at = 0.3
    process = await asyncio.create_subprocess_exec(
        *program.command(COMMAND), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(order(tmp_path, hub)) + b"\ngo\n")
    await hub.holding.wait()

    process.stdin.close()

    assert await process.wait() == 1


def test_what_is_on_no_hub_is_not_fetched(tmp_path: Path) -> None:
    wrong = Order(model_ref="file:/m.gguf", folder=str(tmp_path), partial=str(tmp_path / "p"), sources=[])

    with pytest.raises(ModelNotFound):
        fetch(wrong, lambda _: None, lambda: None)


async def test_a_pool_that_says_a_model_has_a_file_elsewhere_writes_nothing_there(tmp_path: Path, hub: Hub) -> None:
    ref, outside = hub.ref(REPO, FILE), b"#!/bin/sh\n"
    told = StoredModel(
        model_id=model_id(ref),
        model_ref=ref,
        origin="hub",
        size_bytes=len(outside),
        files=[
            FileFacts(
                path="../../../../victim/.profile",
                size_bytes=len(outside),
                sha256=hashlib.sha256(outside).hexdigest(),
            )
        ],
    )

    async def model(_: web.Request) -> web.Response:
        return web.Response(body=encode(told), content_type="application/json")

    async def file(_: web.Request) -> web.Response:
        return web.Response(body=outside)

    app = web.Application()
    app.router.add_get("/v2/models/{id}", model)
    app.router.add_get("/v2/models/{id}/file", file)
    async with running(app, "127.0.0.1", 0) as url:
        asked = msgspec.structs.replace(order(tmp_path / "pool", hub), sources=[url])
        await asyncio.to_thread(fetch, asked, lambda _: None, lambda: None)

    there = [str(path.relative_to(tmp_path / "pool")) for path in (tmp_path / "pool").rglob("*") if path.is_file()]
    assert f"m/models--{REPO.replace('/', '--')}/snapshots/{hub.repos[REPO].commit}/{FILE}" in there
    assert not list(tmp_path.rglob(".profile"))


async def test_a_pool_that_sends_without_end_is_left_for_the_hub(tmp_path: Path, hub: Hub) -> None:
    ref, right = hub.ref(REPO, FILE), hub.repos[REPO].files[FILE]
    fact = FileFacts(path=FILE, size_bytes=len(right), sha256=hashlib.sha256(right).hexdigest())
    told = StoredModel(model_id=model_id(ref), model_ref=ref, origin="hub", size_bytes=len(right), files=[fact])
    left = asyncio.Event()

    async def model(_: web.Request) -> web.Response:
        return web.Response(body=encode(told), content_type="application/json")

    async def file(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        try:
            while True:
                await answer.write(bytes(65536))
        finally:
            left.set()

    app = web.Application()
    app.router.add_get("/v2/models/{id}", model)
    app.router.add_get("/v2/models/{id}/file", file)
    async with asyncio.timeout(60), running(app, "127.0.0.1", 0) as url:
        asked = msgspec.structs.replace(order(tmp_path, hub), sources=[url])
        await asyncio.to_thread(fetch, asked, lambda _: None, lambda: None)
        await left.wait()

    assert [path.read_bytes() == right for path in tmp_path.glob(f"m/*/snapshots/*/{FILE}")] == [True]
