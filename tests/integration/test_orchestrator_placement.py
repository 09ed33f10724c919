"""Placement through HTTP: what was decided can be read, explained and decided on again; refusals and stops are told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from llorch.client import Client
from llorch.errors import InsufficientMemory, ModelNotFound, RemoteError
from llorch.wire.decisions import DecisionList, DecisionRecord
from llorch.wire.tasks import Explanation
from roles.orchestrator.scheduler.journal import Entry, replay
from tests.support.orchestrating import REF, ScriptedWorker, both


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
    assert why.text == ("It waits because pool far has the model and is offline; pool pool: no such file.")


async def explained(client: Client, job_id: str) -> Explanation:
    """Return why a job is where it is."""
    return await client.send("GET", f"/v2/tasks/{job_id}/explain", Explanation)
