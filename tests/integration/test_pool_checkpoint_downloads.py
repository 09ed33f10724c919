"""Models as safetensors from a hub: what comes, what is listed and deleted, and what is left of one that never came."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from llorch.hub import Pins
from llorch.models import model_id
from llorch.wire.models import FINAL, Download, DownloadModel, FileFacts
from roles.pool.model_cache.downloads import Downloads
from roles.pool.model_cache.ledger import DownloadRecord, Ledger
from tests.support import disks
from tests.support.checkpoint_hub import OTHERS, REPO, below, checkpoint_hub, ended, host, with_torch
from tests.support.hub import Faults, Hub

SHARD = "model-00003-of-00003.safetensors"


@pytest.fixture(name="hub")
async def _hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    async with checkpoint_hub(tmp_path, monkeypatch) as hub:
        yield hub


def snapshot(models: Path, hub: Hub) -> Path:
    """Return where the files of the repository belong."""
    return models / "models--org--tiny-Instruct" / "snapshots" / hub.repos[REPO].commit


def put(hub: Hub, folder: Path, *names: str) -> None:
    """Have files of the repository somewhere, as somebody who copies them would."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(hub.repos[REPO].files[name])


async def until_a_shard_came(downloads: Downloads, download_id: str, folder: Path) -> None:
    """Wait until the first of the weights is in place, which is the last of them."""
    async for view in downloads.watch(download_id):
        if (folder / SHARD).exists():
            return
        assert view.state not in FINAL


async def failed_after_a_shard(downloads: Downloads, hub: Hub, folder: Path) -> Download:
    """Begin a download of a hub that breaks down for a while when some of the weights are in place; return its end."""
    hub.faults.piece_s = 0.02
    started = await downloads.ask(DownloadModel(model_ref=hub.ref(REPO, "config.json")))
    await until_a_shard_came(downloads, started.download_id, folder)
    hub.faults.statuses = {kind: [(503, {})] * 100 for kind in ("head", "get")}
    hub.faults.cuts = [0.0] * 100
    end = [view async for view in downloads.watch(started.download_id)][-1]
    hub.faults = Faults()
    return end


async def test_a_repository_is_fetched_without_what_is_not_needed_then_listed_verified_and_deleted(
    tmp_path: Path, hub: Hub
) -> None:
    needed = {path: data for path, data in hub.repos[REPO].files.items() if path not in OTHERS}
    pin = await Pins().pin(f"hf:{REPO}")
    snapshot = tmp_path / "models" / "models--org--tiny-Instruct" / "snapshots" / hub.repos[REPO].commit

    async with host(tmp_path, with_torch) as (library, downloads):
        end = await ended(downloads, pin.ref)
        listed = next(model for model in await library.models() if model.model_ref == pin.ref)
        stored = await library.model(model_id(pin.ref))
        sound = await library.verify(model_id(pin.ref))
        parts = [await library.file(model_id(pin.ref), number) for number in range(len(stored.files))]
        found = await library.inspect(pin.ref)
        paths = found.paths
        there = {name: (snapshot / name).read_bytes() for name in below(snapshot)}
        gone = await library.delete(model_id(pin.ref))

    size = sum(map(len, needed.values()))
    assert (end.state, end.bytes_done, end.bytes_total) == ("complete", size, size)
    assert (pin.ref, pin.size_bytes) == (hub.ref(REPO, "config.json"), size)
    assert there == needed
    assert (listed.size_bytes, stored.size_bytes, gone.freed_bytes) == (size, size, size)
    assert (stored.origin, listed.architecture, found.path) == ("hub", "llama", snapshot)
    assert sound.ok
    assert [file.path for file in stored.files] == [path.name for path in parts]
    assert parts == paths
    assert all(len(file.sha256) == 64 for file in stored.files)
    assert below(tmp_path / "models") == []


async def test_a_name_means_the_snapshot_that_is_there_without_asking_the_hub(tmp_path: Path, hub: Hub) -> None:
    async with host(tmp_path, with_torch) as (library, downloads):
        await ended(downloads, hub.ref(REPO, "config.json"))
        have = [(model.model_ref, model.added_ms) for model in await library.models()]
    await hub.stop()

    assert (await Pins().pin(f"hf:{REPO}", have)).ref == hub.ref(REPO, "config.json")


async def test_a_download_that_is_cancelled_between_two_files_leaves_nothing(tmp_path: Path, hub: Hub) -> None:
    models = tmp_path / "models"
    async with host(tmp_path, with_torch) as (_, downloads):
        hub.faults.piece_s = 0.02
        started = await downloads.ask(DownloadModel(model_ref=hub.ref(REPO, "config.json")))
        async for view in downloads.watch(started.download_id):
            placed = list((models / "models--org--tiny-Instruct").rglob("*.safetensors")) if models.exists() else []
            if placed or view.state == "complete":
                break
        end = await downloads.cancel(started.download_id)

    assert placed
    assert end.state == "cancelled"
    assert below(models) == []


async def test_a_download_goes_on_where_an_earlier_process_left_it(tmp_path: Path, hub: Hub) -> None:
    ref = hub.ref(REPO, "config.json")
    async with host(tmp_path, with_torch) as (_, downloads):
        hub.faults.hold_at = 0.5
        await downloads.ask(DownloadModel(model_ref=ref))
        await hub.holding.wait()

    hub.faults.release.set()
    async with host(tmp_path, with_torch) as (library, downloads):
        states = [view.state async for view in downloads.watch(model_id(ref))]
        whole = await library.whole(ref)

    assert states[-1] == "complete"
    assert whole


async def test_an_index_that_names_other_files_fails_the_download_and_nothing_is_left(tmp_path: Path, hub: Hub) -> None:
    hub.repos[REPO].files["model.safetensors.index.json"] = b'{"weight_map": {"a": "elsewhere.safetensors"}}'
    ref = hub.ref(REPO, "config.json")

    async with host(tmp_path, with_torch) as (library, downloads):
        end = await ended(downloads, ref)
        stored = await library.stored()

    assert (end.state, end.error_code) == ("failed", "MODEL_NOT_FOUND")
    assert "elsewhere.safetensors is not on this host" in str(end.error)
    assert ref not in [model.model_ref for model in stored]
    assert below(tmp_path / "models") == below(tmp_path / "known") == []


async def test_a_cancelled_download_leaves_what_it_did_not_bring_after_a_restart_too(tmp_path: Path, hub: Hub) -> None:
    ref, folder = hub.ref(REPO, "config.json"), snapshot(tmp_path / "models", hub)
    put(hub, folder, *(own := ("config.json", "model-00001-of-00003.safetensors")))
    hub.faults.piece_s = 0.02

    async with host(tmp_path, with_torch) as (_, downloads):
        started = await downloads.ask(DownloadModel(model_ref=ref))
        await until_a_shard_came(downloads, started.download_id, folder)
    brought = set(below(folder)).difference(own)
    async with host(tmp_path, with_torch) as (_, downloads):
        end = await downloads.cancel(model_id(ref))

    assert SHARD in brought
    assert end.state == "cancelled"
    assert below(tmp_path / "models") == [str((folder / name).relative_to(tmp_path / "models")) for name in own]


async def test_a_failed_download_leaves_the_parts_that_it_did_not_bring(tmp_path: Path, hub: Hub) -> None:
    names = [f"big-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    hub.repos[REPO].files = {name: name.encode() * 1000 for name in names}
    hub.faults.wrong = 1
    folder = snapshot(tmp_path / "models", hub)
    put(hub, folder, *names[:2])

    async with host(tmp_path, with_torch) as (_, downloads):
        end = await ended(downloads, hub.ref(REPO, names[0]))

    assert (end.state, end.error_code) == ("failed", "MODEL_INVALID")
    assert below(folder) == names[:2]


async def test_what_a_download_brought_that_a_fault_ended_is_not_fetched_again(tmp_path: Path, hub: Hub) -> None:
    ref, folder = hub.ref(REPO, "config.json"), snapshot(tmp_path / "models", hub)
    async with host(tmp_path, with_torch) as (_, downloads):
        failed = await failed_after_a_shard(downloads, hub, folder)

    hub.seen.clear()
    async with host(tmp_path, with_torch) as (library, downloads):
        known = downloads.download(model_id(ref))
        end = await ended(downloads, ref)
        whole = await library.whole(ref)

    assert (failed.state, failed.error_code) == ("failed", "HUB_UNREACHABLE")
    assert known == failed
    assert (end.state, whole) == ("complete", True)
    assert hub.count("get") == 2
    assert below(tmp_path / "downloads") == []


async def test_what_a_failed_download_brought_goes_when_it_is_cancelled(tmp_path: Path, hub: Hub) -> None:
    ref, folder = hub.ref(REPO, "config.json"), snapshot(tmp_path / "models", hub)
    async with host(tmp_path, with_torch) as (_, downloads):
        await failed_after_a_shard(downloads, hub, folder)
        kept = below(folder)
    async with host(tmp_path, with_torch) as (_, downloads):
        end = await downloads.cancel(model_id(ref))

    assert SHARD in kept
    assert end.state == "cancelled"
    assert below(tmp_path / "models") == below(tmp_path / "downloads") == []


async def test_a_folder_in_place_of_a_file_fails_the_download_and_not_the_pool(tmp_path: Path, hub: Hub) -> None:
    folder = snapshot(tmp_path / "models", hub) / "model-00002-of-00003.safetensors"
    folder.mkdir(parents=True)

    async with host(tmp_path, with_torch) as (_, downloads):
        end = await ended(downloads, hub.ref(REPO, "config.json"))

    assert (end.state, end.error_code) == ("failed", "CONFLICT")
    assert folder.is_dir()
    assert below(tmp_path / "downloads") == []


async def test_a_disk_that_lets_nothing_go_fails_the_download_and_not_the_pool(tmp_path: Path, hub: Hub) -> None:
    ref, name = hub.ref(REPO, "config.json"), "model-00001-of-00003.safetensors"
    with disks.small(tmp_path / "models", 8) as models:
        put(hub, snapshot(models, hub), name)
        record = DownloadRecord(model_ref=ref, sources=[], evict=False, created_ms=1, brought=[name])
        Ledger(tmp_path / "downloads", DownloadRecord).write(model_id(ref), record)
        disks.read_only(models, on=True)
        with capture_logs() as told:
            async with host(tmp_path, with_torch) as (_, downloads):
                states = [view.state async for view in downloads.watch(model_id(ref))]
        left = [path.name for path in models.rglob("*.safetensors")]

    assert states[-1] == "failed"
    assert left == [name]
    assert "download_stays" in [line["event"] for line in told]
    assert below(tmp_path / "downloads") == []


async def test_a_cache_of_the_hubs_own_client_is_used_and_its_blobs_go_with_the_model(tmp_path: Path, hub: Hub) -> None:
    repo = tmp_path / "models" / "models--org--tiny-Instruct"
    snapshot = repo / "snapshots" / hub.repos[REPO].commit
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    for number, (name, data) in enumerate(sorted(hub.repos[REPO].files.items())):
        (repo / "blobs" / str(number)).write_bytes(data)
        if "/" not in name:
            (snapshot / name).symlink_to(repo / "blobs" / str(number))
    ref = hub.ref(REPO, "config.json")

    async with host(tmp_path, with_torch) as (library, downloads):
        here = await ended(downloads, ref)
        facts = (await library.model(model_id(ref))).files
        await library.delete(model_id(ref))

    assert here.state == "complete"
    assert hub.count("get") == 0
    assert facts[0] == FileFacts(path="config.json", size_bytes=len(hub.repos[REPO].files["config.json"]))
    assert [path for path in below(snapshot) if not path.startswith("README")] == [
        "consolidated.safetensors",
        "pytorch_model.bin",
    ]
