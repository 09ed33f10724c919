"""Batches through OpenAI's own library, on a real orchestrator and database, with a scripted worker."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from openai.types.responses import Response

from llorch.wire.tasks import TaskPage
from roles.orchestrator.api.keys import BATCHES
from roles.orchestrator.batches.registry import WINDOW_MS
from tests.support.batching import answered, begun, ended, jsonl, library, request, results
from tests.support.orchestrating import QUIET, REF, Clock, ScriptedWorker, orchestrator, scripted
from tests.support.scripts import Call, well_behaved

HOUR_MS = 3_600_000


async def held(call: Call) -> None:
    """Answer what ends with an even digit; hold the rest until it is cancelled."""
    if int(str(call.body.prompt)[-1]) % 2 == 0:
        await well_behaved(call)
    else:
        await call.started()
        await call.cancelled.wait()
        await call.fail("CANCELLED", retriable=False)


async def test_every_line_is_a_job_and_every_result_is_in_one_file(tmp_path: Path) -> None:
    async with (
        scripted(ScriptedWorker()) as worker,
        orchestrator(tmp_path, queue_capacity=10) as system,
        library(system) as ai,
    ):
        await system.register(worker)
        broken = [request(50, temperature=9), request(51, model="nobody"), request(52, stream=True)]
        batch = await begun(ai, jsonl([request(number) for number in range(50)] + broken))
        done = await ended(ai, batch)
        good, bad = [await results(ai, file) for file in (done.output_file_id, done.error_file_id)]
        page = await system.client.send("GET", "/v2/tasks", TaskPage, params={"limit": "200"})
        files = [file async for file in ai.files.list()]
        listed = [found.id async for found in ai.batches.list(limit=1)]

    assert (done.status, done.metadata) == ("completed", {"for": "test"})
    assert done.request_counts is not None
    assert done.request_counts.to_dict() == {"total": 53, "completed": 50, "failed": 3}
    assert good["line 7"]["response"]["body"]["choices"][0]["text"] == "p7:0 p7:1 "
    assert good["line 7"]["response"]["body"]["usage"]["completion_tokens"] == 2
    assert len(good) == 50
    assert [bad[f"line {number}"]["response"]["status_code"] for number in (50, 51, 52)] == [400, 404, 400]
    assert {(task.priority, task.session_id, task.status) for task in page.tasks} == {("batch", batch.id, "completed")}
    assert len(page.tasks) == 50
    assert worker.peak <= worker.slots
    assert sorted(file.purpose for file in files) == ["batch", "batch_output", "batch_output"]
    assert [stat.S_IMODE((tmp_path / "files" / file.id).stat().st_mode) for file in files] == [0o600] * 3
    assert listed == [batch.id]


async def test_chats_with_several_answers_are_one_line(tmp_path: Path) -> None:
    async with scripted(ScriptedWorker()) as worker, orchestrator(tmp_path) as system, library(system) as ai:
        await system.register(worker)
        body = {"model": REF, "messages": [{"role": "user", "content": "hi"}], "n": 3, "max_tokens": 1}
        line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
        done = await ended(ai, await begun(ai, jsonl([line]), "/v1/chat/completions"))
        [found] = (await results(ai, done.output_file_id)).values()

    assert len(found["response"]["body"]["choices"]) == 3
    assert len(worker.asked) == 3


async def test_responses_are_answered_in_their_own_form(tmp_path: Path) -> None:
    def line(number: int, **body: object) -> dict[str, Any]:
        wanted = {"model": REF, "input": f"p{number}", "max_output_tokens": 2, **body}
        return {"custom_id": f"line {number}", "method": "POST", "url": "/v1/responses", "body": wanted}

    async with scripted(ScriptedWorker()) as worker, orchestrator(tmp_path) as system, library(system) as ai:
        await system.register(worker)
        lines = [line(1), line(2, stream=True), line(3, previous_response_id="resp_1")]
        done = await ended(ai, await begun(ai, jsonl(lines), "/v1/responses"))
        good, bad = [await results(ai, file) for file in (done.output_file_id, done.error_file_id)]

    assert list(good) == ["line 1"]
    reply = Response.model_validate(good["line 1"]["response"]["body"])
    assert (reply.object, reply.status, reply.model) == ("response", "completed", REF)
    assert reply.output_text
    assert {name: found["response"]["body"]["error"]["param"] for name, found in bad.items()} == {
        "line 2": "stream",
        "line 3": "previous_response_id",
    }


async def test_a_file_with_broken_lines_is_refused_and_each_is_named(tmp_path: Path) -> None:
    other = {**request(2), "url": "/v1/chat/completions"}
    async with orchestrator(tmp_path) as system, library(system) as ai:
        broken = await ended(ai, await begun(ai, jsonl([request(1)]) + b"\n{\n" + jsonl([other, request(1)])))
        empty = await ended(ai, await begun(ai, b"\n"))
        page = await system.client.send("GET", "/v2/tasks", TaskPage)

    assert broken.errors is not None
    assert empty.errors is not None
    assert (broken.status, empty.status, page.tasks) == ("failed", "failed", [])
    assert [(error.line, error.code) for error in broken.errors.data or []] == [
        (3, "invalid_json_line"),
        (4, "mismatched_url"),
        (5, "duplicate_custom_id"),
    ]
    assert [error.code for error in empty.errors.data or []] == ["empty_file"]
    assert (broken.output_file_id, broken.error_file_id) == (None, None)


async def test_a_cancelled_batch_keeps_its_answers_and_ends_its_jobs(tmp_path: Path) -> None:
    async with (
        scripted(ScriptedWorker(script=held, slots=8)) as worker,
        orchestrator(tmp_path) as system,
        library(system) as ai,
    ):
        await system.register(worker)
        batch = await begun(ai, jsonl([request(number) for number in range(10)]))
        await answered(ai, batch, 5)
        cancelling = await ai.batches.cancel(batch.id)
        done = await ended(ai, batch)
        again = await ai.batches.cancel(batch.id)
        good, bad = [await results(ai, file) for file in (done.output_file_id, done.error_file_id)]
        async with asyncio.timeout(30):
            while {t.status for t in (await system.client.send("GET", "/v2/tasks", TaskPage)).tasks} != {
                "completed",
                "cancelled",
            }:
                await asyncio.sleep(0.02)

    assert (cancelling.status, done.status, again.status) == ("cancelling", "cancelled", "cancelled")
    assert sorted(good) == [f"line {number}" for number in (0, 2, 4, 6, 8)]
    assert {line["error"]["code"] for line in bad.values()} == {"batch_cancelled"}
    assert len(bad) == 5


async def test_a_batch_outlives_the_time_that_a_job_may_wait_but_not_its_own(tmp_path: Path) -> None:
    async with orchestrator(tmp_path, **QUIET) as system, library(system) as ai:
        batch = await begun(ai, jsonl([request(1)]))
        async with asyncio.timeout(30):
            while not (page := await system.client.send("GET", "/v2/tasks", TaskPage)).tasks:
                await asyncio.sleep(0.02)
        system.advance(HOUR_MS)
        await system.reached(page.tasks[0].job_id, "failed")
        async with asyncio.timeout(30):
            while len((await system.client.send("GET", "/v2/tasks", TaskPage)).tasks) < 2:
                await asyncio.sleep(0.02)
        still = await ai.batches.retrieve(batch.id)
        system.advance(WINDOW_MS)
        done = await ended(ai, batch)
        bad = await results(ai, done.error_file_id)

    assert (still.status, done.status) == ("in_progress", "expired")
    assert bad["line 1"]["error"]["code"] == "batch_expired"


async def test_a_restart_in_between_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    clock = Clock()
    async with scripted(ScriptedWorker(slots=2, script=held)) as worker:
        async with orchestrator(tmp_path, clock=clock, drain_s=0) as system, library(system) as ai:
            await system.register(worker)
            batch = await begun(ai, jsonl([request(number) for number in (0, 2, 4, 1, 3, 6, 8)]))
            await answered(ai, batch, 3)
        worker.script = well_behaved
        async with orchestrator(tmp_path, clock=clock) as system, library(system) as ai:
            await system.register(worker)
            done = await ended(ai, batch)
            good = await results(ai, done.output_file_id)
            page = await system.client.send("GET", "/v2/tasks", TaskPage)

    assert done.request_counts is not None
    assert done.request_counts.to_dict() == {"total": 7, "completed": 7, "failed": 0}
    assert {line["response"]["body"]["choices"][0]["text"][:2] for line in good.values()} == {
        f"p{number}" for number in (0, 1, 2, 3, 4, 6, 8)
    }
    assert [task.status for task in page.tasks] == ["completed"] * 7


async def test_files_go_when_their_time_has_come_and_not_while_a_batch_needs_them(tmp_path: Path) -> None:
    async with orchestrator(tmp_path, output_retention_s=60, **QUIET) as system, library(system) as ai:
        batch = await begun(ai, jsonl([request(1)]))
        unused = await ai.files.create(file=("in.jsonl", b"x"), purpose="batch")
        system.advance(100_000)
        await system.app[BATCHES].clean(purge_after_ms=HOUR_MS)
        with pytest.raises(openai.NotFoundError):
            await ai.files.retrieve(unused.id)
        with pytest.raises(openai.ConflictError, match="cancel it first"):
            await ai.files.delete(batch.input_file_id)
        await ai.batches.cancel(batch.id)
        done = await ended(ai, batch)
        await ai.files.delete(batch.input_file_id)
        left = {path.name for path in (tmp_path / "files").iterdir()}
        system.advance(100_000)
        await system.app[BATCHES].clean(purge_after_ms=1)

        assert left == {done.error_file_id}
        assert list((tmp_path / "files").iterdir()) == []
        with pytest.raises(openai.NotFoundError):
            await ai.batches.retrieve(batch.id)


async def test_uploads_that_are_no_batch_files_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    async with orchestrator(tmp_path) as system, library(system) as ai:
        with pytest.raises(openai.BadRequestError) as purpose:
            await ai.files.create(file=("in.jsonl", b"x"), purpose="fine-tune")
        with pytest.raises(openai.BadRequestError) as missing:
            await ai.batches.create(input_file_id="file-0", endpoint="/v1/completions", completion_window="24h")
        with pytest.raises(openai.BadRequestError, match="multipart/form-data"):
            await ai.post("/files", body={"a": 1}, cast_to=object)
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        async with aiohttp.ClientSession(system.url) as http:
            for data in (
                b"--x\r\nnonsense",
                b"nonsense",
                b"--x\r\nContent-Disposition: form-data; name=file\r\n\r\ncut",
            ):
                async with http.post("/v1/files", data=data, headers=headers) as answer:
                    assert (answer.status, (await answer.json())["error"]["type"]) == (400, "invalid_request_error")
        left = list((tmp_path / "files").iterdir())

    assert (purpose.value.param, missing.value.param, left) == ("purpose", "input_file_id", [])
