"""What a pool does about the workers that an earlier process of it has left running."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from llorch import config
from llorch.errors import Conflict
from llorch.program import WORKER_TOKEN_VARIABLE
from llorch.serve import running
from llorch.wire.pools import Register, WorkerReport
from roles.pool import app
from roles.pool.worker_lifecycle import identity, life, records, takeover
from roles.pool.worker_lifecycle.ledger import Ledger, Saved
from roles.pool.worker_lifecycle.reclaim import Reclaim
from tests.support.ended import pid_ended
from tests.support.pools import CHILD, Running, running_pool
from tests.unit.test_pool_worker_lifecycle_records import READY, STARTING

WAIT = "import threading; threading.Event().wait()"


async def registered(pool: Running) -> Register:
    """Return what a pool told its orchestrator first."""
    return await pool.listener.until(lambda: next(iter(pool.listener.registrations), None))


async def written(data: Path, *workers: Saved) -> None:
    """Write workers down as an earlier pool would have."""
    (data / "workers").mkdir(parents=True)
    ledger = Ledger(data / "workers")
    for saved in workers:
        ledger.save(saved)
    await ledger.close()


async def left_running(data: Path, mode: str) -> WorkerReport:
    """Run a pool that leaves one worker behind; return it."""
    async with running_pool(data, mode, keep_workers=True) as pool:
        worker_id = await pool.spawn()
        return await pool.listener.until_worker(worker_id, "starting" if mode == "mute" else "ready")


async def test_workers_that_were_left_are_in_the_first_registration_and_can_be_stopped(tmp_path: Path) -> None:
    before = await left_running(tmp_path, "stubborn")

    async with running_pool(tmp_path) as pool:
        [worker] = (await registered(pool)).workers
        seen = await pool.worker(before.worker_id)
        ended = await pool.stop(before.worker_id)

    assert (worker.worker_id, worker.uri, worker.token) == (before.worker_id, before.uri, before.token)
    assert (worker.status, worker.adopted, worker.pid) == ("ready", True, before.pid)
    assert (seen.memory_bytes, seen.slots, seen.context_length) == (1000, 2, 64)
    assert (ended.status, ended.exit_code) == ("stopped", records.view(READY).exit_code)
    assert pid_ended(int(str(before.pid)))
    assert list((tmp_path / "workers").iterdir()) == []


async def test_the_end_of_an_adopted_worker_is_seen_at_once_though_not_its_status(tmp_path: Path) -> None:
    before = await left_running(tmp_path, "good")

    async with running_pool(tmp_path) as pool:
        await registered(pool)
        os.kill(int(str(before.pid)), signal.SIGKILL)
        ended = await pool.listener.until_worker(before.worker_id, "failed")

    assert ended.error_code == "WORKER_LOST"
    assert "exit status unknown" in str(ended.error)
    assert "exit_code" not in str(ended).replace("exit_code=UNSET", "")


async def test_an_adopted_worker_that_does_not_answer_is_ended_like_any_other(tmp_path: Path) -> None:
    before = await left_running(tmp_path, "deaf")

    async with running_pool(tmp_path, health_interval_s=0.05) as pool:
        ended = await pool.listener.until_worker(before.worker_id, "failed")

    assert ended.error == "it did not answer 3 health checks"
    assert pid_ended(int(str(before.pid)))


async def test_a_worker_that_was_still_starting_becomes_ready_under_the_next_pool(tmp_path: Path) -> None:
    before = await left_running(tmp_path, "mute")

    async with running_pool(tmp_path) as pool:
        [worker] = (await registered(pool)).workers
        log = tmp_path / "logs" / f"{before.worker_id}.log"
        async with asyncio.timeout(30):
            while "waits" not in log.read_text():
                await asyncio.sleep(0.01)
        pid = (await pool.worker(before.worker_id)).pid
        os.kill(int(str(pid)), signal.SIGUSR1)
        ready = await pool.listener.until_worker(before.worker_id, "ready")

    assert (worker.status, worker.adopted) == ("starting", True)
    assert (ready.uri, ready.slots) == (log.read_text().splitlines()[0], 2)


async def test_a_worker_that_has_died_meanwhile_has_failed_once(tmp_path: Path) -> None:
    before = await left_running(tmp_path, "good")
    os.kill(int(str(before.pid)), signal.SIGKILL)
    await asyncio.to_thread(psutil.wait_procs, [psutil.Process(int(str(before.pid)))], 0.5)

    async with running_pool(tmp_path) as pool:
        [worker] = (await registered(pool)).workers
        assert (worker.status, worker.error_code) == ("failed", "WORKER_LOST")
        assert "while no pool was watching" in str(worker.error)
    async with running_pool(tmp_path) as pool:
        assert (await registered(pool)).workers == []


async def test_what_a_dead_worker_had_started_is_ended(tmp_path: Path) -> None:
    before = await left_running(tmp_path, "stubborn")
    process = psutil.Process(int(str(before.pid)))
    [child] = process.children()
    process.kill()

    async with running_pool(tmp_path) as pool:
        await registered(pool)
        await asyncio.to_thread(psutil.wait_procs, [child], 20)

    assert pid_ended(child.pid)


async def test_a_draining_worker_is_drained_on(tmp_path: Path) -> None:
    before = await left_running(tmp_path, "good")
    file = tmp_path / "workers" / f"{before.worker_id}.json"
    file.write_bytes(file.read_bytes().replace(b'"status":"ready"', b'"status":"draining"'))

    async with running_pool(tmp_path) as pool:
        ended = await pool.listener.until_worker(before.worker_id, "stopped", "failed")

    assert ended.status == "stopped"


async def test_a_worker_that_speaks_another_version_finishes_its_jobs_and_then_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "IDLE_POLL_S", 0.02)
    before = await left_running(tmp_path, "working")
    file = tmp_path / "workers" / f"{before.worker_id}.json"
    file.write_bytes(file.read_bytes().replace(b'"protocol":1', b'"protocol":7'))
    log = tmp_path / "logs" / f"{before.worker_id}.log"

    async with running_pool(tmp_path) as pool:
        [worker] = (await registered(pool)).workers
        async with asyncio.timeout(30):
            while log.read_text().count("asked while it works") < 5:
                await asyncio.sleep(0.01)
        meanwhile = await pool.worker(before.worker_id)
        os.kill(int(str(before.pid)), signal.SIGUSR1)
        ended = await pool.listener.until_worker(before.worker_id, "stopped", "failed")

    assert (worker.status, worker.protocol, worker.adopted) == ("draining", 7, True)
    assert (meanwhile.status, meanwhile.pid) == ("draining", before.pid)
    assert ended.status == "stopped"


async def test_whoever_wants_a_finishing_worker_stopped_need_not_wait_for_its_jobs(tmp_path: Path) -> None:
    before = await left_running(tmp_path, "working")
    file = tmp_path / "workers" / f"{before.worker_id}.json"
    file.write_bytes(file.read_bytes().replace(b'"protocol":1', b'"protocol":7'))

    async with running_pool(tmp_path) as pool:
        await registered(pool)
        ended = await pool.stop(before.worker_id)

    assert ended.status == "stopped"


async def test_a_condemned_worker_is_ended(tmp_path: Path) -> None:
    before = await left_running(tmp_path, "good")
    file = tmp_path / "workers" / f"{before.worker_id}.json"
    file.write_bytes(file.read_bytes().replace(b'"condemned":null', b'"condemned":["WORKER_LOST","it was deaf"]'))

    async with running_pool(tmp_path) as pool:
        ended = await pool.listener.until_worker(before.worker_id, "failed")

    assert ended.error == "it was deaf"


async def test_a_process_that_is_not_surely_the_worker_is_left_alone_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "STRANGER_POLL_S", 0.05)
    with subprocess.Popen([sys.executable, "-c", WAIT]) as stranger:
        birth = identity.birth(stranger.pid)
        await written(tmp_path, Saved(record=replace(READY, pid=stranger.pid), model_path="/m", birth=birth))

        async with running_pool(tmp_path) as pool:
            [worker] = (await registered(pool)).workers
            stopped = await pool.client.send("POST", "/v2/workers/w/stop", dict)
            untouched = stranger.poll() is None
            kept = (tmp_path / "workers" / "w.json").exists()
            stranger.kill()
            stranger.wait()
            async with asyncio.timeout(30):
                while (tmp_path / "workers" / "w.json").exists():
                    await asyncio.sleep(0.01)

    assert (worker.status, stopped["status"]) == ("failed", "failed")
    assert f"the process {stranger.pid} may be this worker and is left alone" in str(worker.error)
    assert (untouched, kept) == (True, True)


async def test_a_worker_whose_pool_died_before_it_noted_the_process_is_found(tmp_path: Path) -> None:
    token = {**os.environ, WORKER_TOKEN_VARIABLE: STARTING.token}
    worker_id = "0d7c3bfe-0000-4000-8000-123456789abc"
    arguments = ["silent", worker_id, STARTING.model_ref, "http://127.0.0.1:1"]
    with subprocess.Popen(
        [sys.executable, str(CHILD), *arguments], env=token, start_new_session=True, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        await written(tmp_path, Saved(record=replace(STARTING, worker_id=worker_id), model_path="/m"))

        async with running_pool(tmp_path) as pool:
            [worker] = (await registered(pool)).workers
            await pool.stop(worker_id)

    assert (worker.status, worker.pid, worker.adopted) == ("starting", process.pid, True)
    assert process.returncode == -signal.SIGTERM


async def test_workers_outlive_a_pool_that_breaks_and_their_orchestrator_is_told_no_goodbye(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, left = asyncio.Event(), list[tuple[Running, WorkerReport]]()

    async def breaking(_reclaim: Reclaim) -> None:
        await broken.wait()
        raise RuntimeError("a bug")

    async def run_until_it_breaks() -> None:
        async with running_pool(tmp_path) as pool:
            left.append((pool, await pool.listener.until_worker(await pool.spawn(), "ready")))
            broken.set()
            await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(Reclaim, "run", breaking)
        with pytest.raises(BaseExceptionGroup) as caught:
            await run_until_it_breaks()
    [(first, before)] = left
    alive = not pid_ended(int(str(before.pid)))
    async with running_pool(tmp_path) as pool:
        [worker] = (await registered(pool)).workers
        ended = await pool.stop(before.worker_id)

    assert caught.value.split(RuntimeError)[1] is None
    assert [str(error) for error in caught.value.exceptions] == ["a bug"]
    assert (alive, first.listener.goodbyes) == (True, 0)
    assert (worker.worker_id, worker.pid, worker.adopted) == (before.worker_id, before.pid, True)
    assert ended.status == "stopped"


async def test_two_pools_cannot_have_the_same_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "LOCK_PATIENCE_S", 0.1)
    second = config.load(env={}, overrides={"pool": {"data_dir": str(tmp_path)}})

    async with running_pool(tmp_path):
        with pytest.raises(Conflict, match="another pool uses the data directory"):
            async with running(app.create(second), "127.0.0.1", 0):
                pass
