"""The models of a host over HTTP: listed, verified, deleted, registered, pinned, evicted, and handed to other pools."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llorch.client import Client
from llorch.errors import RemoteError
from llorch.models import HAIKU_REF, model_id
from llorch.wire.events import Failed
from llorch.wire.models import Deleted, DiskUsage, Download, Started, StoredModel, Unregistered, Verified
from roles.pool.model_cache.library import PARTIAL
from tests.support.downloading import (
    FILE,
    HASTY,
    REPO,
    ask,
    assert_absent,
    assert_right,
    fetch,
    leftovers,
    listed,
    model_file,
)
from tests.support.hub import Hub, running_hub
from tests.support.models import Shape, make
from tests.support.pools import Running, running_pool

TOKEN = {"LLORCH_API_TOKEN": "secret-of-the-pools"}


@pytest.fixture(name="hub")
async def _hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path / "home", monkeypatch) as hub:
        hub.add(REPO, {FILE: make(tmp_path / "source.gguf")})
        yield hub


@pytest.fixture(name="pool")
async def _pool(tmp_path: Path, hub: Hub) -> AsyncIterator[Running]:
    async with running_pool(tmp_path / "pool", download_patience=HASTY) as pool:
        yield pool


async def stored(client: Client, ref: str) -> StoredModel:
    """Return what a pool knows of a model."""
    return await client.send("GET", f"/v2/models/{model_id(ref)}", StoredModel)


async def verify(client: Client, ref: str) -> Verified:
    """Have a model's hashes compared."""
    return await client.send("POST", f"/v2/models/{model_id(ref)}/verify", Verified)


async def refused_deletion(client: Client, ref: str) -> RemoteError:
    """Return why a model is not deleted."""
    with pytest.raises(RemoteError) as refused:
        await client.send("DELETE", f"/v2/models/{model_id(ref)}", Deleted)
    return refused.value


async def test_a_sound_model_is_verified_with_the_hash_of_the_hub(pool: Running, hub: Hub) -> None:
    ref = hub.ref(REPO, FILE)
    await fetch(pool.client, ref)

    told = await verify(pool.client, ref)

    assert told.ok
    assert [(check.path, check.ok, check.sha256 == check.expected) for check in told.files] == [(FILE, True, True)]


async def test_a_corrupt_model_is_not_listed_starts_no_worker_and_can_be_fetched_again(pool: Running, hub: Hub) -> None:
    ref = hub.ref(REPO, FILE)
    await fetch(pool.client, ref)
    path = model_file(pool.data, hub)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

    told = await verify(pool.client, ref)
    after, known = await listed(pool.client), await stored(pool.client, ref)
    with pytest.raises(RemoteError) as refused:
        await pool.spawn(ref)
    again = await fetch(pool.client, ref)

    assert not told.ok
    assert (after, known.corrupt, refused.value.code) == ([], True, "MODEL_INVALID")
    assert isinstance(again, Download)
    assert [model.model_ref for model in await listed(pool.client)] == [ref]
    assert_right(pool.data, hub)


async def test_a_verdict_outlives_the_pool(tmp_path: Path, hub: Hub) -> None:
    ref = hub.ref(REPO, FILE)
    async with running_pool(tmp_path / "pool") as pool:
        await fetch(pool.client, ref)
        model_file(pool.data, hub).write_bytes(b"GGUF, once")
        await verify(pool.client, ref)
    async with running_pool(tmp_path / "pool") as pool:
        assert await listed(pool.client) == []
        assert (await stored(pool.client, ref)).corrupt


async def test_a_deleted_model_is_gone_and_its_space_is_told(pool: Running, hub: Hub) -> None:
    ref = hub.ref(REPO, FILE)
    await fetch(pool.client, ref)

    deleted = await pool.client.send("DELETE", f"/v2/models/{model_id(ref)}", Deleted)

    assert deleted.freed_bytes == len(hub.repos[REPO].files[FILE])
    assert await listed(pool.client) == []
    assert_absent(pool.data, hub)
    assert list((pool.data / "models").glob("models--*")) == []


async def test_a_model_is_never_deleted_under_a_running_worker(pool: Running, hub: Hub) -> None:
    ref = hub.ref(REPO, FILE)
    await fetch(pool.client, ref)
    worker_id = await pool.spawn(ref)
    await pool.listener.until_worker(worker_id, "ready")

    refused = await refused_deletion(pool.client, ref)
    used = await stored(pool.client, ref)
    await pool.stop(worker_id)
    deleted = await pool.client.send("DELETE", f"/v2/models/{model_id(ref)}", Deleted)

    assert (refused.status, refused.code) == (409, "CONFLICT")
    assert "a worker uses it" in refused.message
    assert used.in_use
    assert used.last_used_ms >= used.added_ms > 0
    assert deleted.freed_bytes > 0


async def test_what_did_not_come_from_the_hub_is_never_deleted(pool: Running) -> None:
    folder = pool.data / "models"
    folder.mkdir()
    mine = make(folder / "mine.gguf")

    built_in = await refused_deletion(pool.client, HAIKU_REF)
    own = await refused_deletion(pool.client, f"file:{mine}")

    assert built_in.status == own.status == 409
    assert mine.exists()


async def test_a_file_of_ones_own_is_listed_until_it_is_unregistered_and_stays(tmp_path: Path, hub: Hub) -> None:
    mine = make(tmp_path / "mine.gguf")
    ref = f"file:{mine}"
    async with running_pool(tmp_path / "pool") as pool:
        registered = await pool.client.send("POST", "/v2/models/register", StoredModel, body={"model_ref": ref})
        refused = await refused_deletion(pool.client, ref)
    async with running_pool(tmp_path / "pool") as pool:
        kept = await listed(pool.client)
        gone = await pool.client.send("POST", "/v2/models/unregister", Unregistered, body={"model_ref": ref})
        after = await listed(pool.client)
        with pytest.raises(RemoteError) as unknown:
            await pool.client.send("POST", "/v2/models/unregister", Unregistered, body={"model_ref": ref})

    assert (registered.origin, registered.model_id) == ("registered", model_id(ref))
    assert "unregister" in refused.message
    assert [model.model_ref for model in kept] == [ref]
    assert (gone.model_ref, after, unknown.value.code) == (ref, [], "MODEL_NOT_FOUND")
    assert mine.exists()


@pytest.mark.parametrize(
    ("ref", "code"),
    [
        ("file:/nowhere.gguf", "MODEL_NOT_FOUND"),
        ("hf:o/r@main::file=m", "CONFLICT"),
        (HAIKU_REF, "CONFLICT"),
        ("m", "INVALID_REQUEST"),
    ],
)
async def test_only_a_model_file_of_this_host_can_be_registered(pool: Running, ref: str, code: str) -> None:
    with pytest.raises(RemoteError) as refused:
        await pool.client.send("POST", "/v2/models/register", StoredModel, body={"model_ref": ref})

    assert refused.value.code == code


async def test_a_model_of_huggingface_hubs_own_cache_is_used_and_deleted_with_its_blob(
    pool: Running, hub: Hub, tmp_path: Path
) -> None:
    repo = pool.data / "models" / "models--org--linked"
    commit = "a" * 40
    blob = repo / "blobs" / ("b" * 64)
    blob.parent.mkdir(parents=True)
    shutil.copy(tmp_path / "source.gguf", blob)
    link = repo / "snapshots" / commit / "m.gguf"
    link.parent.mkdir(parents=True)
    link.symlink_to("../../blobs/" + "b" * 64)
    ref = f"hf:org/linked@{commit}::file=m.gguf"

    known = await stored(pool.client, ref)
    told = await verify(pool.client, ref)
    deleted = await pool.client.send("DELETE", f"/v2/models/{model_id(ref)}", Deleted)

    assert [file.sha256 for file in known.files] == ["b" * 64]
    assert not told.ok
    assert deleted.freed_bytes == known.size_bytes
    assert not blob.exists()


async def test_what_has_no_room_in_the_budget_shows_what_would_go_and_goes_with_evict(tmp_path: Path, hub: Hub) -> None:
    size = len(hub.repos[REPO].files[FILE])
    for number in range(3):
        hub.add(f"org/m{number}", {"m.gguf": make(tmp_path / "m.gguf", seed=number)})
    refs = [hub.ref(f"org/m{number}", "m.gguf") for number in range(3)]
    async with running_pool(tmp_path / "pool", download_patience=HASTY, models_budget_bytes=size * 7 // 2) as pool:
        for ref in refs:
            assert isinstance(await fetch(pool.client, ref, size_bytes=size), Download)
        await pool.client.send("POST", f"/v2/models/{model_id(refs[0])}/pin", StoredModel, body={"pinned": True})
        wanted = hub.ref(REPO, FILE)
        plan = await ask(pool.client, wanted, size_bytes=size, dry_run=True)
        with pytest.raises(RemoteError) as refused:
            await ask(pool.client, wanted, size_bytes=size)
        late = await fetch(pool.client, wanted)
        before = await listed(pool.client)
        done = await fetch(pool.client, wanted, evict=True)
        after = {model.model_ref for model in await listed(pool.client)}
        usage = await pool.client.send("GET", "/v2/models/disk-usage", DiskUsage)

    assert plan.state == "planned"
    assert [victim.model_ref for victim in plan.evict] == [refs[1]]
    assert (refused.value.status, refused.value.code) == (507, "DISK_FULL")
    details = refused.value.details or {}
    assert details["required_bytes"] == size
    assert details["available_bytes"] == size * 7 // 2 - 3 * size
    assert details["evict"] == [{"model_id": model_id(refs[1]), "model_ref": refs[1], "size_bytes": size}]
    assert isinstance(late, Failed)
    assert late.code == "DISK_FULL"
    assert len(before) == 3
    assert isinstance(done, Download)
    assert after == {refs[0], refs[2], wanted}
    assert usage.models_bytes == 3 * size <= usage.budget_bytes
    assert leftovers(tmp_path / "pool") == []


async def test_a_model_that_another_pool_has_comes_from_there(tmp_path: Path, hub: Hub) -> None:
    ref = hub.ref(REPO, FILE)
    async with (
        running_pool(tmp_path / "one", env=TOKEN) as one,
        running_pool(tmp_path / "two", env=TOKEN) as two,
    ):
        await fetch(one.client, ref)
        before = len(hub.seen)
        end = await fetch(two.client, ref, sources=["http://127.0.0.1:1", one.url])

    assert isinstance(end, Download)
    assert end.source == one.url
    assert len(hub.seen) == before
    assert_right(tmp_path / "two", hub)


async def test_a_pool_that_hands_out_wrong_bytes_is_left_for_the_hub(tmp_path: Path, hub: Hub) -> None:
    ref = hub.ref(REPO, FILE)
    async with running_pool(tmp_path / "one") as one, running_pool(tmp_path / "two") as two:
        await fetch(one.client, ref)
        path = model_file(one.data, hub)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        end = await fetch(two.client, ref, sources=[one.url])

    assert isinstance(end, Download)
    assert end.source == "hub"
    assert_right(tmp_path / "two", hub)


async def test_a_pool_offline_still_fetches_from_another_pool(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = hub.ref(REPO, FILE)
    async with running_pool(tmp_path / "one") as one, running_pool(tmp_path / "two") as two:
        await fetch(one.client, ref)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        end = await fetch(two.client, ref, sources=[one.url])

    assert isinstance(end, Download)
    assert_right(tmp_path / "two", hub)


async def test_a_file_that_had_come_whole_is_not_asked_for_again(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = hub.ref(REPO, FILE)
    async with running_pool(tmp_path / "one") as one, running_pool(tmp_path / "two") as two:
        await fetch(one.client, ref)
        partial = two.data / "models" / PARTIAL / model_id(ref)
        partial.mkdir(parents=True)
        (partial / "0").write_bytes(hub.repos[REPO].files[FILE])
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        end = await fetch(two.client, ref, sources=[one.url])

    assert isinstance(end, Download)
    assert_right(tmp_path / "two", hub)


async def test_a_models_file_is_handed_out_in_ranges_and_to_the_token_only(tmp_path: Path, hub: Hub) -> None:
    ref = hub.ref(REPO, FILE)
    async with running_pool(tmp_path / "one", env=TOKEN) as one:
        await fetch(one.client, ref)
        path = f"/v2/models/{model_id(ref)}/file"
        tail = [piece async for piece in one.client.file(path, start=1000)]
        async with Client(one.url) as stranger:
            with pytest.raises(RemoteError) as refused:
                await stranger.send("GET", path, Started)
        with pytest.raises(RemoteError) as beyond:
            await one.client.send("GET", path + "?part=1", Started)
        with pytest.raises(RemoteError) as wrong:
            await one.client.send("GET", path + "?part=x", Started)

    assert tail[0][0] == 1000
    assert b"".join(data for _, data in tail) == hub.repos[REPO].files[FILE][1000:]
    assert (refused.value.status, beyond.value.status, wrong.value.status) == (401, 404, 400)


async def test_a_set_of_parts_comes_from_another_pool_whole(tmp_path: Path, hub: Hub) -> None:
    whole = make(tmp_path / "whole.gguf", Shape(words=100)).read_bytes()
    repo = hub.add("org/big", {})
    repo.files = {f"big-0000{n}-of-00002.gguf": whole for n in (1, 2)}
    ref = hub.ref("org/big", "big-00001-of-00002.gguf")
    async with running_pool(tmp_path / "one") as one, running_pool(tmp_path / "two") as two:
        await fetch(one.client, ref)
        await hub.stop()
        end = await fetch(two.client, ref, sources=[one.url])
        deleted = await two.client.send("DELETE", f"/v2/models/{model_id(ref)}", Deleted)

    assert isinstance(end, Download)
    assert deleted.freed_bytes == 2 * len(whole)
