"""Vectors on their way from a scripted worker to clients: many and large ones, and lines that hold none."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from llorch.wire.embedding import read_vector, vector_line
from roles.orchestrator import answers
from roles.orchestrator.dialects import embeddings as words
from roles.orchestrator.queue import worker_events
from tests.support.orchestrating import PATIENCE_S, REF, ScriptedWorker, System, orchestrator, scripted
from tests.support.scripts import MODEL, Call, Script, in_turn

VECTOR = [number / 1024 for number in range(1024)]
SMALL, LARGE = 2, 2 * answers.LARGE_TEXT // len(vector_line(VECTOR))


def saying(*lines: str) -> Script:
    """Say a line for each input; the last one again and again."""

    async def play(call: Call) -> None:
        await call.started()
        count = len(call.body.rerank.documents if call.body.rerank else call.body.input or [])
        for index in range(call.body.first_token, count):
            await call.token(lines[min(index, len(lines) - 1)])
        await call.end()

    return play


@asynccontextmanager
async def embedding(data_dir: Path, script: Script) -> AsyncIterator[tuple[System, ScriptedWorker]]:
    """Serve an orchestrator and a worker that embeds."""
    async with scripted(ScriptedWorker(script)) as worker, orchestrator(data_dir) as system:
        await system.register(worker, models=[msgspec.structs.replace(MODEL, capabilities=["embedding", "rerank"])])
        yield system, worker


async def asked(system: System, path: str, **body: object) -> tuple[int, Any]:
    """Return what an address answers, with its status."""
    async with aiohttp.ClientSession() as http, http.post(system.url + path, json={"model": REF, **body}) as response:
        return response.status, await response.json()


async def batched(system: System, **body: object) -> dict[str, Any]:
    """Return the results of a batch of one line that succeeds and one that is asked for."""
    line = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": REF, **body}}
    form = aiohttp.FormData({"purpose": "batch"})
    form.add_field("file", json.dumps(line).encode(), filename="in.jsonl")
    async with aiohttp.ClientSession(system.url) as http:
        async with http.post("/v1/files", data=form) as response:
            file = await response.json()
        wanted = {"input_file_id": file["id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
        async with http.post("/v1/batches", json=wanted) as response:
            batch = await response.json()
        async with asyncio.timeout(PATIENCE_S):
            while batch["status"] not in {"completed", "failed"}:
                async with http.get(f"/v1/batches/{batch['id']}") as response:
                    batch = await response.json()
        async with http.get(f"/v1/files/{batch['output_file_id'] or batch['error_file_id']}/content") as response:
            found: dict[str, Any] = json.loads(await response.read())["response"]
            return found


async def test_large_replies_are_made_in_a_thread_and_small_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    makers: set[bool] = set()

    def seen(line: str) -> list[float]:
        makers.add(threading.current_thread() is threading.main_thread())
        return read_vector(line)

    monkeypatch.setattr(words, "read_vector", seen)
    found: list[tuple[set[bool], bool]] = []
    async with embedding(tmp_path, saying(vector_line(VECTOR))) as (system, _):
        for count in (SMALL, LARGE):
            inputs = ["x"] * count
            _, openai = await asked(system, "/v1/embeddings", input=inputs)
            found.append((set(makers), [each["embedding"] for each in openai["data"]] == [VECTOR] * count))
            makers.clear()
            _, ollama = await asked(system, "/api/embed", input=inputs)
            found.append((set(makers), ollama["embeddings"] == [VECTOR] * count))
            makers.clear()
            batch = await batched(system, input=inputs)
            found.append((set(makers), [each["embedding"] for each in batch["body"]["data"]] == [VECTOR] * count))
            makers.clear()

    assert found == [({True}, True)] * 3 + [({False}, True)] * 3


async def test_a_worker_that_sends_no_vector_is_asked_no_further_and_another_attempt_is_made(tmp_path: Path) -> None:
    good = vector_line(VECTOR)
    script = in_turn(saying(good, "no vector\n"), saying(good))
    async with embedding(tmp_path, script) as (system, worker):
        status, reply = await asked(system, "/v1/embeddings", input=["a", "b"], encoding_format="base64")

    assert (status, [each["embedding"] for each in reply["data"]]) == (200, [good.rstrip("\n")] * 2)
    assert [one.first_token for one in worker.asked] == [0, 1]


async def test_a_stored_line_that_holds_nothing_fails_its_own_request_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/v1/embeddings", {"input": ["a"]}),
        ("/v1/embeddings", {"input": ["a"], "encoding_format": "base64"}),
        ("/v1/rerank", {"query": "q", "documents": ["a"]}),
        ("/api/embed", {"input": ["a"]}),
        ("/api/embeddings", {"prompt": "a"}),
    ]
    monkeypatch.setattr(worker_events, "_check_line", lambda _text, _kind: None)
    async with embedding(tmp_path, saying("nothing\n")) as (system, _):
        statuses = [(await asked(system, path, **body))[0] for path, body in requests]
        result = await batched(system, input=["a"])

    assert statuses == [502] * len(requests)
    assert (result["status_code"], result["body"]["error"]["code"]) == (502, "ENGINE_FAILED")
