"""The client API of a real orchestrator: submit, list, show, cancel, explain, keys, limits, tokens."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from llorch.client import Client
from llorch.errors import RemoteError
from llorch.sse import parse
from llorch.wire.meta import Capabilities, Health, ReadyReply, Version
from llorch.wire.tasks import Accepted, CancelReply, Explanation, SubmitTask, TaskPage
from roles.orchestrator.app import DATABASE
from tests.integration.test_store import rows
from tests.support.orchestrating import REF, Clock, ScriptedWorker, System, both, failure, orchestrator, scripted
from tests.support.scripts import until_cancelled

BODY = {"model": REF, "prompt": "say something"}


async def cancel(system: System, job_id: str) -> tuple[int, str]:
    """Cancel a job; return the status of the answer and of the job."""
    async with system.client.request("DELETE", f"/v2/tasks/{job_id}") as response:
        return response.status, (await response.json())["status"]


async def refused(client: Client, method: str, path: str, **given: object) -> RemoteError:
    """Return the refusal of a request that must be refused."""
    try:
        async with client.request(method, path, **given) as response:  # type: ignore[arg-type]  # as `request` takes them
            raise AssertionError(await response.read())
    except RemoteError as error:
        return error


async def test_an_accepted_job_is_on_disk_and_says_where_its_events_are(tmp_path: Path) -> None:
    async with orchestrator(tmp_path) as system:
        async with system.client.request("POST", "/v2/tasks", body=BODY) as response:
            status, location = response.status, response.headers["Location"]
            accepted = await response.json()

        on_disk = rows(tmp_path / DATABASE, "SELECT id, state, seed FROM jobs")

    assert status == 202
    assert on_disk == [(accepted["job_id"], "queued", str(accepted["seed"]))]
    assert location == f"/v2/tasks/{accepted['job_id']}"
    assert accepted == {
        "job_id": str(uuid.UUID(accepted["job_id"], version=4)),
        "status": "queued",
        "queue_position": 0,
        "seed": accepted["seed"],
        "events_url": location + "/events",
        "model_ref": REF,
    }


async def test_a_client_that_accepts_events_gets_them_on_the_same_connection(tmp_path: Path) -> None:
    async with both(tmp_path, ScriptedWorker()) as system:
        headers = {"Accept": "text/event-stream", "X-Correlation-Id": "mine-1"}
        async with system.client.request("POST", "/v2/tasks", body=BODY | {"max_tokens": 2}, headers=headers) as answer:
            events = [event for event in parse(await answer.read()) if event.kind != "queued"]

    assert (answer.status, answer.content_type) == (200, "text/event-stream")
    assert [event.kind for event in events] == ["started", "token", "token", "end"]
    assert b'"correlation_id":"mine-1"' in events[0].data


async def test_jobs_are_listed_newest_first_in_pages_that_miss_none(tmp_path: Path) -> None:
    async with orchestrator(tmp_path) as system:
        jobs = [(await system.submit(session_id=f"s{n % 2}")).job_id for n in range(7)]
        found: list[str] = []
        params = {"limit": "3"}
        while True:
            page = await system.client.send("GET", "/v2/tasks", TaskPage, params=params)
            found += [task.job_id for task in page.tasks]
            if not isinstance(page.next_cursor, str):
                break
            params["cursor"] = page.next_cursor
        narrow = {"status": "queued", "model": REF, "priority": "interactive", "session_id": "s1"}
        filtered = await system.client.send("GET", "/v2/tasks", TaskPage, params=narrow)

    assert found == jobs[::-1]
    assert [task.job_id for task in filtered.tasks] == jobs[5::-2]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=ten", "limit"),
        ("limit=%D9%A1", "limit"),
        ("cursor=-1", "cursor"),
        ("status=lost", "status"),
        ("priority=urgent", "priority"),
        ("colour=red", "colour"),
        ("limit=1&limit=2", "limit"),
    ],
)
async def test_a_filter_that_cannot_be_is_named(tmp_path: Path, query: str, field: str) -> None:
    async with orchestrator(tmp_path) as system:
        error = await refused(system.client, "GET", f"/v2/tasks?{query}")

    assert (error.status, error.code) == (400, "INVALID_REQUEST")
    assert error.details is not None
    assert [problem["field"] for problem in error.details["fields"]] == [field]  # type: ignore[attr-defined]


async def test_everything_known_about_a_finished_job_is_shown(tmp_path: Path) -> None:
    async with both(tmp_path, ScriptedWorker()) as system:
        job = await system.submit(max_tokens=2, seed=11, session_id="s", priority="batch")
        await system.events(job.job_id)

        task = await system.show(job.job_id)

    assert (task.status, task.seed, task.max_tokens) == ("completed", 11, 2)
    assert (task.priority, task.session_id) == ("batch", "s")
    assert (task.worker_id, task.pool_id, task.engine) == ("worker-1", "pool", "scripted 1")
    assert (task.tokens_in, task.tokens_out, task.stop_reason, task.attempts) == (3, 2, "eos", 1)
    assert isinstance(task.attempt_log, list)
    assert [entry.outcome for entry in task.attempt_log] == ["completed"]
    times = task.timings
    assert isinstance(times.finished_ms, int)
    assert times.submitted_ms <= times.finished_ms <= times.deadline_ms


async def test_cancelling_is_idempotent_in_every_state(tmp_path: Path) -> None:
    async with both(tmp_path, ScriptedWorker(until_cancelled, slots=1)) as system:
        running, waiting = await system.submit(), await system.submit()
        await system.reached(running.job_id, "running")

        first = [await cancel(system, waiting.job_id) for _ in range(3)]
        second = await cancel(system, running.job_id)
        await system.reached(running.job_id, "cancelled")
        again = await cancel(system, running.job_id)
        post = await system.client.send("POST", f"/v2/tasks/{running.job_id}/cancel", CancelReply)
        streams = [await system.events(job.job_id) for job in (running, waiting)]

    assert first == [(200, "cancelled")] * 3
    assert second in {(202, "cancelling"), (200, "cancelled")}
    assert again == (200, "cancelled")
    assert post.status == "cancelled"
    assert [failure(stream).code for stream in streams] == ["CANCELLED", "CANCELLED"]
    assert [sum(event.kind == "error" for event in stream) for stream in streams] == [1, 1]


async def test_a_completed_job_cannot_be_cancelled_any_more(tmp_path: Path) -> None:
    async with both(tmp_path, ScriptedWorker()) as system:
        job = await system.submit(max_tokens=1)
        before = await system.stream(job.job_id)

        answer = await cancel(system, job.job_id)

        assert answer == (200, "completed")
        assert await system.stream(job.job_id) == before


@pytest.mark.parametrize("path", ["", "/events", "/explain"])
async def test_an_unknown_job_is_not_found(tmp_path: Path, path: str) -> None:
    async with orchestrator(tmp_path) as system:
        errors = [await refused(system.client, "GET", f"/v2/tasks/{uuid.uuid4()}{path}")]
        errors += [await refused(system.client, "DELETE", f"/v2/tasks/{uuid.uuid4()}")]
        errors += [await refused(system.client, "POST", f"/v2/tasks/{uuid.uuid4()}/cancel")]

    assert [(error.status, error.code) for error in errors] == [(404, "JOB_NOT_FOUND")] * 3


async def test_a_key_gives_the_same_job_for_the_same_body_and_a_conflict_for_another(tmp_path: Path) -> None:
    async with orchestrator(tmp_path) as system:
        key = {"Idempotency-Key": "k-1"}
        first = await system.client.send("POST", "/v2/tasks", Accepted, body=BODY, headers=key)

        same = await system.client.send("POST", "/v2/tasks", Accepted, body=dict(reversed(BODY.items())), headers=key)
        other = await refused(system.client, "POST", "/v2/tasks", body=BODY | {"max_tokens": 1}, headers=key)
        broken = await refused(system.client, "POST", "/v2/tasks", body=BODY, headers={"Idempotency-Key": "a b"})

    assert same == first
    assert (other.status, other.code) == (409, "CONFLICT")
    assert (broken.status, broken.code) == (400, "INVALID_REQUEST")
    assert len(rows(tmp_path / DATABASE, "SELECT 1 FROM jobs")) == 1


async def test_many_submissions_with_one_key_at_once_are_one_job(tmp_path: Path) -> None:
    async with both(tmp_path, ScriptedWorker()) as system:
        key = {"Idempotency-Key": "k-1"}
        async with asyncio.TaskGroup() as group:
            answers = [
                group.create_task(system.client.send("POST", "/v2/tasks", Accepted, body=BODY, headers=key))
                for _ in range(50)
            ]

    assert len({answer.result().job_id for answer in answers}) == 1
    assert len({answer.result().seed for answer in answers}) == 1
    assert len(rows(tmp_path / DATABASE, "SELECT 1 FROM jobs")) == 1


async def test_the_queue_limit_holds_under_concurrent_submits(tmp_path: Path) -> None:
    async with orchestrator(tmp_path, queue_capacity=50) as system:

        async def one() -> str:
            async with system.client._session.post(f"{system.url}/v2/tasks", json=BODY) as response:  # type: ignore[union-attr]
                if response.status == 429:
                    assert int(response.headers["Retry-After"]) >= 1
                return f"{response.status} {(await response.json()).get('error', {}).get('code', '')}"

        async with asyncio.TaskGroup() as group:
            answers = [group.create_task(one()) for _ in range(200)]

    assert Counter(answer.result() for answer in answers) == {"202 ": 50, "429 QUEUE_FULL": 150}
    assert rows(tmp_path / DATABASE, "SELECT count(*) FROM jobs") == [(50,)]


async def test_a_draining_orchestrator_refuses_new_work_and_says_so(tmp_path: Path) -> None:
    async with orchestrator(tmp_path) as system:
        job = await system.submit()
        await system.core.drain(0)

        error = await refused(system.client, "POST", "/v2/tasks", body=BODY)
        ready = await refused(system.client, "GET", "/ready")
        health = await system.client.send("GET", "/health", Health)

        assert (error.status, error.code, error.retriable) == (503, "DRAINING", True)
        assert error.retry_after_s is not None
        assert ready.status == 503
        assert health == Health("ok")
        assert (await system.show(job.job_id)).status == "queued"


async def test_a_restart_keeps_the_queue_and_its_order(tmp_path: Path) -> None:
    clock = Clock()
    async with orchestrator(tmp_path, clock=clock) as system:
        jobs = [(await system.submit(prompt=str(n), priority=("batch", "interactive")[n % 2])).job_id for n in range(8)]
        before = [(await system.show(job)).queue_position for job in jobs]

    async with scripted(ScriptedWorker(slots=1)) as worker, orchestrator(tmp_path, clock=clock) as system:
        after = [(await system.show(job)).queue_position for job in jobs]
        await system.register(worker)
        for job in jobs:
            await system.events(job)

    assert after == before == [4, 0, 5, 1, 6, 2, 7, 3]
    assert [body.prompt for body in worker.asked] == ["1", "3", "5", "7", "0", "2", "4", "6"]


async def test_a_waiting_job_tells_its_reader_where_it_stands(tmp_path: Path) -> None:
    async with orchestrator(tmp_path) as system:
        await system.submit()
        job = await system.submit()
        stream = system.client.events(f"/v2/tasks/{job.job_id}/events")
        first = await anext(stream)
        explanation = await system.client.send("GET", f"/v2/tasks/{job.job_id}/explain", Explanation)
        await cancel(system, job.job_id)
        rest = [event async for event in stream]

    assert first.kind == "queued"
    assert b'"position":1' in first.data
    assert explanation.reason == "pool"
    assert "no pool is online" in explanation.text
    assert [event.kind for event in rest][-1:] == ["error"]


@pytest.mark.parametrize(("on_disconnect", "status"), [("continue", "queued"), ("cancel", "cancelled")])
async def test_a_submission_whose_client_left_is_as_good_as_any(
    tmp_path: Path, on_disconnect: str, status: str
) -> None:
    async with orchestrator(tmp_path) as system:
        gate = threading.Event()
        _ = system.core._store.writer.submit(lambda _db: gate.wait())
        task = msgspec.convert(BODY | {"on_disconnect": on_disconnect}, SubmitTask)
        async with asyncio.TaskGroup() as group:
            leaving = group.create_task(system.core.submissions.submit(task, key="k-1", owner="", correlation_id="c"))
            while not system.core.submissions._entering:
                await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.wait([leaving])
            gate.set()
        again = await system.core.submissions.submit(task, key="k-1", owner="", correlation_id="c")

        found = await system.reached(again.job_id, status)

        queued = len(system.core.dispatcher.queue)
    assert leaving.cancelled()
    assert found.status == status
    assert queued == (status == "queued")


TOKEN = "a-token-of-the-tests"


async def test_only_health_is_open_where_a_token_is_set(tmp_path: Path) -> None:
    async with orchestrator(tmp_path, token=TOKEN) as system, Client(system.url) as stranger:
        document = await system.client.send("GET", "/openapi.json", dict)
        codes: dict[str, str] = {}
        for path, methods in {**document["paths"], "/metrics": {"get": {}}, "/nowhere": {"get": {}}}.items():
            for method in methods:
                if path != "/health":
                    error = await refused(stranger, method.upper(), path.replace("{id}", "x"))
                    codes[f"{method} {path}"] = f"{error.status} {error.code}"
        wrong = [
            await refused(stranger, "GET", "/v2/tasks", headers={"Authorization": value})
            for value in (f"Bearer {TOKEN}x", "Bearer caf\u00e9", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", "Bearer")
        ]
        health = await stranger.send("GET", "/health", Health)
        page = await system.client.send("GET", "/v2/tasks", TaskPage)

    dialects = {key for key in codes if key.partition(" ")[2].startswith(("/api/", "/v1/")) or key == "get /"}
    assert {codes[key] for key in codes.keys() - dialects} == {"401 MISSING_TOKEN"}
    assert {codes[key] for key in dialects} == {"401 HTTP_401"}  # errors in others' words are not in our client's
    assert len(codes) > 15
    assert [error.code for error in wrong] == ["INVALID_TOKEN"] * 3 + ["MISSING_TOKEN"] * 2
    assert (health, page.tasks) == (Health("ok"), [])


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-123", True), ("a" * 64, True), ("a" * 65, False), ("", False), ("a b", False), ("a_b", False), ("é", False)],
)
async def test_a_correlation_id_is_kept_when_it_is_well_formed(tmp_path: Path, given: str, *, kept: bool) -> None:
    async with orchestrator(tmp_path) as system:
        headers = {"X-Correlation-Id": given}
        async with system.client.request("POST", "/v2/tasks", body=BODY, headers=headers) as response:
            answered, job = response.headers["X-Correlation-Id"], (await response.json())["job_id"]
        task = await system.show(job)

    assert (answered == given) is kept
    assert kept or uuid.UUID(answered).version == 4
    assert task.correlation_id == answered


async def test_it_says_what_it_is_and_what_it_can(tmp_path: Path) -> None:
    async with both(tmp_path, ScriptedWorker()) as system:
        ready = await system.client.send("GET", "/ready", ReadyReply)
        version = await system.client.send("GET", "/v2/meta/version", Version)
        can = await system.client.send("GET", "/v2/meta/capabilities", Capabilities)

    assert (ready.ready, version.role) == (True, "orchestrator")
    assert (can.engines, can.models, can.slots, can.slots_busy) == (["llamacpp"], [REF], 4, 0)
