"""Placement through HTTP: what was decided can be read, explained and decided on again; refusals and stops are told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from msgspec import UNSET
from structlog.testing import capture_logs

from llorch.client import Client
from llorch.errors import BackendUnavailable, InsufficientMemory, ModelNotFound, RemoteError
from llorch.policy import ModelPolicy
from llorch.wire.decisions import DecisionList, DecisionRecord, DecisionSummary
from llorch.wire.tasks import Breakdown, Explanation
from roles.orchestrator.scheduler.journal import Entry, replay
from tests.support.orchestrating import QUIET, REF, ScriptedWorker, both, failure, orchestrator, scripted
from tests.support.scripts import MODEL


async def test_a_decision_can_be_read_and_made_again(tmp_path: Path) -> None:
    async with both(tmp_path, ScriptedWorker()) as system:
        job = await system.submit()
        await system.reached(job.job_id, "completed")
        found = await system.client.send("GET", "/v2/decisions", DecisionList)
        (mine,) = [s for s in found.decisions if s.decisions[0].about == f"job {job.job_id}"]
        record = await system.client.send("GET", f"/v2/decisions/{mine.seq}", DecisionRecord)
        why = await system.client.send("GET", f"/v2/tasks/{job.job_id}/explain", Explanation)

    fields = {"seq": record.seq, "snapshot": record.snapshot, "decisions": record.decisions}
    entry = msgspec.convert(fields, Entry)
    assert (mine.model_ref, mine.decisions[0].kind, mine.digest) == (REF, "dispatch", record.digest)
    assert replay(entry) == entry.decisions
    assert "It went there because worker worker-1 of pool pool was the only one with a free slot" in why.text


@pytest.mark.parametrize("path", ["/v2/decisions/99999", "/v2/decisions/0", "/v2/decisions/x"])
async def test_a_decision_that_is_not_kept_is_not_found(tmp_path: Path, path: str) -> None:
    async with both(tmp_path, ScriptedWorker()) as system:
        with pytest.raises(RemoteError) as caught:
            await system.client.send("GET", path, DecisionRecord)

    assert caught.value.status == 404


async def test_a_job_whose_model_no_pool_has_room_for_waits_and_tells_how_much_it_needs(tmp_path: Path) -> None:
    needed = {"required_bytes": 9 * 2**30, "available_bytes": 1, "device": "cpu0"}
    worker = ScriptedWorker(refusal=InsufficientMemory("it does not fit", details=needed))
    async with both(tmp_path, worker) as system:
        job = await system.submit(model="file:/models/huge.gguf")
        async with asyncio.timeout(20):
            while (why := await explained(system.client, job.job_id)).reason != "memory":
                pass

    assert why.text == "It waits because it needs 9.0 GiB and the largest device that is online has 8.0 GiB."
    assert len(worker.spawns) == 1


async def test_why_a_model_has_no_worker_that_is_to_be_kept_is_warned_of_and_stands_in_the_decision_log(
    tmp_path: Path,
) -> None:
    worker = ScriptedWorker(startable=True)
    failed = worker.report(status="failed", ready_ms=9, error="it broke", error_code="WORKER_LOST")
    row = [msgspec.structs.replace(failed, worker_id=f"worker-{number}") for number in range(1, 6)]
    with capture_logs() as told:
        async with (
            scripted(worker),
            orchestrator(tmp_path, policies={REF: ModelPolicy(min_replicas=1)}, **QUIET) as system,
        ):
            await system.register(worker, workers=[])
            async with asyncio.timeout(20):
                while not worker.spawns:
                    await asyncio.sleep(0)
            await system.beat(*row, seq=10)
            async with asyncio.timeout(20):
                while (last := (await decided(system.client))[-1]).decisions[0].kind != "wait":
                    pass
            system.advance(32_000)
            async with asyncio.timeout(20):
                while len(worker.spawns) < 2:
                    await asyncio.sleep(0)

    warned = [line for line in told if line["event"] == "replica_paused"]
    facts = {"pool_id": "pool", "device": "cpu0", "code": "WORKER_LOST", "reason": "it broke", "deaths": 5}
    assert warned[-1].items() >= {"log_level": "warning", "model_ref": REF, **facts}.items()
    assert [line["wait_s"] for line in warned] == [2, 4, 8, 16, 32]
    assert last.model_ref == REF
    assert last.decisions[0].text.startswith(
        "the last worker on cpu0 of pool pool died soon after it was ready (it broke), in a row: 5; the next one"
    )


async def test_a_model_that_an_offline_pool_has_waits_and_is_not_rejected(tmp_path: Path) -> None:
    here, there = ScriptedWorker(refusal=ModelNotFound("no such file")), ScriptedWorker(worker_id="other")
    async with both(tmp_path, here) as system:
        there.url = here.url
        far = there.registration("far", workers=[])
        model = msgspec.structs.replace(far.models[0], model_ref="file:/models/far.gguf")
        await system.register(there, pool_id="far", workers=[], models=[model])
        system.core.fleet.pool("far").last_seen_ms = 0
        system.advance(1_000)
        async with asyncio.timeout(20):
            while system.core.fleet.pool("far").state != "offline":
                await asyncio.sleep(0)
        job = await system.submit(model="file:/models/far.gguf")
        async with asyncio.timeout(20):
            while "far" not in (why := await explained(system.client, job.job_id)).text:
                pass
        status = (await system.show(job.job_id)).status

    assert status == "queued"
    assert why.text == ("It waits because pool far has the model and is offline or draining; pool pool: no such file.")


async def test_a_job_that_waited_for_its_worker_tells_what_its_first_token_took(tmp_path: Path) -> None:
    worker = ScriptedWorker(startable=True)
    async with scripted(worker), orchestrator(tmp_path, **QUIET) as system:
        await system.register(worker, workers=[])
        job = await system.submit()
        async with asyncio.timeout(20):
            while not worker.spawns:
                await asyncio.sleep(0)
        system.advance(2_000)
        await system.beat(worker.report(started_ms=400, ready_ms=1_900, load_ms=900), seq=2_000)
        cold = await system.reached(job.job_id, "completed")
        warm = await system.reached((await system.submit()).job_id, "completed")
        why = await explained(system.client, job.job_id)

    parts, whole = cold.timings.breakdown, cold.timings
    assert isinstance(parts, Breakdown)
    assert isinstance(whole.first_token_ms, int)
    assert sum(msgspec.structs.astuple(parts)) == whole.first_token_ms - whole.submitted_ms
    assert (parts.load_ms, parts.fetch_ms) == (900, 0)
    assert parts.spawn_ms >= 900
    assert parts.dispatch_ms >= 100
    assert why.data["breakdown"] == msgspec.to_builtins(parts)
    assert "load 900 ms" in why.text
    assert isinstance(warm.timings.breakdown, Breakdown)
    assert (warm.timings.breakdown.spawn_ms, warm.timings.breakdown.load_ms) == (0, 0)


async def test_a_model_that_room_is_made_for_is_read_ahead_meanwhile(tmp_path: Path) -> None:
    worker = ScriptedWorker()
    large = msgspec.structs.replace(MODEL, model_ref="file:/models/large.gguf", memory_bytes=6 * 2**30)
    async with both(tmp_path, worker) as system:
        await system.register(worker, models=[MODEL, large], workers=[worker.report(memory_bytes=5 * 2**30)])
        await system.submit(model=large.model_ref)
        async with asyncio.timeout(20):
            while not (worker.preloads and worker.stops):
                await asyncio.sleep(0)

    assert worker.preloads == [large.model_ref]
    assert worker.stops == ["worker-1"]


async def test_a_request_that_wants_its_worker_gone_at_once_has_it_ended_and_one_that_does_not_keeps_it(
    tmp_path: Path,
) -> None:
    worker = ScriptedWorker()
    async with both(tmp_path, worker, **QUIET) as system:
        await system.reached((await system.submit(keep_alive=-1)).job_id, "completed")
        system.advance(10_000_000)
        await system.reached((await system.submit()).job_id, "completed")
        kept = list(worker.stops)
        await system.reached((await system.submit(keep_alive="0s")).job_id, "completed")
        async with asyncio.timeout(20):
            while not worker.stops:
                await asyncio.sleep(0)

    assert kept == []
    assert worker.stops == ["worker-1"]


async def test_how_long_a_worker_is_kept_outlives_a_restart_of_the_orchestrator(tmp_path: Path) -> None:
    kept, plain = ScriptedWorker(), ScriptedWorker(worker_id="worker-2")
    async with scripted(kept):
        async with orchestrator(tmp_path, **QUIET) as system:
            await system.register(kept)
            await system.reached((await system.submit(keep_alive=-1)).job_id, "completed")
        async with orchestrator(tmp_path, **QUIET) as system:
            plain.url = kept.url
            await system.register(kept, workers=[kept.report(), plain.report()])
            system.advance(10_000_000)
            async with asyncio.timeout(20):
                while not kept.stops:
                    await asyncio.sleep(0)

    assert kept.stops == ["worker-2"]


async def decided(client: Client) -> list[DecisionSummary]:
    """Return what was decided lately."""
    return (await client.send("GET", "/v2/decisions", DecisionList)).decisions


async def explained(client: Client, job_id: str) -> Explanation:
    """Return why a job is where it is."""
    return await client.send("GET", f"/v2/tasks/{job_id}/explain", Explanation)


async def test_a_model_whose_engine_does_not_compute_on_the_best_device_starts_where_its_pool_says(
    tmp_path: Path,
) -> None:
    worker = ScriptedWorker(refusal=BackendUnavailable("it computes on cpu only", details={"no_engine": False}))
    async with both(tmp_path, worker) as system:
        told = {"memory_bytes": 2**20, "memory_slots": 1, "memory_ctx": 512}
        model = msgspec.structs.replace(MODEL, model_ref="file:/models/old.bin", **told)
        await system.register(worker, models=[model])
        job = await system.submit(model="file:/models/old.bin")
        events = await system.events(job.job_id)

    assert failure(events).code == "BACKEND_UNAVAILABLE"
    assert [spawn.device for spawn in worker.spawns][-2:] == ["cpu0", UNSET]
