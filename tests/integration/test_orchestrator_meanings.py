"""Names in `[models]` are found out at the pools, then at the hub, and workers are kept by what they mean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from llorch.errors import HubUnreachable
from llorch.policy import ModelPolicy
from roles.orchestrator.fleet import Fleet
from roles.orchestrator.meanings import MOST_PAUSE_S, look, pause_s
from roles.orchestrator.names import Names
from tests.support.hub import Hub, running_hub
from tests.support.orchestrating import PATIENCE_S, QUIET, REF, ScriptedWorker, System, orchestrator, scripted
from tests.support.scripts import MODEL

FILE = "hf:org/m@main::file=m.gguf"
TAGGED = "hf:org/d@v1.0::file=d.gguf"
HERE = f"hf:org/m@{'a' * 40}::file=m.gguf"
NEWER = f"hf:org/m@{'b' * 40}::file=m.gguf"
SETTLED_MS = 45_000


@pytest.fixture(name="hub")
async def _hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path / "home", monkeypatch) as hub:
        hub.add("org/m", {"m.gguf": Path(__file__)})
        hub.add("org/d", {"d.gguf": Path(__file__)}).tags = ("v1.0",)
        yield hub


async def spawned(worker: ScriptedWorker, count: int) -> None:
    """Return when a pool has been asked for that many workers."""
    async with asyncio.timeout(PATIENCE_S):
        while len(worker.spawns) < count:
            await asyncio.sleep(0.01)


async def looked_at(system: System) -> None:
    """Return when the dispatcher has decided on every model anew, several times."""
    placement, count, seen = system.core.dispatcher.placement, 0, asyncio.Event()
    look_at_all = placement.look_at_all

    def counted() -> None:
        nonlocal count
        look_at_all()
        count += 1
        if count == 3:
            seen.set()

    placement.look_at_all = counted  # type: ignore[method-assign]  # still does all it did
    async with asyncio.timeout(PATIENCE_S):
        await seen.wait()


def fleet_with(policies: dict[str, ModelPolicy]) -> Fleet:
    return Fleet("", 15.0, clock_ms=lambda: 0, policies=policies, default=ModelPolicy())


@pytest.mark.parametrize("name", [TAGGED, "hf:org/d"])
async def test_one_worker_is_started_where_a_draft_is_wanted_by_a_name(name: str, hub: Hub, tmp_path: Path) -> None:
    worker, draft = ScriptedWorker(startable=True), hub.ref("org/d", "d.gguf")
    models = [MODEL, replace(MODEL, model_ref=draft)]
    async with scripted(worker), orchestrator(tmp_path, policies={REF: ModelPolicy(draft=name)}, **QUIET) as system:
        await system.register(worker, workers=[], models=models)
        job = await system.submit(max_tokens=3)
        await spawned(worker, 1)
        await system.beat(worker.report(draft=draft), seq=1, models=models)
        await system.reached(job.job_id, "completed")
        await looked_at(system)

    assert [asked.draft for asked in worker.spawns] == [draft]


async def test_a_worker_that_is_there_serves_on_while_the_hub_is_away(hub: Hub, tmp_path: Path) -> None:
    worker, draft = ScriptedWorker(startable=True), hub.ref("org/d", "d.gguf")
    await hub.stop()
    async with scripted(worker), orchestrator(tmp_path, policies={REF: ModelPolicy(draft=TAGGED)}, **QUIET) as system:
        await system.register(worker, workers=[worker.report(draft=draft)])
        job = await system.submit(max_tokens=3)
        await system.reached(job.job_id, "completed")

    assert worker.spawns == []


async def test_a_name_that_cannot_be_found_out_blocks_its_own_model_alone(hub: Hub, tmp_path: Path) -> None:
    worker, other = ScriptedWorker(startable=True), "file:/models/other.gguf"
    await hub.stop()
    async with scripted(worker), orchestrator(tmp_path, policies={other: ModelPolicy(draft=TAGGED)}, **QUIET) as system:
        await system.register(worker, models=[MODEL, replace(MODEL, model_ref=other)])
        stuck = await system.submit(model=other, max_tokens=3)
        job = await system.submit(max_tokens=3)
        await system.reached(job.job_id, "completed")
        async with asyncio.timeout(PATIENCE_S):
            while not (refusals := system.core.fleet.supply.backoff.of(other)):
                await asyncio.sleep(0.01)
        waiting = await system.show(stuck.job_id)

    assert waiting.status == "queued"
    assert [refusal.code for refusal in refusals] == ["HUB_UNREACHABLE"]
    assert worker.spawns == []


async def test_replicas_are_kept_of_what_pools_have_by_that_name(hub: Hub, tmp_path: Path) -> None:
    worker = ScriptedWorker(startable=True)
    models = [replace(MODEL, model_ref=HERE)]
    async with (
        scripted(worker),
        orchestrator(tmp_path, policies={FILE: ModelPolicy(min_replicas=1)}, **QUIET) as system,
    ):
        await system.register(worker, workers=[], models=models)
        await spawned(worker, 1)
        await system.beat(worker.report(model_ref=HERE), seq=1, models=models)
        await looked_at(system)

    assert [asked.model_ref for asked in worker.spawns] == [HERE]
    assert hub.seen == []


async def test_the_hub_is_asked_about_main_once_pools_have_had_the_time_to_come_back(hub: Hub) -> None:
    worker = ScriptedWorker()
    async with scripted(worker), fleet_with({FILE: ModelPolicy(min_replicas=1)}) as fleet:
        names = Names({}, fleet)
        unseen = await look(FILE, names, fleet, beside=False, now_ms=SETTLED_MS)
        await fleet.register(worker.registration(), now_ms=0)
        early = await look(FILE, names, fleet, beside=False, now_ms=SETTLED_MS - 1)
        asked = hub.count("api")
        late = await look(FILE, names, fleet, beside=False, now_ms=SETTLED_MS)
        wanted = fleet.supply.policies.wanted_always()

        await fleet.register(worker.registration(models=[replace(MODEL, model_ref=NEWER)]), now_ms=0)
        again = await look(FILE, names, fleet, beside=False, now_ms=SETTLED_MS)

        assert (unseen, early, asked, late, again) == (False, False, 0, True, True)
        assert wanted == [hub.ref("org/m", "m.gguf")]
        assert fleet.supply.policies.wanted_always() == [NEWER]


async def test_what_was_known_once_is_known_when_the_hub_is_away(hub: Hub) -> None:
    worker, draft = ScriptedWorker(), hub.ref("org/d", "d.gguf")
    async with scripted(worker), fleet_with({REF: ModelPolicy(draft=TAGGED)}) as fleet:
        await fleet.register(worker.registration(), now_ms=0)
        known = await look(TAGGED, Names({}, fleet), fleet, beside=True, now_ms=0)
        await hub.stop()

        assert known
        assert await Names({}, fleet).pinned(TAGGED, beside=True) == draft
        with pytest.raises(HubUnreachable):
            await Names({}, fleet).pinned(TAGGED)


def test_pauses_grow_to_a_minute() -> None:
    assert [pause_s(failures) for failures in (1, 2, 3, 99)] == [2, 4, 8, MOST_PAUSE_S]
