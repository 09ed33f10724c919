"""Worker and engine process: they start, fail and die together, and say why in one line."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web

from llorch import sse
from llorch.wire.workers import Ready
from roles.worker.backend.llamacpp_process import _without_quotes
from tests.support import models
from tests.support.workers import engine_of, last, until_gone, worker_process

ENDLESS = {"prompt": "bake kilo", "temperature": 1, "max_tokens": 100_000}
SLOW = models.Shape(n_embd=256, n_layer=8, n_head=4, n_ff=704, ctx=2048)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.make(tmp_path_factory.mktemp("model") / "small.gguf", SLOW)


def missing(folder: Path) -> Path:
    return folder / "missing.gguf"


def foreign(folder: Path) -> Path:
    path = folder / "text.gguf"
    path.write_text("this is not a model\n" * 100)
    return path


def unknown_architecture(folder: Path) -> Path:
    return models.make(folder / "zebra.gguf", architecture="zebra")


def truncated_in_the_weights(folder: Path) -> Path:
    path = models.make(folder / "cut.gguf")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def truncated_in_the_header(folder: Path) -> Path:
    path = models.make(folder / "cut.gguf")
    path.write_bytes(path.read_bytes()[:100])
    return path


@contextlib.asynccontextmanager
async def pool(status: int) -> AsyncIterator[tuple[str, asyncio.Queue[tuple[str, Ready]]]]:
    """Listen for the ready callback; yield its URL and what came."""
    came: asyncio.Queue[tuple[str, Ready]] = asyncio.Queue()

    async def ready(request: web.Request) -> web.Response:
        came.put_nowait(
            (request.headers.get("Authorization", ""), msgspec.json.decode(await request.read(), type=Ready))
        )
        return web.Response(status=status)

    app = web.Application()
    app.router.add_post("/v2/internal/workers/ready", ready)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v2/internal/workers/ready", came
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (missing, "there is no model file"),
        (foreign, "not a GGUF file"),
        (unknown_architecture, "'zebra'"),
        (truncated_in_the_weights, "damaged or incomplete"),
        (truncated_in_the_header, "truncated"),
    ],
)
async def test_a_model_that_cannot_be_loaded_is_one_line_and_exit_status_1(
    tmp_path: Path, broken: Callable[[Path], Path], reason: str
) -> None:
    async with worker_process(broken(tmp_path)) as started:
        status, lines = await started.end()

    assert status == 1
    assert len(lines) == 1, lines
    assert reason in lines[0]


async def test_a_backend_that_is_not_there_is_one_line_that_lists_what_is(model: Path) -> None:
    async with worker_process(model, backend="cuda") as started:
        status, lines = await started.end()

    assert status == 1
    assert lines == ["llorch: no cuda device can be used here; there is: CPU"]


async def test_the_pool_is_told_once_the_model_is_loaded(model: Path) -> None:
    async with (
        pool(204) as (url, came),
        worker_process(model, callback_url=url, token="secret", worker_id="w1", slots=2) as started,
    ):
        authorization, ready = await came.get()

        health = await started.worker.health()
        assert authorization == "Bearer secret"
        assert (ready.worker_id, ready.uri, ready.slots, ready.context_length) == ("w1", started.worker.url, 2, 2048)
        assert (ready.memory_architecture, ready.engine, ready.capabilities) == ("system", "llamacpp", ["text-gen"])
        assert ready.memory_bytes == health.memory_bytes > model.stat().st_size
        assert health.status == "ready"


async def test_a_worker_that_the_pool_refuses_ends_with_one_line(model: Path) -> None:
    async with pool(409) as (url, _), worker_process(model, callback_url=url) as started:
        status, lines = await started.end()

    assert status == 1
    assert len(lines) == 1, lines
    assert "409" in lines[0]


async def test_an_engine_killed_while_it_loads_ends_the_worker_with_one_line(tmp_path: Path) -> None:
    async with worker_process(models.make(tmp_path / "larger.gguf", models.LARGER)) as started:
        (await engine_of(started.process.pid)).kill()
        status, lines = await started.end()

    assert status == 1
    assert len(lines) == 1, lines
    assert "signal 9" in lines[0]


@pytest.mark.parametrize("loaded", [True, False])
async def test_no_engine_outlives_a_killed_worker(tmp_path: Path, loaded: bool) -> None:
    async with worker_process(models.make(tmp_path / "larger.gguf", models.LARGER)) as started:
        if loaded:
            await started.worker.ready()
        engine = await engine_of(started.process.pid)

        started.process.kill()

        await until_gone(engine)


async def test_health_answers_while_the_model_loads_with_growing_progress(tmp_path: Path) -> None:
    async with worker_process(models.make(tmp_path / "larger.gguf", models.LARGER)) as started:
        seen = [await started.worker.health()]
        refused = await started.worker.refusal("POST", "/execute", {"job_id": "job", **ENDLESS})
        while seen[-1].status == "starting":
            seen.append(await started.worker.health())

    assert seen[0].status == "starting"
    assert refused[:2] == (503, "NOT_READY")
    assert len(seen) > 2
    assert [health.progress for health in seen] == sorted(health.progress for health in seen)
    assert (seen[0].progress, seen[-1].progress) == (0.0, 100.0)
    assert seen[-1].resident


@pytest.mark.parametrize("how", ["shutdown", "signal"])
async def test_a_worker_that_is_told_to_end_lets_its_job_finish_and_exits_0(model: Path, how: str) -> None:
    async with worker_process(model) as started:
        await started.worker.ready()
        engine = await engine_of(started.process.pid)
        body = {"job_id": "job", **ENDLESS, "max_tokens": 150}
        async with started.worker.http.post("/execute", json=body) as response:
            await response.content.readuntil(b"event: token")
            if how == "shutdown":
                async with started.worker.http.post("/shutdown") as told:
                    assert told.status == 202
            else:
                started.process.send_signal(signal.SIGTERM)
            events = list(sse.parse(await response.read()))
        status, lines = await started.end()
        await until_gone(engine)

    assert last(events)["stop_reason"] == "max_tokens"
    assert (status, lines) == (0, [])


async def test_what_a_client_wrote_never_reaches_a_log(model: Path) -> None:
    secret = "kumquat"
    odd = [{"role": "user", "content": secret}]
    async with worker_process(model) as started:
        await started.worker.ready()
        await started.worker.execute("a", prompt=secret, max_tokens=3)
        await started.worker.execute("b", messages=odd, max_tokens=3)
        await started.worker.refusal("POST", "/execute", {"job_id": "c", "prompt": secret * 5000})
        with contextlib.suppress(aiohttp.ClientError):
            await started.worker.http.post("/execute", data=secret)
        started.process.send_signal(signal.SIGTERM)
        assert started.process.stderr is not None
        said = (await started.process.stderr.read()).decode()

    assert "job_finished" in said
    assert secret not in said


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ('srv got exception: {"error":"secret"}', "srv got exception"),
        ("llg error: at 2(8): failed to compile JSON schema: secret", "llg error"),
        ("a CUDA error of its own", "a CUDA error of its own"),
    ],
)
def test_what_can_quote_a_request_is_cut_off(said: str, kept: str) -> None:
    assert _without_quotes(said) == kept
