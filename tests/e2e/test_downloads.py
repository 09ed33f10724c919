"""Downloads of real processes: killed at a random byte, on a disk that fills, by command, and run afterwards."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from llorch.wire.codec import decode_reply
from llorch.wire.events import Failed
from llorch.wire.models import Download, DownloadList
from llorch.wire.tasks import JobError
from tests.e2e.processes import Role, descendants, orchestrator_role, pool_role, role, until
from tests.support import checkpoints
from tests.support.downloading import FILE, REPO, ask, assert_absent, assert_right, fetch, listed, model_file
from tests.support.hub import Hub, running_hub
from tests.support.models import Shape, make

KILLS = 3
MIDDLING = Shape(n_embd=128, n_layer=4, n_head=4, n_ff=384)
"""About 4 MB: a few pieces of what is written at once."""


@pytest.fixture(name="hub")
async def _hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path / "home", monkeypatch) as hub:
        hub.add(REPO, {FILE: make(tmp_path / "source.gguf", MIDDLING)})
        yield hub


def pool_at(folder: Path) -> contextlib.AbstractAsyncContextManager[Role]:
    """Run a pool without an orchestrator."""
    data = str(folder / "pool")
    return role("pool", "--port", "0", "--data-dir", data, log=folder / "pool.log")


async def came(pool: Role, download_id: str, at_least: int) -> int | None:
    """Return how much of a download is there, once that is enough."""
    view = await pool.client.send("GET", f"/v2/models/downloads/{download_id}", Download)
    return view.bytes_done if view.bytes_done >= at_least or view.state == "complete" else None


async def test_a_pool_killed_at_random_bytes_ends_with_the_right_file(tmp_path: Path, hub: Hub) -> None:
    hub.faults.piece_s = 0.01
    size = len(hub.repos[REPO].files[FILE])
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    print(f"seed {seed}")
    async with pool_at(tmp_path) as pool:
        download_id = (await ask(pool.client, hub.ref(REPO, FILE))).download_id
        await pool.stop(signal.SIGKILL)
    for _ in range(KILLS):
        async with pool_at(tmp_path) as pool:
            await until(lambda pool=pool: came(pool, download_id, chance.randrange(1, size)))  # type: ignore[misc]
            started = descendants(pool.process.pid)
            await pool.stop(signal.SIGKILL)
        await until(lambda started=started: _gone(started))  # type: ignore[misc]
        if (found := model_file(tmp_path / "pool", hub)).exists():
            assert found.read_bytes() == hub.repos[REPO].files[FILE]
    hub.faults.piece_s = 0
    async with pool_at(tmp_path) as pool:
        end = await fetch(pool.client, hub.ref(REPO, FILE))
        models = await listed(pool.client)

    assert isinstance(end, Download)
    assert [model.model_ref for model in models] == [hub.ref(REPO, FILE)]
    assert_right(tmp_path / "pool", hub)


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed here")
async def test_a_job_for_safetensors_that_no_host_can_run_says_what_the_hosts_have(tmp_path: Path, hub: Hub) -> None:
    folder = checkpoints.make(tmp_path / "mine")
    hub.add("org/tiny", {path.name: path for path in folder.iterdir()})

    async with orchestrator_role(tmp_path) as orchestrator, pool_role(tmp_path, orchestrator.url):
        job = await orchestrator.submit(model="hf:org/tiny", prompt="bake kilo")
        await orchestrator.events(job.job_id)
        done = await orchestrator.task(job.job_id)

    assert done.status == "failed"
    assert isinstance(done.error, JobError)
    assert done.error.code == "BACKEND_UNAVAILABLE"
    assert "the engine torch is not installed on this host" in done.error.message
    assert "installed: llamacpp" in done.error.message
    assert hub.sent_bytes == 0


@pytest.fixture(name="small_disk")
def _small_disk() -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("a small disk of its own needs root, to mount one")
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=False, capture_output=True
        )
        if mounted.returncode != 0:
            pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
        yield Path(folder)
        subprocess.run(["umount", folder], check=True)


async def test_a_disk_that_fills_at_ninety_percent_is_told_and_left_clean(
    tmp_path: Path, hub: Hub, small_disk: Path
) -> None:
    hub.faults.hold_at = 0.5
    size = len(hub.repos[REPO].files[FILE])
    async with role(
        "pool",
        *("--port", "0", "--data-dir", str(tmp_path / "pool")),
        log=tmp_path / "log",
        env={"LLORCH_POOL_MODELS_DIR": str(small_disk / "models")},
    ) as pool:
        started = await ask(pool.client, hub.ref(REPO, FILE), size_bytes=size)
        await hub.holding.wait()
        _fill(small_disk, leaving=round(0.4 * size))
        hub.faults.release.set()
        events = [event async for event in pool.client.events(started.events_url)]
        left = [path.name for path in (small_disk / "models").rglob("*") if path.is_file()]
        (small_disk / "filler").unlink()
        again = await fetch(pool.client, hub.ref(REPO, FILE))

    told = decode_reply(events[-1].data, Failed)
    assert (events[-1].kind, told.code) == ("error", "DISK_FULL")
    assert left == []
    assert isinstance(again, Download)
    found = small_disk / "models" / f"models--{REPO.replace('/', '--')}" / "snapshots" / hub.repos[REPO].commit / FILE
    assert found.read_bytes() == hub.repos[REPO].files[FILE]


async def test_a_model_larger_than_the_disk_is_refused_before_it_is_fetched(
    tmp_path: Path, hub: Hub, small_disk: Path
) -> None:
    _fill(small_disk, leaving=1024 * 1024)
    async with role(
        "pool",
        *("--port", "0", "--data-dir", str(tmp_path / "pool")),
        log=tmp_path / "log",
        env={"LLORCH_POOL_MODELS_DIR": str(small_disk / "models")},
    ) as pool:
        end = await fetch(pool.client, hub.ref(REPO, FILE))
        views = (await pool.client.send("GET", "/v2/models/downloads", DownloadList)).downloads

    size = len(hub.repos[REPO].files[FILE])
    assert isinstance(end, Failed)
    assert end.code == "DISK_FULL"
    details = views[0].details
    assert isinstance(details, dict)
    assert details["required_bytes"] == size
    assert 0 < int(str(details["available_bytes"])) < 1024 * 1024
    assert hub.count("get") == 0
    assert_absent(small_disk, hub)


def _fill(disk: Path, *, leaving: int) -> None:
    """Take the space of a disk but for *leaving*, while somebody else writes to it too."""
    with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            system = os.statvfs(disk)
            spare = system.f_bavail * system.f_frsize - leaving
            if spare <= 0:
                return
            file.write(b"\0" * min(spare, 65_536))


async def _gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) for pid in pids)
