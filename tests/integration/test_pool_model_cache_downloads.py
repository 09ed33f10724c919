"""Downloads of a real pool by the real huggingface_hub client from a local hub, and how each fault ends.

Whatever happens, the file on disk is either not there or right.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from llorch.models import model_id
from llorch.wire.codec import decode_reply
from llorch.wire.events import Failed
from llorch.wire.models import Download
from roles.pool.model_cache.pace import Patience
from tests.support.downloading import (
    FILE,
    HASTY,
    REPO,
    ask,
    assert_absent,
    assert_right,
    fetch,
    follow,
    leftovers,
    listed,
    model_file,
    until_some_came,
    until_state,
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


async def test_a_model_is_fetched_listed_and_told_to_the_orchestrator(pool: Running, hub: Hub) -> None:
    ref = hub.ref(REPO, FILE)
    started = await ask(pool.client, ref)
    progress, end = await follow(pool.client, started)
    told = await pool.listener.until(
        lambda: next((m for beat in pool.listener.heartbeats for m in beat.models if m.model_ref == ref), None)
    )
    metrics = await pool.client.request("GET", "/metrics").__aenter__()

    size = len(hub.repos[REPO].files[FILE])
    assert isinstance(end, Download)
    assert (end.state, end.bytes_done, end.bytes_total, end.source) == ("complete", size, size, "hub")
    assert {view.download_id for view in progress} == {model_id(ref)} == {started.download_id}
    assert_right(pool.data, hub)
    assert [model.model_ref for model in await listed(pool.client)] == [ref] == [told.model_ref]
    assert b'pool_mgr_model_downloads_total{outcome="complete"} 1.0' in await metrics.read()


async def test_a_cut_at_forty_percent_goes_on_where_it_was(pool: Running, hub: Hub) -> None:
    hub.faults.cuts = [0.4]

    end = await fetch(pool.client, hub.ref(REPO, FILE))

    size = len(hub.repos[REPO].files[FILE])
    starts = [start for kind, _, start, _ in hub.seen if kind == "get"]
    assert isinstance(end, Download)
    assert starts[0] == 0
    assert 0 < starts[1] <= 0.4 * size
    assert hub.sent_bytes < 1.5 * size
    assert_right(pool.data, hub)


async def test_a_wrong_hash_is_deleted_and_reported(pool: Running, hub: Hub) -> None:
    hub.faults.wrong = 1
    ref = hub.ref(REPO, FILE)

    end = await fetch(pool.client, ref)
    absent = (model_file(pool.data, hub).exists(), leftovers(pool.data), await listed(pool.client))
    again = await fetch(pool.client, ref)

    right = hashlib.sha256(hub.repos[REPO].files[FILE]).hexdigest()
    assert isinstance(end, Failed)
    assert end.code == "MODEL_INVALID"
    assert f"expected sha256 {right}" in end.message
    assert absent == (False, [], [])
    assert isinstance(again, Download)
    assert_right(pool.data, hub)


async def test_what_comes_whole_and_is_no_model_is_told_to_who_asked(pool: Running, hub: Hub) -> None:
    hub.repos[REPO].files[FILE] = b"<html>this is no model</html>"

    ends = [await fetch(pool.client, hub.ref(REPO, FILE)) for _ in range(2)]

    assert [end.code for end in ends if isinstance(end, Failed)] == ["MODEL_INVALID", "MODEL_INVALID"]
    assert await listed(pool.client) == []
    assert leftovers(pool.data) == []


async def test_a_private_model_says_to_set_a_token(pool: Running, hub: Hub) -> None:
    hub.repos[REPO].token = "hf_right"

    end = await fetch(pool.client, hub.ref(REPO, FILE))

    assert isinstance(end, Failed)
    assert end.code == "FORBIDDEN"
    assert "set HF_TOKEN" in end.message
    assert_absent(pool.data, hub)


async def test_a_token_that_may_not_is_told_so(pool: Running, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos[REPO].token = "hf_right"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")

    end = await fetch(pool.client, hub.ref(REPO, FILE))

    assert isinstance(end, Failed)
    assert end.code == "FORBIDDEN"
    assert "hf_wrong" not in end.message
    assert_absent(pool.data, hub)


async def test_a_gated_model_says_to_accept_its_terms(pool: Running, hub: Hub) -> None:
    hub.repos[REPO].gated = True

    end = await fetch(pool.client, hub.ref(REPO, FILE))

    assert isinstance(end, Failed)
    assert "accept its terms" in end.message
    assert_absent(pool.data, hub)


async def test_a_private_model_is_fetched_with_the_token_which_the_store_never_sees(
    pool: Running, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[REPO].token = "hf_right"
    monkeypatch.setenv("HF_TOKEN", "hf_right")

    end = await fetch(pool.client, hub.ref(REPO, FILE))

    assert isinstance(end, Download)
    assert {(kind, token) for kind, _, _, token in hub.seen} == {("api", True), ("head", True), ("get", False)}
    assert_right(pool.data, hub)


async def test_a_file_that_is_not_there_lists_near_names(pool: Running, hub: Hub) -> None:
    ref = f"hf:{REPO}@{hub.repos[REPO].commit}::file=tiny.Q4_K_S.gguf"

    end = await fetch(pool.client, ref)

    assert isinstance(end, Failed)
    assert end.code == "MODEL_NOT_FOUND"
    assert f"did you mean {FILE}?" in end.message


async def test_a_repository_that_is_not_there_is_not_tried_again(
    pool: Running, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_any")

    end = await fetch(pool.client, f"hf:org/none@{'0' * 40}::file=m.gguf")

    assert isinstance(end, Failed)
    assert (end.code, hub.count("api")) == ("MODEL_NOT_FOUND", 1)


@pytest.mark.parametrize("kind", ["api", "head"])
async def test_a_busy_hub_is_asked_again_when_it_says_so(pool: Running, hub: Hub, kind: str) -> None:
    hub.faults.statuses = {kind: [(429, {"Retry-After": "1"})]}
    loop = asyncio.get_running_loop()
    began = loop.time()

    started = await ask(pool.client, hub.ref(REPO, FILE))
    waiting = await until_state(pool.client, started, "waiting")
    _, end = await follow(pool.client, started)

    assert (waiting.error_code, "429" in str(waiting.error)) == ("HUB_UNREACHABLE", True)
    assert isinstance(end, Download)
    assert loop.time() - began >= 1
    assert_right(pool.data, hub)


async def test_a_failing_hub_is_tried_again_and_then_given_up(pool: Running, hub: Hub) -> None:
    hub.faults.statuses = {"api": [(503, {})] * 100}

    end = await fetch(pool.client, hub.ref(REPO, FILE))

    assert isinstance(end, Failed)
    assert (end.code, hub.count("api")) == ("HUB_UNREACHABLE", HASTY.tries)
    assert_absent(pool.data, hub)


async def test_a_hub_that_went_away_is_waited_for(tmp_path: Path, hub: Hub) -> None:
    patient = Patience(first_s=0.05, longest_s=0.1, tries=1000)
    async with running_pool(tmp_path / "pool", download_patience=patient) as pool:
        await hub.stop()
        started = await ask(pool.client, hub.ref(REPO, FILE))
        waiting = await until_state(pool.client, started, "waiting")
        await hub.start()
        _, end = await follow(pool.client, started)

    assert waiting.error_code == "HUB_UNREACHABLE"
    assert isinstance(end, Download)
    assert_right(pool.data, hub)


async def test_a_slow_hub_shows_how_far_it_is_and_how_long_it_takes(pool: Running, hub: Hub) -> None:
    hub.faults.piece_s = 0.03

    progress, end = await follow(pool.client, await ask(pool.client, hub.ref(REPO, FILE)))

    timed = [view for view in progress if view.state == "downloading" and isinstance(view.seconds_left, float)]
    done = [view.bytes_done for view in progress]
    assert timed
    assert all(view.rate_bytes_s > 0 and view.bytes_total == len(hub.repos[REPO].files[FILE]) for view in timed)
    assert done == sorted(done)
    assert isinstance(end, Download)


async def test_offline_mode_asks_nobody(pool: Running, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    end = await fetch(pool.client, hub.ref(REPO, FILE))

    assert isinstance(end, Failed)
    assert end.code == "HUB_UNREACHABLE"
    assert "HF_HUB_OFFLINE" in end.message
    assert hub.seen == []


async def test_a_fetching_process_that_is_killed_is_started_again(pool: Running, hub: Hub) -> None:
    hub.faults.hold_at = 0.7
    started = await ask(pool.client, hub.ref(REPO, FILE))
    await hub.holding.wait()
    for child in psutil.Process().children():
        os.kill(child.pid, signal.SIGKILL)
    hub.faults.release.set()
    _, end = await follow(pool.client, started)

    assert isinstance(end, Download)
    assert_right(pool.data, hub)


async def test_a_pool_that_stops_goes_on_when_it_is_back(tmp_path: Path, hub: Hub) -> None:
    hub.faults.hold_at = 0.7
    async with running_pool(tmp_path / "pool") as pool:
        started = await ask(pool.client, hub.ref(REPO, FILE))
        await until_some_came(pool.client, started)
    hub.faults.release.set()
    async with running_pool(tmp_path / "pool") as pool:
        _, end = await follow(pool.client, started)

    starts = [start for kind, _, start, _ in hub.seen if kind == "get"]
    assert isinstance(end, Download)
    assert starts[-1] > 0
    assert_right(tmp_path / "pool", hub)


async def test_a_pool_that_waits_for_another_with_the_same_folder_takes_nothing_from_it(
    tmp_path: Path, hub: Hub
) -> None:
    hub.faults.hold_at = 0.5
    shared, once = str(tmp_path / "a" / "models"), Patience(first_s=0.05, tries=1)
    async with running_pool(tmp_path / "a", models_dir=shared) as one:
        first = await ask(one.client, hub.ref(REPO, FILE))
        await until_some_came(one.client, first)
        async with running_pool(tmp_path / "b", download_patience=once, models_dir=shared) as other:
            second = await ask(other.client, hub.ref(REPO, FILE))
            await until_state(other.client, second, "waiting")
            async with other.client.request("DELETE", f"/v2/models/downloads/{second.download_id}") as answer:
                cancelled = decode_reply(await answer.read(), Download)
        hub.faults.release.set()
        _, end = await follow(one.client, first)

    assert cancelled.state == "cancelled"
    assert isinstance(end, Download)
    assert [start for kind, _, start, _ in hub.seen if kind == "get"] == [0]
    assert_right(tmp_path / "a", hub)


async def test_a_set_of_parts_is_one_model(tmp_path: Path, pool: Running, hub: Hub) -> None:
    whole = make(tmp_path / "whole.gguf").read_bytes()
    first = "big-00001-of-00003.gguf"
    repo = hub.add("org/big", {})
    repo.files = {f"big-0000{n}-of-00003.gguf": whole for n in (1, 2, 3)}

    end = await fetch(pool.client, hub.ref("org/big", "big-00002-of-00003.gguf"))
    found = await listed(pool.client)

    assert isinstance(end, Download)
    assert end.bytes_total == 3 * len(whole)
    assert [(model.model_ref, model.size_bytes) for model in found] == [(hub.ref("org/big", first), 3 * len(whole))]
    for path in repo.files:
        assert_right(pool.data, hub, "org/big", path)


async def test_a_set_that_lacks_a_part_is_no_model(tmp_path: Path, pool: Running, hub: Hub) -> None:
    repo = hub.add("org/big", {})
    repo.files = {f"big-0000{n}-of-00003.gguf": b"x" for n in (1, 3)}

    end = await fetch(pool.client, hub.ref("org/big", "big-00001-of-00003.gguf"))

    assert isinstance(end, Failed)
    assert "has no file big-00002-of-00003.gguf" in end.message
