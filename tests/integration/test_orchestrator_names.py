"""What names of models mean to an orchestrator, with pools that have them and with a hub."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llorch.errors import HubUnreachable, InvalidRequest, ModelNotFound
from llorch.models import HAIKU_REF
from llorch.policy import ModelPolicy
from llorch.wire.models import Download
from llorch.wire.pools import Heartbeat, Model, Register
from roles.orchestrator.fleet import Fleet
from roles.orchestrator.names import Names
from tests.support.hub import Hub, running_hub

ALIASES = {"tiny": "hf:org/tiny", "mine": "file:/mine.gguf"}
OLD = f"hf:org/tiny@{'0' * 40}::file=a.gguf"


@pytest.fixture(name="hub")
async def _hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path / "home", monkeypatch) as hub:
        hub.add("org/tiny", {"a.gguf": Path(__file__)})
        yield hub


def fleet_without_policies() -> Fleet:
    return Fleet("", 15.0, clock_ms=lambda: 0, policies={}, default=ModelPolicy())


def model(ref: str, *, added_ms: int = 0) -> Model:
    return Model(
        model_ref=ref,
        size_bytes=1,
        architecture="llama",
        quantization="Q4_0",
        context_length=64,
        vocab_size=1,
        max_token_bytes=1,
        added_ms=added_ms,
    )


def register(*models: Model) -> Register:
    return Register(pool_id="p", endpoint="http://127.0.0.1:1", version="1", models=list(models))


async def test_a_name_is_pinned_to_the_hubs_commit(hub: Hub) -> None:
    async with fleet_without_policies() as fleet:
        names = Names(ALIASES, fleet)

        assert await names.pinned("tiny") == hub.ref("org/tiny", "a.gguf")
        assert await names.pinned("mine") == "file:/mine.gguf"
        assert await names.pinned("haiku") == HAIKU_REF


async def test_what_a_server_calls_its_model_is_enough_where_it_can_mean_no_other() -> None:
    async with fleet_without_policies() as fleet:
        names = Names({"mine": "file:/mine.gguf"}, fleet)
        refs = ["server:gpu/org/M", "server:gpu/mine", "server:a/twice", "server:b/twice", HAIKU_REF]
        await fleet.register(register(*map(model, refs)), now_ms=0)
        other = Register(pool_id="q", endpoint="http://127.0.0.1:2", version="1", models=[model("server:gpu/org/M")])
        await fleet.register(other, now_ms=0)

        assert await names.pinned("org/M") == names.here("org/M") == "server:gpu/org/M"
        assert await names.pinned("mine") == "file:/mine.gguf"
        assert await names.pinned("server:gpu/mine") == "server:gpu/mine"
        with pytest.raises(InvalidRequest, match="say which: server:a/twice, server:b/twice"):
            await names.pinned("twice")
        with pytest.raises(ModelNotFound) as unknown:
            await names.pinned("org/m")
        assert unknown.value.details == {"near": ["org/M"]}
        assert [names.shown(ref) for ref in refs] == [["org/M"], [], [], [], ["haiku"]]
        assert names.known["org/M"] == "server:gpu/org/M"


async def test_what_a_pool_has_is_meant_and_of_several_the_newest(hub: Hub) -> None:
    async with fleet_without_policies() as fleet:
        newer = OLD.replace("0" * 40, "1" * 40)
        await fleet.register(register(model(newer, added_ms=2), model(OLD, added_ms=1)), now_ms=0)

        names = Names(ALIASES, fleet)
        assert await names.pinned("tiny") == newer
        assert names.here("tiny") == newer
        assert names.here("hf:org/other") == "hf:org/other"
        assert hub.seen == []


async def test_without_hub_and_pool_a_name_means_nothing_now(hub: Hub) -> None:
    await hub.stop()
    async with fleet_without_policies() as fleet:
        with pytest.raises(HubUnreachable, match="no pool has the model either") as away:
            await Names(ALIASES, fleet).pinned("tiny")

    assert away.value.retriable


async def test_an_alias_that_leads_nowhere_is_told(hub: Hub) -> None:
    hub.repos.clear()
    hub.faults.statuses = {"api": [(404, {"X-Error-Code": "RepoNotFound"})]}
    async with fleet_without_policies() as fleet:
        with pytest.raises(ModelNotFound, match="hf:org/tiny is not on the hub"):
            await Names(ALIASES, fleet).pinned("tiny")


async def test_a_download_is_shown_as_loading_and_its_failure_is_a_refusal(hub: Hub) -> None:
    running = Download(download_id="d", model_ref=OLD, state="downloading", bytes_done=1, bytes_total=4, created_ms=7)
    failed = Download(
        download_id="d", model_ref=OLD, state="failed", error="gone", error_code="FORBIDDEN", created_ms=7
    )
    async with fleet_without_policies() as fleet:
        await fleet.register(register(), now_ms=0)
        await fleet.heard(
            "p", Heartbeat(seq=1, time_ms=0, devices=[], models=[], workers=[], downloads=[running]), now_ms=0
        )
        loading = fleet.loading(OLD)
        await fleet.heard(
            "p", Heartbeat(seq=2, time_ms=0, devices=[], models=[], workers=[], downloads=[failed]), now_ms=0
        )
        [refusal] = fleet.supply.backoff.of(OLD)
        after = fleet.loading(OLD)

    assert [(one.downloading, one.progress) for one in loading] == [(True, 25.0)]
    assert after == []
    assert (refusal.code, refusal.permanent, "gone" in refusal.message) == ("FORBIDDEN", True, True)
