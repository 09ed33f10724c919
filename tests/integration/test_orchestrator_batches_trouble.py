"""Batches with files, lines and names that go wrong: what that costs, and what it does not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from llorch.wire.tasks import SubmitTask
from roles.orchestrator.batches import lines
from tests.support.batching import begun, ended, jsonl, library, request, results
from tests.support.orchestrating import REF, ScriptedWorker, orchestrator, scripted


async def test_a_batch_whose_file_is_gone_fails_alone(tmp_path: Path) -> None:
    async with orchestrator(tmp_path, queue_capacity=0) as system, library(system) as ai:
        batch = await begun(ai, jsonl([request(1)]))
        async with asyncio.timeout(30):
            while (await ai.batches.retrieve(batch.id)).status != "in_progress":
                await asyncio.sleep(0.02)
    (tmp_path / "files" / batch.input_file_id).unlink()
    async with orchestrator(tmp_path) as system, library(system) as ai:
        done = await ended(ai, batch)

    assert done.errors is not None
    assert [error.code for error in done.errors.data or []] == ["file_not_found"]


async def test_a_batch_whose_file_cannot_be_read_waits_until_it_can(tmp_path: Path) -> None:
    async with orchestrator(tmp_path, queue_capacity=0) as system, library(system) as ai:
        batch = await begun(ai, jsonl([request(1)]))
        async with asyncio.timeout(30):
            while (await ai.batches.retrieve(batch.id)).status != "in_progress":
                await asyncio.sleep(0.02)
    file, aside = tmp_path / "files" / batch.input_file_id, tmp_path / "aside"
    file.rename(aside)
    file.mkdir()
    async with scripted(ScriptedWorker()) as worker, orchestrator(tmp_path) as system, library(system) as ai:
        await system.register(worker)
        await ended(ai, await begun(ai, jsonl([request(2)])))
        waiting = await ai.batches.retrieve(batch.id)
        file.rmdir()
        aside.rename(file)
        done = await ended(ai, batch)

    assert (waiting.status, done.status) == ("in_progress", "completed")


async def test_a_line_with_old_calls_of_tools_is_answered_like_any_other(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "5"},
    ]
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": REF, "messages": said}}
    async with scripted(ScriptedWorker()) as worker, orchestrator(tmp_path) as system, library(system) as ai:
        await system.register(worker)
        done = await ended(ai, await begun(ai, jsonl([line]), "/v1/chat/completions"))

    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (1, 0)


async def test_a_file_whose_name_is_not_utf8_is_taken_under_one_that_is(tmp_path: Path) -> None:
    form = (
        b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="m\xfcll.jsonl"\r\n\r\n{}\n\r\n--x--\r\n'
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    async with orchestrator(tmp_path) as system, library(system) as ai:
        async with aiohttp.ClientSession(system.url) as http, http.post("/v1/files", data=form, headers=headers) as got:
            status, file = got.status, await got.json()
        listed = [each.filename async for each in ai.files.list()]

    assert (status, file["filename"], listed) == (200, "m?ll.jsonl", ["m?ll.jsonl"])


async def test_a_line_that_meets_a_bug_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = lines.tasks

    def with_a_bug(wanted: lines.Wanted, batch_id: str, *, room: int | None, left_ms: int) -> list[SubmitTask]:
        if "p2" in str(wanted):
            raise ZeroDivisionError
        return right(wanted, batch_id, room=room, left_ms=left_ms)

    monkeypatch.setattr(lines, "tasks", with_a_bug)
    async with scripted(ScriptedWorker()) as worker, orchestrator(tmp_path) as system, library(system) as ai:
        await system.register(worker)
        done = await ended(ai, await begun(ai, jsonl([request(number) for number in (1, 2, 3)])))
        found = await results(ai, done.output_file_id)
        errors = await results(ai, done.error_file_id)

    assert (done.status, set(found), set(errors)) == ("completed", {"line 1", "line 3"}, {"line 2"})
    assert errors["line 2"]["response"]["status_code"] == 500
