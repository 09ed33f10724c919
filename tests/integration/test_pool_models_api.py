"""The addresses for downloads: any number of askers, a few at once, cancelled, and what is refused."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from llorch.errors import RemoteError
from llorch.openapi import document
from llorch.wire.events import Failed
from llorch.wire.models import Download, DownloadList
from roles.pool.model_cache import files
from roles.pool.model_cache.catalogue import ASSETS
from roles.pool.models_api import ENDPOINTS
from tests.support.downloading import (
    FILE,
    HASTY,
    REPO,
    ask,
    assert_absent,
    assert_right,
    fetch,
    follow,
    listed,
)
from tests.support.hub import Hub, running_hub
from tests.support.models import make
from tests.support.pools import Running, running_pool


@pytest.fixture(name="hub")
async def _hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path / "home", monkeypatch) as hub:
        hub.add(REPO, {FILE: make(tmp_path / "source.gguf"), "README.md": Path(__file__)})
        yield hub


@pytest.fixture(name="pool")
async def _pool(tmp_path: Path, hub: Hub) -> AsyncIterator[Running]:
    async with running_pool(tmp_path / "pool", download_patience=HASTY) as pool:
        yield pool


def measuring(troubles: list[Exception]) -> Callable[[Path], int]:
    """Return what measures a folder, once there are no troubles left to raise."""
    real = files.size_below

    def measured(folder: Path) -> int:
        if troubles:
            raise troubles.pop()
        return real(folder)

    return measured


async def test_two_askers_are_one_download(pool: Running, hub: Hub) -> None:
    hub.faults.hold_at = 0.2
    first = await ask(pool.client, hub.ref(REPO, FILE))
    await hub.holding.wait()
    second = await ask(pool.client, hub.ref(REPO, FILE))
    hub.faults.release.set()
    ends = [(await follow(pool.client, started))[1] for started in (first, second)]

    assert first.download_id == second.download_id
    assert [end.state for end in ends if isinstance(end, Download)] == ["complete", "complete"]
    assert hub.count("get") == 1
    assert_right(pool.data, hub)


async def test_a_download_that_could_not_begin_is_begun_when_it_is_asked_for_again_and_outlasts_trouble(
    pool: Running, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref, size_bytes = hub.ref(REPO, FILE), len(hub.repos[REPO].files[FILE])
    full = OSError(errno.EMFILE, "Too many open files")
    monkeypatch.setattr(files, "size_below", measuring([full, ValueError("a bug"), full]))

    refusals: list[tuple[int, str]] = []
    for _ in range(2):
        with pytest.raises(RemoteError) as refused:
            await ask(pool.client, ref, size_bytes=size_bytes)
        refusals.append((refused.value.status, refused.value.code))
    progress, end = await follow(pool.client, await ask(pool.client, ref))

    assert refusals == [(502, "DOWNLOAD_FAILED"), (500, "INTERNAL")]
    assert "Too many open files" in " ".join(str(view.error) for view in progress)
    assert isinstance(end, Download)
    assert_right(pool.data, hub)


async def test_a_model_of_another_case_is_here_once_it_was_fetched(pool: Running, hub: Hub) -> None:
    hub.add("org/loud", {"loud.Q4_K_M.GGUF": ASSETS / "haiku.gguf"})
    ref = hub.ref("org/loud", "loud.Q4_K_M.GGUF")

    await fetch(pool.client, ref)
    again = await ask(pool.client, ref)
    found = await listed(pool.client)

    assert again.state == "complete"
    assert [model.model_ref for model in found] == [ref]


async def test_askers_at_the_same_moment_are_one_download(pool: Running, hub: Hub) -> None:
    async with asyncio.TaskGroup() as tasks:
        fetches = [tasks.create_task(fetch(pool.client, hub.ref(REPO, FILE))) for _ in range(8)]

    assert all(isinstance(task.result(), Download) for task in fetches)
    assert (hub.count("api"), hub.count("get")) == (1, 1)


async def test_only_so_many_download_at_once(tmp_path: Path, hub: Hub) -> None:
    for number in range(3):
        hub.add(f"org/m{number}", {"m.gguf": make(tmp_path / "m.gguf", seed=number)})
    hub.faults.hold_at = 0.0
    async with running_pool(tmp_path / "pool", downloads_at_once=1) as pool:
        started = [await ask(pool.client, hub.ref(f"org/m{number}", "m.gguf")) for number in range(3)]
        await hub.holding.wait()
        states = [d.state for d in (await pool.client.send("GET", "/v2/models/downloads", DownloadList)).downloads]
        hub.faults.release.set()
        ends = [(await follow(pool.client, one))[1] for one in started]

    assert states == ["downloading", "queued", "queued"]
    assert all(isinstance(end, Download) for end in ends)


async def test_a_cancelled_download_ends_at_once_and_leaves_nothing(pool: Running, hub: Hub) -> None:
    hub.faults.hold_at = 0.5
    before = psutil.Process().children()  # of other tests, if they have left any
    started = await ask(pool.client, hub.ref(REPO, FILE))
    await hub.holding.wait()
    children = [child for child in psutil.Process().children() if child not in before]

    ended = await pool.client.send("DELETE", f"/v2/models/downloads/{started.download_id}", Download)
    again = await pool.client.send("DELETE", f"/v2/models/downloads/{started.download_id}", Download)
    _, end = await follow(pool.client, started)

    assert ended.state == again.state == "cancelled"
    assert isinstance(end, Failed)
    assert end.code == "CANCELLED"
    assert [child for child in children if child.is_running()] == []
    assert_absent(pool.data, hub)


async def test_an_unknown_download_is_told(pool: Running) -> None:
    for method in ("GET", "DELETE"):
        with pytest.raises(RemoteError) as refused:
            await pool.client.send(method, "/v2/models/downloads/none", Download)
        assert refused.value.status == 404


@pytest.mark.parametrize("ref", ["hf:o/r", "hf:o/r@main::file=m.gguf", "file:/m.gguf", "tinyllama"])
async def test_only_references_to_a_commit_are_taken(pool: Running, ref: str) -> None:
    with pytest.raises(RemoteError) as refused:
        await ask(pool.client, ref)

    assert (refused.value.status, refused.value.code) == (400, "INVALID_REQUEST")


async def test_what_is_on_the_disk_is_not_fetched_again(pool: Running, hub: Hub) -> None:
    ref = hub.ref(REPO, FILE)
    await fetch(pool.client, ref)
    asked = len(hub.seen)

    again = await ask(pool.client, ref)

    assert again.state == "complete"
    assert len(hub.seen) == asked
    assert isinstance((await follow(pool.client, again))[1], Download)


def test_every_address_for_models_is_described_and_fixed_ones_come_first() -> None:
    described = document("pool", ENDPOINTS)
    paths = [endpoint.path for endpoint in ENDPOINTS]

    assert set(described["paths"]) == set(paths)
    assert paths.index("/v2/models/downloads") < paths.index("/v2/models/{id}")
    assert paths.index("/v2/models/disk-usage") < paths.index("/v2/models/{id}")
