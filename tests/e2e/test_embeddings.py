"""Embeddings and reranking as users of other programs' libraries get them, and what killed processes cost: nothing."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import ollama
import openai
import pytest
from ollama import AsyncClient
from openai import AsyncOpenAI
from openai.types import Batch

from llorch.sse import Event
from llorch.wire.codec import encode
from llorch.wire.embedding import read_vector
from llorch.wire.pools import PoolList
from llorch.wire.tasks import TaskPage
from tests.e2e.processes import Role, orchestrator_role, pool_role, role, run, until
from tests.support import encoders
from tests.support.encoders import Encoder

TEXTS = ["bake kilo", "dumi lani", "ba be bi"]


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models")
    encoders.embedder(made / "embedder.gguf")
    encoders.reranker(made / "reranker.gguf")
    encoders.embedder(made / "slow.gguf", Encoder(n_embd=256, n_layer=4, n_head=4, n_ff=1024))
    return made


def near(found: Sequence[float], expected: Sequence[float]) -> bool:
    return len(found) == len(expected) and all(
        math.isclose(a, b, abs_tol=1e-4) for a, b in zip(found, expected, strict=True)
    )


async def test_the_libraries_get_vectors_and_scores(tmp_path: Path, folder: Path) -> None:
    embedder, reranker = f"file:{folder / 'embedder.gguf'}", f"file:{folder / 'reranker.gguf'}"
    at = ("--port", "0", "--pool-port", "0", "--data-dir", str(tmp_path / "all"))
    async with (
        role("all", *at, log=tmp_path / "log", env={"LLORCH_POOL_MODELS_DIR": str(folder)}) as system,
        AsyncOpenAI(
            base_url=f"{system.url}/v1", api_key="unused", max_retries=0, _strict_response_validation=True
        ) as ai,
        AsyncClient(host=system.url) as llama,
        aiohttp.ClientSession(system.url) as http,
    ):
        # Left to itself, the library asks for base64, which its own type of an answer forbids.
        async with AsyncOpenAI(base_url=f"{system.url}/v1", api_key="unused", max_retries=0) as lenient:
            in_base64 = await lenient.embeddings.create(model=embedder, input=TEXTS)
            short = await lenient.embeddings.create(model=embedder, input=TEXTS, dimensions=8)
        in_numbers = await ai.embeddings.create(model=embedder, input=TEXTS, encoding_format="float")
        one = await ai.embeddings.create(model=embedder, input=TEXTS[0], encoding_format="float")
        tokens = await ai.embeddings.create(model=embedder, input=[[2, 5, 3], [2, 6, 3]], encoding_format="float")
        with pytest.raises(openai.BadRequestError, match="dimensions: the model's vectors have 64"):
            await ai.embeddings.create(model=embedder, input="a", dimensions=65)
        with pytest.raises(openai.BadRequestError, match=r"input\[1\]: it has 602 tokens; the context holds 512"):
            await ai.embeddings.create(model=embedder, input=["a", "a " * 600])
        with pytest.raises(openai.BadRequestError, match="messages: the model cannot do that: it is for embeddings"):
            await ai.chat.completions.create(model=embedder, messages=[{"role": "user", "content": "a"}])
        with pytest.raises(openai.BadRequestError, match="input: the model cannot do that: it is for text"):
            await ai.embeddings.create(model="haiku", input="a")
        with pytest.raises(openai.BadRequestError, match="input: expected a text"):
            await ai.embeddings.create(model=embedder, input=["a", ""])

        embedded = await llama.embed(model=embedder, input=[*TEXTS, "a " * 600])
        old = await llama.embeddings(model=embedder, prompt=TEXTS[0])
        with pytest.raises(ollama.ResponseError, match="it has 602 tokens"):
            await llama.embed(model=embedder, input="a " * 600, truncate=False)
        shown = await llama.show(embedder)
        cards = [card.model_dump() async for card in ai.models.list()]

        body = {"model": reranker, "query": "ba bu", "documents": ["ka ke ki", {"text": "bo"}, "ba bu"]}
        async with http.post("/v1/rerank", json={**body, "return_documents": True, "top_n": 2}) as response:
            ranked = await response.json()
        async with http.post("/v1/rerank", json=body) as response:
            every = await response.json()
        lines = [
            {
                "custom_id": f"{len(each)} bytes",
                "method": "POST",
                "url": "/v1/embeddings",
                "body": {"model": embedder, "input": each},
            }
            for each in ("a", "a " * 600)
        ]
        file = await ai.files.create(file=("b.jsonl", b"\n".join(encode(line) for line in lines)), purpose="batch")
        batch = await ai.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
        ended = await until(lambda: _ended(ai, batch.id))
        output = json.loads((await ai.files.content(ended.output_file_id or "")).content)
        refused = json.loads((await ai.files.content(ended.error_file_id or "")).content)

        jobs = (await system.client.send("GET", "/v2/tasks", TaskPage)).tasks
        ranking = next(job.job_id for job in jobs if job.kind == "rerank")
        text = await run("jobs", "show", ranking, "--url", system.url)
        events = await run("jobs", "follow", ranking, "--url", system.url)

    vectors = [each.embedding for each in in_base64.data]
    assert [each.index for each in in_base64.data] == [0, 1, 2]
    assert all(math.isclose(math.hypot(*vector), 1, abs_tol=1e-5) for vector in vectors)
    assert all(near(a.embedding, b) for a, b in zip(in_numbers.data, vectors, strict=True))
    assert near(one.data[0].embedding, vectors[0])
    assert [len(each.embedding) for each in tokens.data] == [64, 64]
    assert all(
        near(a.embedding, [n / math.hypot(*b[:8]) for n in b[:8]]) for a, b in zip(short.data, vectors, strict=True)
    )
    assert (in_base64.usage.prompt_tokens, in_base64.usage.total_tokens, tokens.usage.prompt_tokens) == (17, 17, 6)
    assert all(near(a, b) for a, b in zip(embedded.embeddings, vectors, strict=False))
    assert (len(embedded.embeddings), embedded.prompt_eval_count) == (4, 17 + 512)
    assert near(old.embedding, vectors[0])
    assert shown.capabilities == ["embedding"]
    assert next(card for card in cards if card["id"] == "haiku").get("capabilities") is None
    assert sorted(each["index"] for each in every["results"]) == [0, 1, 2]
    scores = [each["relevance_score"] for each in every["results"]]
    assert scores == sorted(scores, reverse=True)
    assert len(ranked["results"]) == 2
    assert ranked["results"][0]["document"]["text"] == ["ka ke ki", "bo", "ba bu"][ranked["results"][0]["index"]]
    assert ranked["usage"]["total_tokens"] == 3 * 4 + 6
    assert {(job.kind, job.status) for job in jobs if job.status == "completed"} == {
        ("embedding", "completed"),
        ("rerank", "completed"),
    }
    assert (output["custom_id"], output["response"]["status_code"]) == ("1 bytes", 200)
    assert len(output["response"]["body"]["data"][0]["embedding"]) == 64
    assert "it has 602 tokens" in refused["response"]["body"]["error"]["message"]
    assert text.status == events.status == 0
    assert "reranking" in text.stdout
    assert events.stdout.count("\n") == 3


async def test_a_model_that_writes_embeds_where_it_is_told_how_and_else_says_so(tmp_path: Path) -> None:
    config = tmp_path / "llorch.toml"
    config.write_text('[models."haiku"]\npooling = "last"\n')
    at = ("--port", "0", "--pool-port", "0", "--data-dir", str(tmp_path / "all"))
    async with role("all", *at, "--config", str(config), log=tmp_path / "log") as system:
        ai = AsyncOpenAI(base_url=f"{system.url}/v1", api_key="unused", max_retries=0)
        async with ai, AsyncClient(host=system.url) as llama:
            made = await ai.embeddings.create(model="haiku", input=["rain", "snow"], encoding_format="float")
            same = await llama.embed(model="haiku", input="rain")
            poem = await ai.completions.create(model="haiku", prompt="Write a haiku about rain", max_tokens=8)
            cards = [card.model_dump() async for card in ai.models.list()]
            [pool] = (await system.client.send("GET", "/v2/pools", PoolList)).pools
    assert near(made.data[0].embedding, same.embeddings[0])
    assert not near(made.data[0].embedding, made.data[1].embedding)
    assert poem.choices[0].text
    assert [card["capabilities"] for card in cards if card["id"] == "haiku"] == [["text-gen", "embedding"]]
    assert [worker.pooling for worker in pool.workers] == ["last"]


async def test_a_client_that_leaves_ends_its_long_embedding_job(tmp_path: Path, folder: Path) -> None:
    texts = [" ".join(f"ba be bi bo bu {n}" for _ in range(6)) for n in range(400)]
    body = {"model": f"file:{folder / 'slow.gguf'}", "input": texts}
    async with orchestrator_role(tmp_path) as orchestrator, pool_role(tmp_path, orchestrator.url) as pool:

        async def reached(status: str) -> bool:
            jobs = (await orchestrator.client.send("GET", "/v2/tasks", TaskPage)).tasks
            return [(job.kind, job.status) for job in jobs] == [("embedding", status)]

        async with aiohttp.ClientSession(orchestrator.url) as http, asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(http.post("/v1/embeddings", json=body))
            await until(lambda: reached("running"))
            asking.cancel()
        await until(lambda: reached("cancelled"))
        await until(lambda: _idle(pool))


async def test_every_vector_comes_once_though_worker_and_orchestrator_are_killed(tmp_path: Path, folder: Path) -> None:
    texts = [" ".join(f"ba be bi bo bu {n} {n * 7}" for _ in range(3)) for n in range(72)]
    task = {"model": f"file:{folder / 'slow.gguf'}", "input": texts}
    async with orchestrator_role(tmp_path) as first, pool_role(tmp_path, first.url) as pool:
        whole = await first.events((await first.submit(**task)).job_id)
        job = await first.submit(**task)
        reached, later = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(_read(first, job.job_id, {12: reached, 36: later}))
            await reached.wait()
            [worker] = (await pool.workers()).workers
            os.kill(worker.pid or 0, signal.SIGKILL)
            await later.wait()
            await first.stop(signal.SIGKILL)
            port, data = str(urlsplit(first.url).port), str(tmp_path / "orchestrator")
            async with role("orchestrator", "--port", port, "--data-dir", data, log=tmp_path / "log") as second:
                seen = await asyncio.shield(reader)
                done = await second.task(job.job_id)
                fresh = await second.events(job.job_id)
        await until(lambda: _idle(pool))

    started = [json.loads(event.data) for event in seen if event.kind == "started"]
    assert [each["exact"] for each in started] == [True] * len(started)
    assert started[1]["first_token"] >= 12
    assert [found["i"] for found in _tokens(seen)] == list(range(len(texts)))
    assert _tokens(seen) == _tokens(fresh)
    assert all(
        near(read_vector(a["t"]), read_vector(b["t"])) for a, b in zip(_tokens(seen), _tokens(whole), strict=True)
    )
    assert (done.status, done.kind, done.attempts, done.tokens_out) == ("completed", "embedding", 2, 0)
    assert done.tokens_in == json.loads(whole[-1].data)["tokens_in"]


def _tokens(events: list[Event]) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in events if event.kind == "token"]


async def _read(orchestrator: Role, job_id: str, reached: dict[int, asyncio.Event]) -> list[Event]:
    """Follow a job to its end, over as many connections as it takes; tell when some tokens have come."""
    seen: list[Event] = []
    async for event in orchestrator.follow(job_id):
        seen.append(event)
        for token, signal_ in reached.items():
            if event.id == f"{token}.0":
                signal_.set()
    return seen


async def _ended(ai: AsyncOpenAI, batch_id: str) -> Batch | None:
    found = await ai.batches.retrieve(batch_id)
    return found if found.status == "completed" else None


async def _idle(pool: Role) -> bool:
    """Tell whether no worker has a job, as each says itself: its pool asks only now and then."""
    workers = [worker for worker in (await pool.workers()).workers if worker.status in {"ready", "busy"}]
    async with aiohttp.ClientSession() as http:
        found = [await (await http.get(f"{worker.uri}/health")).json() for worker in workers]
    return all(health["slots_busy"] == 0 for health in found)
