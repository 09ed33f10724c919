"""Workers of a pool as real processes: started, watched, stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import aiohttp
import psutil
import pytest
from msgspec import UNSET

from llorch.client import Client
from llorch.errors import RemoteError
from llorch.models import HAIKU_REF
from llorch.wire.pools import Spawned, Worker, WorkerLogs
from tests.support import models
from tests.support.ended import ended
from tests.support.pools import Running, running_pool

ROOT = Path(__file__).resolve().parents[2]


async def logs(pool: Running, worker_id: str) -> list[str]:
    """Return what a worker logged."""
    return (await pool.client.send("GET", f"/v2/workers/{worker_id}/logs", WorkerLogs)).lines


async def test_a_worker_becomes_ready_and_its_orchestrator_is_told_at_once(tmp_path: Path) -> None:
    async with running_pool(tmp_path) as pool:
        worker_id = await pool.spawn()

        report = await pool.listener.until_worker(worker_id, "ready")

        seen = await pool.worker(worker_id)
        assert (seen.status, seen.slots, seen.context_length, seen.memory_bytes) == ("ready", 2, 64, 1000)
        assert report.uri == seen.uri
        assert report.token
        assert isinstance(seen.pid, int)
        assert os.getpgid(seen.pid) == os.getsid(seen.pid) == seen.pid


async def test_a_worker_that_is_killed_has_failed_with_its_exit_status(tmp_path: Path) -> None:
    async with running_pool(tmp_path) as pool:
        worker_id = await pool.spawn()
        pid = (await pool.listener.until_worker(worker_id, "ready")).pid
        assert isinstance(pid, int)

        os.kill(pid, signal.SIGKILL)
        report = await pool.listener.until_worker(worker_id, "failed")

        assert (report.exit_code, report.error_code) == (-9, "WORKER_LOST")
        assert "killed by signal 9" in str(report.error)


async def test_a_new_worker_that_speaks_another_version_has_failed_to_start_and_says_what_to_do(tmp_path: Path) -> None:
    async with running_pool(tmp_path, "future") as pool:
        worker_id = await pool.spawn()
        report = await pool.listener.until_worker(worker_id, "failed", "ready", "stopped")

    assert (report.status, report.error_code) == ("failed", "ENGINE_FAILED")
    assert report.error == (
        "it speaks version 2 of the workers' protocol, and this pool version 1: "
        "the program was replaced while the pool ran; restart the pool"
    )


async def test_a_worker_that_ends_while_loading_tells_its_last_words(tmp_path: Path) -> None:
    async with running_pool(tmp_path, "crash") as pool:
        worker_id = await pool.spawn()

        report = await pool.listener.until_worker(worker_id, "failed")

        assert (report.exit_code, report.error_code) == (3, "ENGINE_FAILED")
        assert report.error == "cannot load file:/builtin/haiku.gguf (exit status 3)"


async def test_a_worker_that_is_never_ready_is_killed_and_its_progress_was_told(tmp_path: Path) -> None:
    async with running_pool(tmp_path, "silent", ready_timeout_s=4.0) as pool:
        worker_id = await pool.spawn()

        report = await pool.listener.until_worker(worker_id, "failed")

        assert report.error_code == "STARTUP_TIMEOUT"
        assert report.progress == 50.0
        assert isinstance(report.pid, int)
        assert not psutil.pid_exists(report.pid)


async def test_a_worker_with_another_token_is_not_believed(tmp_path: Path) -> None:
    async with running_pool(tmp_path, "impostor") as pool:
        worker_id = await pool.spawn()

        report = await pool.listener.until_worker(worker_id, "failed", "ready")

        assert report.status == "failed"
        assert report.error == "the pool refused: 401 (exit status 1)"


async def test_a_worker_that_stops_answering_is_killed(tmp_path: Path) -> None:
    async with running_pool(tmp_path, "deaf", health_interval_s=0.05) as pool:
        worker_id = await pool.spawn()

        report = await pool.listener.until_worker(worker_id, "failed")

        assert report.error_code == "WORKER_LOST"
        assert report.error == "it did not answer 3 health checks"


async def test_health_checks_tell_whether_a_worker_is_busy(tmp_path: Path) -> None:
    async with running_pool(tmp_path, health_interval_s=0.05) as pool:
        worker_id = await pool.spawn()

        report = await pool.listener.until_worker(worker_id, "busy")

        assert report.slots_busy == 1


async def test_stopping_lets_a_worker_end_by_itself(tmp_path: Path) -> None:
    async with running_pool(tmp_path) as pool:
        worker_id = await pool.spawn()
        await pool.listener.until_worker(worker_id, "ready")

        report = await pool.stop(worker_id)

        assert (report.status, report.exit_code) == ("stopped", 0)


async def test_draining_lets_a_worker_end_by_itself(tmp_path: Path) -> None:
    async with running_pool(tmp_path) as pool:
        worker_id = await pool.spawn()
        await pool.listener.until_worker(worker_id, "ready")

        asked = await pool.client.send("POST", f"/v2/workers/{worker_id}/drain", Worker)
        report = await pool.listener.until_worker(worker_id, "stopped", "failed")

        assert (asked.status, report.status, report.exit_code) == ("draining", "stopped", 0)


async def test_jobs_of_a_drained_worker_take_as_long_as_they_do_until_it_is_stopped(tmp_path: Path) -> None:
    async with running_pool(tmp_path, "patient", drain_s=7.0) as pool:
        worker_id = await pool.spawn()
        await pool.listener.until_worker(worker_id, "ready")
        log = tmp_path / "logs" / f"{worker_id}.log"
        await pool.client.send("POST", f"/v2/workers/{worker_id}/drain", Worker)
        async with asyncio.timeout(60):
            while "told" not in log.read_text():
                await asyncio.sleep(0.01)
        meanwhile = await pool.worker(worker_id)
        ended = await pool.stop(worker_id)

    told = [line for line in log.read_text().splitlines() if line.startswith("told")]
    assert (meanwhile.status, ended.status, ended.exit_code) == ("draining", "stopped", 0)
    assert told == ["told /shutdown?drain_s=inf", "told /shutdown?drain_s=7.0"]


async def test_a_stopped_worker_hands_back_what_takes_longer_than_it_may(tmp_path: Path) -> None:
    slow = models.make(tmp_path / "slow.gguf", models.LARGER)
    async with running_pool(tmp_path, "", drain_s=0.1) as pool:
        ready = await pool.listener.until_worker(await pool.spawn(f"file:{slow}", slots=1), "ready")
        engine = psutil.Process(int(str(ready.pid))).children(recursive=True)[-1]
        async with aiohttp.ClientSession(str(ready.uri), headers={"Authorization": f"Bearer {ready.token}"}) as http:
            job = await http.post("/execute", json={"job_id": "j", "prompt": "Write", "max_tokens": 1500})
            await job.content.readuntil(b"event: started")
            engine.suspend()
            stopped = await pool.stop(ready.worker_id)
            events = await job.text()

    assert events.rpartition("event: ")[2].startswith("error")
    assert '"code":"DRAINING"' in events
    assert (stopped.status, stopped.exit_code) == ("stopped", 0)


async def test_stopping_leaves_nothing_of_a_worker_that_will_not_end(tmp_path: Path) -> None:
    async with running_pool(tmp_path, "stubborn") as pool:
        worker_id = await pool.spawn()
        await pool.listener.until_worker(worker_id, "ready")
        [line] = [line for line in await logs(pool, worker_id) if line.startswith("child ")]
        child = psutil.Process(int(line.removeprefix("child ")))

        report = await pool.stop(worker_id)
        again = await pool.stop(worker_id)

        assert (report.status, report.exit_code) == ("stopped", -9)
        assert again.status == "stopped"
        assert await asyncio.to_thread(psutil.wait_procs, [child], 10) == ([child], [])


async def test_what_a_killed_worker_started_does_not_outlive_it(tmp_path: Path) -> None:
    async with running_pool(tmp_path, "stubborn") as pool:
        worker_id = await pool.spawn()
        pid = (await pool.listener.until_worker(worker_id, "ready")).pid
        assert isinstance(pid, int)
        [child] = psutil.Process(pid).children()

        os.kill(pid, signal.SIGKILL)
        await pool.listener.until_worker(worker_id, "failed")

        assert await asyncio.to_thread(psutil.wait_procs, [child], 10) == ([child], [])


async def test_a_pool_that_ends_takes_its_workers_along(tmp_path: Path) -> None:
    async with running_pool(tmp_path) as pool:
        worker_id = await pool.spawn()
        pid = (await pool.listener.until_worker(worker_id, "ready")).pid
        assert isinstance(pid, int)

    assert not psutil.pid_exists(pid)
    assert pool.listener.goodbyes == 1


async def test_a_worker_that_cannot_be_started_has_failed(tmp_path: Path) -> None:
    async with running_pool(tmp_path) as pool:
        (tmp_path / "logs").rename(tmp_path / "away")
        (tmp_path / "logs").write_text("")
        worker_id = await pool.spawn()

        report = await pool.listener.until_worker(worker_id, "failed")

        assert report.error_code == "ENGINE_FAILED"
        assert "could not be started" in str(report.error)


async def test_two_spawns_at_once_cannot_have_the_same_memory(tmp_path: Path) -> None:
    async with running_pool(tmp_path / "first", "silent", memory_limit_bytes=1) as pool:
        with pytest.raises(RemoteError) as alone:
            await pool.spawn(slots=256, ctx=512)
    assert alone.value.details is not None
    room = int(str(alone.value.details["required_bytes"])) * 3 // 2
    async with running_pool(tmp_path / "second", "silent", memory_limit_bytes=room) as pool:
        outcomes = await asyncio.gather(  # noqa: TID251 - both outcomes are wanted, errors too
            *(pool.spawn(slots=256, ctx=512) for _ in range(2)), return_exceptions=True
        )

        [refused] = [outcome for outcome in outcomes if isinstance(outcome, RemoteError)]
        [worker_id] = [outcome for outcome in outcomes if isinstance(outcome, str)]
        needed = (await pool.worker(worker_id)).memory_bytes
        assert room / 2 < needed < room
        assert refused.code == "INSUFFICIENT_MEMORY"
        assert refused.details is not None
        assert refused.details["required_bytes"] == needed
        assert int(str(refused.details["available_bytes"])) < needed


async def test_a_real_worker_loads_the_built_in_model_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    async with running_pool(tmp_path, "") as pool:
        worker_id = await pool.spawn(slots=2, ctx=64)
        ready = await pool.listener.until_worker(worker_id, "ready", "failed")
        processes = psutil.Process(int(str(ready.pid))).children(recursive=True)

        ended = await pool.stop(worker_id)

        assert (ready.status, ready.slots, ready.context_length) == ("ready", 2, 64), ready.error
        assert (ended.status, ended.exit_code) == ("stopped", 0)
        assert await asyncio.to_thread(psutil.wait_procs, processes, 10) == (processes, [])


async def test_workers_outlive_a_pool_that_is_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "LLORCH_POOL_DATA_DIR": str(tmp_path), "LLORCH_POOL_PORT": "0"}
    pool = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "llorch", "serve", "pool", stdout=PIPE, stderr=DEVNULL, env=environment, cwd=ROOT
    )
    assert pool.stdout is not None
    async with Client((await pool.stdout.readline()).decode().strip()) as client:
        body = {"model_ref": HAIKU_REF}
        worker_id = (await client.send("POST", "/v2/workers/spawn", Spawned, body=body)).worker_id
        worker = await until_started(client, worker_id)

    pool.kill()
    await pool.wait()

    process = psutil.Process(int(str(worker.pid)))
    alive = not ended(process)
    os.killpg(process.pid, signal.SIGKILL)
    assert alive


async def until_started(client: Client, worker_id: str) -> Worker:
    """Return a worker as soon as it has a process."""
    while True:
        worker = await client.send("GET", f"/v2/workers/{worker_id}", Worker)
        if worker.pid is not UNSET:
            return worker
