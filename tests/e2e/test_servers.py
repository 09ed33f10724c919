"""Servers that are not llorch's behind llorch: llama.cpp's own by URL and by command, and another llorch."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import psutil
import pytest
from openai import APIError, AsyncOpenAI, NotFoundError

from llorch.sse import Event
from llorch.wire.pools import Pool, PoolList, Worker
from tests.e2e.processes import Role, orchestrator_role, role, run, text_of, until, whole_system
from tests.support import models
from tests.support.servers import LlamaServer, command, free_port, llama_server
from tests.support.workers import until_gone

HAIKU = Path(__file__).parents[2] / "llorch/assets/haiku.gguf"
NAME = LlamaServer.name
POEM = "Write a haiku about rain"
SLOW = models.Shape(n_embd=256, n_layer=8, n_head=4, n_ff=704, ctx=1024)


def all_with(folder: Path, section: str) -> AbstractAsyncContextManager[Role]:
    """Run all roles in one process, which is told of a server."""
    file = folder / "llorch.toml"
    file.write_text(f"[pool.servers.other]\n{section}\n")
    told = ("--port", "0", "--pool-port", "0", "--data-dir", str(folder / "all"), "--config", str(file))
    return role("all", *told, log=folder / "log")


def pool_with(folder: Path, orchestrator: str, section: str) -> AbstractAsyncContextManager[Role]:
    """Run a pool that is told of a server."""
    file = folder / "llorch.toml"
    file.write_text(f"[pool.servers.other]\n{section}\n")
    told = ("--port", "0", "--data-dir", str(folder / "pool"), "--orchestrator", orchestrator, "--pool-id", "pool")
    return role("pool", *told, "--config", str(file), log=folder / "log")


@asynccontextmanager
async def library(system: Role) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{system.url}/v1", api_key="unused", max_retries=0) as ai:
        yield ai


async def offered(system: Role, ref: str = f"server:other/{NAME}") -> Pool | None:
    """Return the pool that offers a model."""
    pools = (await system.client.send("GET", "/v2/pools", PoolList)).pools
    return next((pool for pool in pools if ref in {model.model_ref for model in pool.models}), None)


async def one_worker(pool: Role) -> Worker | None:
    """Return the pool's ready worker."""
    return next((each for each in (await pool.workers()).workers if each.status in {"ready", "busy"}), None)


async def ask(ai: AsyncOpenAI, **fields: object) -> str:
    """Return a streamed answer of OpenAI's own library."""
    stream = await ai.chat.completions.create(
        **{"model": NAME, "messages": [{"role": "user", "content": POEM}], "temperature": 0, "stream": True, **fields}  # type: ignore[call-overload]  # any
    )
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


async def test_a_server_by_url_answers_openais_library_with_a_key_that_nobody_sees(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text("the-key-of-the-server")
    with llama_server(HAIKU, tmp_path, key="the-key-of-the-server") as server:
        section = f'url = "{server.url}"\napi_key_file = "{key}"'
        async with (
            orchestrator_role(tmp_path) as system,
            pool_with(tmp_path, system.url, section) as pool,
            library(system) as ai,
        ):
            await until(lambda: offered(system))
            listed = [model.id async for model in ai.models.list()]
            text = await ask(ai)
            same = await ask(ai, model=f"server:other/{NAME}")
            with pytest.raises(NotFoundError, match=f"did you mean {NAME}"):
                await ask(ai, model="org/Model-1")
            [worker] = (await pool.workers()).workers
            commands = " ".join(psutil.Process(worker.pid or 0).cmdline())
            shown = await run("pool", "models", "list", "--pool-url", pool.url)
            key.write_text("another-key")
            os.kill(worker.pid or 0, signal.SIGKILL)
            with pytest.raises(APIError, match=r"does not accept the key; see api_key_file"):
                await ask(ai)
            logs = (tmp_path / "log").read_text() + "".join(
                file.read_text() for file in (tmp_path / "pool/logs").iterdir()
            )

    assert NAME in listed
    assert f"server:other/{NAME}" not in listed
    assert len(text.splitlines()) == 3
    assert text == same
    assert (worker.engine, worker.slots, worker.context_length, worker.memory_bytes) == ("openai", 2, 256, 0)
    assert f"server:other/{NAME}" in shown.stdout
    assert "the-key-of-the-server" not in commands + logs


async def test_a_server_that_is_killed_and_comes_back_costs_a_pause_and_no_text(tmp_path: Path) -> None:
    model = models.make(tmp_path / "slow.gguf", SLOW)
    with llama_server(model, tmp_path, ctx=1024) as server:
        async with orchestrator_role(tmp_path) as system, pool_with(tmp_path, system.url, f'url = "{server.url}"'):
            await until(lambda: offered(system))
            task: dict[str, object] = {"model": NAME, "prompt": "one two three", "max_tokens": 300, "temperature": 0}
            whole = await system.events((await system.submit(**task)).job_id)
            job = await system.submit(**task)
            seen: list[Event] = []
            async for event in system.follow(job.job_id):
                seen.append(event)
                if event.id == "10.0":
                    server.kill()
                    await asyncio.to_thread(server.start)
            done = await system.task(job.job_id)

    # Behind the text alone a model without sense need not write the same; it goes on, and nothing is lost or doubled.
    tokens = [event.id for event in seen if event.kind == "token"]
    began = text_of(seen[: [event.id for event in seen].index("10.0") + 1])
    assert text_of(whole).startswith(began)
    assert text_of(seen).startswith(began)
    assert tokens == [f"{number}.0" for number in range(1, len(tokens) + 1)]
    assert len(tokens) > 200
    assert (done.status, done.attempts) == ("completed", 2)
    assert [b'"exact":false' in event.data for event in seen if event.kind == "started"] == [False, True]


async def test_a_server_by_command_starts_on_demand_and_leaves_no_orphan(tmp_path: Path) -> None:
    port = free_port()
    started = command(HAIKU, port, "--alias", NAME)
    section = f'url = "http://127.0.0.1:{port}"\ncommand = {started}\nmodels = ["{NAME}"]\ncontext = 256'
    async with (
        orchestrator_role(tmp_path) as system,
        pool_with(tmp_path, system.url, section) as pool,
        library(system) as ai,
    ):
        await until(lambda: offered(system))
        before = (await pool.workers()).workers
        text = await ask(ai)
        first = await until(lambda: one_worker(pool))
        logs = await run("pool", "worker", "logs", first.worker_id, "--pool-url", pool.url)
        trees = [psutil.Process(first.pid or 0).children(recursive=True)]
        os.kill(first.pid or 0, signal.SIGKILL)
        again = await ask(ai)
        second = await until(lambda: one_worker(pool))
        trees.append(psutil.Process(second.pid or 0).children(recursive=True))
        await pool.stop(signal.SIGKILL)
        os.kill(second.pid or 0, signal.SIGKILL)
        for process in [*trees[0], *trees[1]]:
            await until_gone(process)

    assert before == []
    assert len(text.splitlines()) == 3
    assert text == again
    assert [len(tree) for tree in trees] == [2, 2]
    assert '"component": "worker.server"' in logs.stdout


async def test_another_llorch_is_a_server_too(tmp_path: Path) -> None:
    inner_dir, outer_dir = tmp_path / "inner", tmp_path / "outer"
    for folder in (inner_dir, outer_dir):
        folder.mkdir()
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    formed = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    async with (
        whole_system(inner_dir) as inner,
        all_with(outer_dir, f'url = "{inner.url}/v1"\nmodels = ["haiku"]') as system,
        library(inner) as direct,
        library(system) as ai,
    ):
        await until(lambda: offered(system, "server:other/haiku"))
        texts = [await ask(each, model=name) for each, name in ((direct, "haiku"), (ai, "server:other/haiku"))]
        json = await ask(ai, model="server:other/haiku", response_format=formed)
        whole = await ai.chat.completions.create(
            model="server:other/haiku", messages=[{"role": "user", "content": POEM}], temperature=0
        )

    assert texts[0] == texts[1] == whole.choices[0].message.content
    assert json in {'{"a": true}', '{"a": false}'}
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (18, 28)
    assert str(whole.system_fingerprint).startswith("openai/llorch-")
