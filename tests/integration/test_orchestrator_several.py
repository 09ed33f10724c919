"""One request of OpenAI's API that is several jobs, while its answers come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.orchestrating import PATIENCE_S, QUIET, REF, ScriptedWorker, orchestrator, scripted
from tests.support.scripts import Call

ASKED = {"model": REF, "messages": [{"role": "user", "content": "hi"}], "n": 2, "stream": True}


async def choices(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[int, str]]:
    """Yield each choice that comes with text in it."""
    async for line in response.content:
        if line.startswith(b"data: {"):
            for choice in json.loads(line.removeprefix(b"data: "))["choices"]:
                if choice["delta"].get("content"):
                    yield choice["index"], choice["delta"]["content"]


async def test_no_answer_waits_for_the_end_of_the_one_before(tmp_path: Path) -> None:
    seen = asyncio.Event()

    async def script(call: Call) -> None:
        await call.started()
        await call.token("begun")
        await seen.wait()
        await call.token("done")
        await call.end()

    worker = ScriptedWorker(script)
    found: list[Any] = []
    async with scripted(worker), orchestrator(tmp_path, **QUIET) as system:
        await system.register(worker)
        async with (
            asyncio.timeout(PATIENCE_S),
            system.client.request("POST", "/v1/chat/completions", body=ASKED) as response,
        ):
            async for index, text in choices(response):
                found.append((index, text))
                if len({each for each, _ in found}) == 2:
                    seen.set()

    assert sorted(found[:2]) == [(0, "begun"), (1, "begun")]
    assert sorted(found[2:]) == [(0, "done"), (1, "done")]
