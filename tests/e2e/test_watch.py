"""`llorch jobs watch` as a person and as a program see it, with an orchestrator that is killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from tests.e2e.processes import orchestrator_role, pool_role, run, whole_system
from tests.e2e.terminal import CTRL_C, screens, terminal
from tests.e2e.test_resume import again, started


async def _lines(process: asyncio.subprocess.Process, count: int) -> list[str]:
    assert process.stdout is not None
    return [(await process.stdout.readline()).decode().rstrip("\n") for _ in range(count)]


async def test_a_terminal_shows_the_queue_and_the_orchestrators_absence(tmp_path: Path) -> None:
    async with orchestrator_role(tmp_path) as first:
        await first.submit(model="haiku", prompt="hello", priority="batch")
        async with terminal("jobs", "watch", "--url", first.url, columns=80, rows=12) as shown:
            await shown.until(lambda seen: "queued" in seen)
            wide = shown.seen
            shown.raw.clear()
            shown.resize(40, 12)
            await shown.until(lambda seen: any("MODEL" in one and "WORKER" not in one for one in screens(seen)))
            await first.stop(signal.SIGKILL)
            await shown.until(lambda seen: "away for " in seen)
            async with again(tmp_path, first.url) as second:
                shown.raw.clear()
                job = await second.submit(model="haiku", prompt="hello again")
                await shown.until(lambda seen: job.job_id[:8] in seen)
                shown.press(CTRL_C)
                status = await shown.ended()

    assert "0 running · 1 waiting (1 batch)" in wide
    assert "WORKER" in wide
    assert status == 130
    assert "\x1b[?1049l" in shown.seen  # the screen that was there before is back
    assert "Traceback" not in shown.seen


@pytest.mark.parametrize("as_json", [False, True])
async def test_a_program_gets_a_line_for_each_change(as_json: bool, tmp_path: Path) -> None:
    async with orchestrator_role(tmp_path) as orchestrator:
        url = ("--url", orchestrator.url)
        job = await orchestrator.submit(model="haiku", prompt="Write a haiku about rain")
        watching = await started("jobs", "watch", *url, *(["--json"] if as_json else []))
        first = await _lines(watching, 1)
        async with pool_role(tmp_path, orchestrator.url):
            rest: list[str] = []
            while "completed" not in " ".join(rest):
                rest += await _lines(watching, 1)
        watching.send_signal(signal.SIGINT)
        await watching.communicate()

    lines = [*first, *rest]
    if as_json:
        found = [json.loads(line)["job"] for line in lines]
        assert {one["job_id"] for one in found} == {job.job_id}
        states = [one["status"] for one in found]
    else:
        assert all(line.startswith(f"{job.job_id} ") for line in lines)
        states = [line.split()[1] for line in lines]
    assert states[0] == "queued"
    assert states[-1] == "completed"
    assert len(set(states)) == len(states)
    assert watching.returncode == 130


async def test_a_job_is_explained_in_words_and_as_data(tmp_path: Path) -> None:
    async with whole_system(tmp_path) as whole:
        job = await whole.submit(model="file:/nowhere/at/all.gguf", prompt="hello")
        words = await run("jobs", "explain", job.job_id, "--url", whole.url)
        data = json.loads((await run("jobs", "explain", job.job_id, "--json", "--url", whole.url)).stdout)

    assert words.stdout.count("\n") == 1
    assert data["job_id"] == job.job_id
    assert data["text"] in words.stdout
