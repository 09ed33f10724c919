"""A pool's addresses, asked over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from pathlib import Path

import gguf
import pytest

from llorch import __version__, config
from llorch.client import Client
from llorch.edge import DRAIN
from llorch.errors import InvalidConfiguration, RemoteError
from llorch.models import HAIKU_REF
from llorch.serve import running
from llorch.wire.meta import Health, ReadyReply, Version
from llorch.wire.pools import ModelList, PoolStatus, Worker, WorkerList, WorkerLogs
from llorch.wire.workers import Ready
from roles.pool import app
from roles.pool.api import same_machine
from roles.pool.model_cache.catalogue import ASSETS
from tests.support.pools import Running, running_pool

HAIKU = ASSETS / "haiku.gguf"


def write_model(path: Path, architecture: str) -> str:
    """Write a model of an architecture; return its reference."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(64)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return f"file:{path}"


async def refusal(pool: Running, model_ref: str, **more: object) -> RemoteError:
    """Return how a spawn is refused; no worker may come of it."""
    with pytest.raises(RemoteError) as refused:
        await pool.spawn(model_ref, **more)
    assert (await pool.client.send("GET", "/v2/workers", WorkerList)).workers == []
    return refused.value


def ready_body(worker_id: str) -> Ready:
    return Ready(
        worker_id=worker_id,
        model_ref=HAIKU_REF,
        uri="http://127.0.0.1:1",
        memory_bytes=1,
        memory_architecture="system",
        backend="cpu",
        engine="llamacpp",
        capabilities=["text-gen"],
        slots=1,
        context_length=64,
    )


async def test_status_tells_what_this_host_has(tmp_path: Path) -> None:
    async with running_pool(tmp_path, pool_id="here") as pool:
        status = await pool.client.send("GET", "/v2/status", PoolStatus)
        unversioned = await pool.client.send("GET", "/status", PoolStatus)

        [cpu] = [device for device in status.devices if device.backend == "cpu"]
        assert (status.pool_id, status.version, status.draining) == ("here", __version__, False)
        assert 0 < cpu.memory_free_bytes <= cpu.memory_total_bytes
        assert [(model.model_ref, model.aliases) for model in status.models] == [(HAIKU_REF, ["haiku"])]
        assert 0 < status.disk.free_bytes <= status.disk.total_bytes
        assert unversioned.pool_id == "here"


async def test_status_and_workers_never_show_a_token(tmp_path: Path) -> None:
    async with running_pool(tmp_path) as pool:
        worker_id = await pool.spawn()
        token = (await pool.listener.until_worker(worker_id, "ready")).token

        async with pool.client.request("GET", "/v2/status") as answer:
            status = await answer.text()
        async with pool.client.request("GET", "/v2/workers") as answer:
            workers = await answer.text()

        assert worker_id in status
        assert worker_id in workers
        assert token not in status + workers
        assert "token" not in status.replace("max_token_bytes", "") + workers


async def test_a_model_of_the_user_is_listed(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    mine = tmp_path / "models" / "mine.gguf"
    shutil.copy(HAIKU, mine)
    (tmp_path / "models" / "broken.gguf").write_bytes(b"GGUF")

    async with running_pool(tmp_path) as pool:
        models = (await pool.client.send("GET", "/v2/models", ModelList)).models

    assert [model.model_ref for model in models] == [HAIKU_REF, f"file:{mine}"]


async def test_a_file_that_is_not_there_starts_nothing(tmp_path: Path) -> None:
    async with running_pool(tmp_path) as pool:
        error = await refusal(pool, f"file:{tmp_path}/none.gguf")

        assert (error.status, error.code) == (404, "MODEL_NOT_FOUND")


@pytest.mark.parametrize("ref", ["file:/builtin/none.gguf", "hf:a/b@main::file=c.gguf"])
async def test_a_model_that_this_host_does_not_have_is_not_found(tmp_path: Path, ref: str) -> None:
    async with running_pool(tmp_path) as pool:
        assert (await refusal(pool, ref)).code == "MODEL_NOT_FOUND"


async def test_a_truncated_file_starts_nothing(tmp_path: Path) -> None:
    path = tmp_path / "short.gguf"
    path.write_bytes(HAIKU.read_bytes()[:-32])  # up to 31 bytes at the end may be there for alignment alone

    async with running_pool(tmp_path) as pool:
        error = await refusal(pool, f"file:{path}")

        assert (error.status, error.code) == (409, "MODEL_INVALID")
        assert "truncated" in error.message


async def test_a_text_file_starts_nothing(tmp_path: Path) -> None:
    path = tmp_path / "text.gguf"
    path.write_text("this is a story")

    async with running_pool(tmp_path) as pool:
        assert (await refusal(pool, f"file:{path}")).code == "MODEL_INVALID"


async def test_a_folder_starts_nothing(tmp_path: Path) -> None:
    async with running_pool(tmp_path) as pool:
        assert (await refusal(pool, f"file:{tmp_path}")).code == "MODEL_INVALID"


async def test_an_architecture_that_the_engine_does_not_know_starts_nothing(tmp_path: Path) -> None:
    ref = write_model(tmp_path / "strange.gguf", "strange")

    async with running_pool(tmp_path) as pool:
        error = await refusal(pool, ref)

        assert (error.status, error.code) == (409, "MODEL_INCOMPATIBLE")
        assert "strange" in error.message


async def test_a_backend_that_is_not_there_starts_nothing(tmp_path: Path) -> None:
    async with running_pool(tmp_path) as pool:
        error = await refusal(pool, HAIKU_REF, backend="metal")

        assert (error.status, error.code) == (409, "BACKEND_UNAVAILABLE")
        assert "cpu" in error.message


async def test_a_model_that_does_not_fit_starts_nothing(tmp_path: Path) -> None:
    async with running_pool(tmp_path, reserve_bytes=2**50) as pool:
        error = await refusal(pool, HAIKU_REF)

        assert (error.status, error.code) == (409, "INSUFFICIENT_MEMORY")
        assert error.details is not None
        assert error.details["available_bytes"] == 0


async def test_an_alias_is_refused(tmp_path: Path) -> None:
    async with running_pool(tmp_path) as pool:
        assert (await refusal(pool, "haiku")).code == "INVALID_REQUEST"


async def test_the_unversioned_address_spawns_too(tmp_path: Path) -> None:
    body = {"model_ref": HAIKU_REF}

    async with (
        running_pool(tmp_path, "silent") as pool,
        pool.client.request("POST", "/workers/spawn", body=body) as answer,
    ):
        assert answer.status == 202


async def test_ready_is_refused_without_the_token_of_that_worker(tmp_path: Path) -> None:
    async with running_pool(tmp_path, "silent") as pool:
        worker_id = await pool.spawn()

        codes = []
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            with pytest.raises(RemoteError) as refused:
                await pool.client.send(
                    "POST", "/v2/internal/workers/ready", Worker, body=ready_body(worker_id), headers=headers
                )
            codes.append((refused.value.status, refused.value.code))

        assert codes == [(401, "MISSING_TOKEN"), (401, "INVALID_TOKEN")]
        assert (await pool.worker(worker_id)).status == "starting"


async def test_ready_from_an_unknown_worker_is_not_found(tmp_path: Path) -> None:
    async with running_pool(tmp_path) as pool:
        with pytest.raises(RemoteError) as refused:
            await pool.client.send("POST", "/v2/internal/workers/ready", Worker, body=ready_body("nobody"))

        assert (refused.value.status, refused.value.code) == (404, "WORKER_NOT_FOUND")


async def test_a_worker_is_ready_only_once(tmp_path: Path) -> None:
    async with running_pool(tmp_path) as pool:
        worker_id = await pool.spawn()
        token = (await pool.listener.until_worker(worker_id, "ready")).token

        with pytest.raises(RemoteError) as refused:
            await pool.client.send(
                "POST",
                "/v2/internal/workers/ready",
                Worker,
                body=ready_body(worker_id),
                headers={"Authorization": f"Bearer {token}"},
            )

        assert (refused.value.status, refused.value.code) == (409, "CONFLICT")


@pytest.mark.parametrize(
    ("peer", "own", "same"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.8.8.8", "127.0.0.1", True),
        ("::1", "::1", True),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", True),
        ("10.0.0.5", "10.0.0.5", True),
        ("10.0.0.6", "10.0.0.5", False),
        ("", "", False),
    ],
)
def test_only_this_machine_is_this_machine(peer: str, own: str, *, same: bool) -> None:
    assert same_machine(peer, own) is same


async def test_logs_are_those_of_the_worker_without_its_place_on_the_host(tmp_path: Path) -> None:
    async with running_pool(tmp_path, "crash") as pool:
        worker_id = await pool.spawn()
        await pool.listener.until_worker(worker_id, "failed")

        lines = (await pool.client.send("GET", f"/v2/workers/{worker_id}/logs", WorkerLogs)).lines

        assert lines[-1] == '{"event": "failed", "error": "cannot load file:/builtin/haiku.gguf"}'
        assert (tmp_path / "logs" / f"{worker_id}.log").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/stop"), ("POST", "/drain"), ("GET", "/logs")])
async def test_an_unknown_worker_is_not_found(tmp_path: Path, method: str, path: str) -> None:
    async with running_pool(tmp_path) as pool:
        with pytest.raises(RemoteError) as refused:
            await pool.client.send(method, f"/v2/workers/none{path}", Worker)

        assert refused.value.code == "WORKER_NOT_FOUND"


async def test_a_pool_that_ends_starts_no_workers(tmp_path: Path) -> None:
    settings = config.load(env={}, overrides={"pool": {"data_dir": str(tmp_path)}})
    built = app.create(settings)
    async with running(built, "127.0.0.1", 0) as url, Client(url) as client:
        before = await client.send("GET", "/ready", ReadyReply)
        await built[DRAIN]()

        with pytest.raises(RemoteError) as refused:
            await client.send("POST", "/v2/workers/spawn", Worker, body={"model_ref": HAIKU_REF})

        assert before == ReadyReply(ready=True)
        assert (refused.value.status, refused.value.code) == (503, "DRAINING")
        async with asyncio.timeout(10):
            with pytest.raises(RemoteError):
                await client.send("GET", "/ready", ReadyReply)


async def test_a_pool_with_a_token_shows_only_its_health_without_it(tmp_path: Path) -> None:
    settings = config.load(env={"LLORCH_API_TOKEN": "secret"}, overrides={"pool": {"data_dir": str(tmp_path)}})
    async with running(app.create(settings), "127.0.0.1", 0) as url, Client(url) as client:
        assert await client.send("GET", "/health", Health) == Health("ok")
        with pytest.raises(RemoteError) as refused:
            await client.send("GET", "/v2/status", PoolStatus)
        assert refused.value.code == "MISSING_TOKEN"


async def test_version_metrics_and_document_are_there(tmp_path: Path) -> None:
    async with running_pool(tmp_path) as pool:
        assert await pool.client.send("GET", "/v2/meta/version", Version) == Version(__version__, "pool")
        document = await pool.client.send("GET", "/openapi.json", dict[str, object])
        async with pool.client.request("GET", "/metrics") as answer:
            metrics = await answer.text()

        assert "/v2/workers/spawn" in str(document["paths"])
        assert 'pool_mgr_workers_total{status="ready"} 0.0' in metrics


async def test_a_data_directory_that_cannot_be_used_is_said_at_start(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text(hashlib.sha256(b"").hexdigest())
    settings = config.load(env={}, overrides={"pool": {"data_dir": str(taken)}})

    with pytest.raises(InvalidConfiguration, match=r"data directory .* cannot be used"):
        async with running(app.create(settings), "127.0.0.1", 0):
            pass
