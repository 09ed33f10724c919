"""Models as safetensors that are not fetched, because nothing here runs them."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llorch.errors import BackendUnavailable, RemoteError
from llorch.program import with_extra
from llorch.wire.models import DownloadModel
from tests.support.checkpoint_hub import REPO, below, checkpoint_hub, ended, host, with_torch
from tests.support.downloading import ask
from tests.support.hub import Hub
from tests.support.pools import running_pool


@pytest.fixture(name="hub")
async def _hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    async with checkpoint_hub(tmp_path, monkeypatch) as hub:
        yield hub


async def test_a_model_that_no_engine_knows_is_refused_before_its_weights_come(tmp_path: Path, hub: Hub) -> None:
    files = hub.repos[REPO].files
    files["config.json"] = files["config.json"].replace(b'"llama"', b'"bert"')

    async with host(tmp_path, with_torch) as (_, downloads):
        end = await ended(downloads, hub.ref(REPO, "config.json"))

    assert (end.state, end.error_code) == ("failed", "MODEL_INCOMPATIBLE")
    assert "architecture 'bert', only llama, mistral" in str(end.error)
    assert hub.sent_bytes == len(files["config.json"])
    assert below(tmp_path / "models") == []


async def test_a_config_that_tells_no_architecture_is_called_by_its_name(tmp_path: Path, hub: Hub) -> None:
    hub.repos[REPO].files["config.json"] = b"{}"

    async with host(tmp_path, with_torch) as (_, downloads):
        end = await ended(downloads, hub.ref(REPO, "config.json"))

    assert (end.state, end.error_code) == ("failed", "MODEL_INVALID")
    assert str(end.error).startswith("config.json is not what such a file has: ")


async def test_a_host_without_the_engine_fetches_nothing_and_says_what_it_has(tmp_path: Path, hub: Hub) -> None:
    async with host(tmp_path, lambda: {"llamacpp": frozenset({"cpu"})}) as (_, downloads):
        with pytest.raises(BackendUnavailable) as refused:
            await downloads.ask(DownloadModel(model_ref=hub.ref(REPO, "config.json")))

    assert refused.value.message == (
        "the engine torch is not installed on this host, and folders of safetensors take it; installed: llamacpp; "
        f"{with_extra('torch')}"
    )
    assert hub.count("api") == hub.count("get") == 0


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed here")
async def test_a_pool_without_torch_refuses_a_checkpoint_of_the_hub(tmp_path: Path, hub: Hub) -> None:
    async with running_pool(tmp_path / "pool") as pool:
        with pytest.raises(RemoteError, match="the engine torch is not installed") as refused:
            await ask(pool.client, hub.ref(REPO, "config.json"))

    assert (refused.value.code, refused.value.status) == ("BACKEND_UNAVAILABLE", 409)
