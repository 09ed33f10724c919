"""`llorch jobs submit` while its connection is cut or the orchestrator is away: one job, one unbroken text."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from llorch.wire.tasks import Task, TaskPage
from tests.e2e.processes import Role, clean_environment, orchestrator_role, pool_role, program, role, run, until
from tests.e2e.terminal import CTRL_C, terminal
from tests.support import cutting, models

HAIKU = ("--model", "haiku", "--prompt", "Write a haiku about rain", "--temperature", "0")
LONG = 400


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that takes seconds for a job, so that there is a middle to be cut in."""
    shape = models.Shape(n_embd=512, n_layer=8, n_head=8, n_ff=1376, ctx=1024)
    return f"file:{models.make(tmp_path_factory.mktemp('models') / 'slow.gguf', shape)}"


def _ask(model: str, url: str, *more: str, tokens: int = 120) -> tuple[str, ...]:
    task = ("--model", model, "--prompt", "one two three", "--temperature", "0", "--max-tokens", str(tokens))
    return ("jobs", "submit", *task, "--url", url, *more)


def again(folder: Path, url: str) -> AbstractAsyncContextManager[Role]:
    """Run an orchestrator where an earlier one was: same address, same data."""
    data = ("--data-dir", str(folder / "orchestrator"))
    return role("orchestrator", "--port", str(urlsplit(url).port), *data, log=folder / "log")


async def started(*arguments: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *program(), *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=clean_environment()
    )


async def _output(process: asyncio.subprocess.Process, count: int) -> bytes:
    """Return the first *count* bytes that a command writes."""
    assert process.stdout is not None
    return await process.stdout.readexactly(count)


def _has_text(count: int, seen: str) -> bool:
    """Tell whether so many characters stand behind the status line that was taken back."""
    return len(seen.rpartition("\x1b[K")[2]) >= count


async def _jobs(orchestrator: Role) -> list[Task]:
    return (await orchestrator.client.send("GET", "/v2/tasks", TaskPage)).tasks


async def _only_job(orchestrator: Role, status: str) -> Task:
    """Return the only job there is, once it has *status*."""

    async def probe() -> Task | None:
        jobs = await _jobs(orchestrator)
        assert len(jobs) <= 1
        return next((job for job in jobs if job.status == status), None)

    return await until(probe)


async def test_a_connection_that_is_cut_again_and_again_costs_no_text(tmp_path: Path, slow: str) -> None:
    async with orchestrator_role(tmp_path) as orchestrator, pool_role(tmp_path, orchestrator.url):
        unbroken = await run(*_ask(slow, orchestrator.url))
        async with cutting.line(orchestrator.url) as line:
            process = await started(*_ask(slow, line.url))
            begun = b""
            for _ in range(4):
                begun += await _output(process, 60)
                assert line.cut()
            rest, said = await process.communicate()
        jobs = await _jobs(orchestrator)

    assert (begun + rest).decode() == unbroken.stdout
    assert process.returncode == 0
    assert said.count(b"\n") == 1
    assert len(jobs) == 2


async def test_a_person_sees_a_cut_connection_as_a_pause(tmp_path: Path, slow: str) -> None:
    async with orchestrator_role(tmp_path) as orchestrator, pool_role(tmp_path, orchestrator.url):
        unbroken = await run(*_ask(slow, orchestrator.url))
        async with cutting.line(orchestrator.url) as line, terminal(*_ask(slow, line.url)) as shown:
            for count in (1, 100, 200):
                await shown.until(partial(_has_text, count))
                assert line.cut()
            status = await shown.ended()
            await shown.until(lambda seen: " · first token after " in seen)

    text, summary, _ = shown.lines
    assert status == 0
    assert text + "\n" == unbroken.stdout
    assert summary.startswith("120 tokens")


async def test_an_answer_that_is_lost_does_not_make_a_second_job(tmp_path: Path) -> None:
    async with (
        orchestrator_role(tmp_path) as orchestrator,
        pool_role(tmp_path, orchestrator.url),
        cutting.line(orchestrator.url) as line,
    ):
        line.lose_answers = 3
        finished = await run("jobs", "submit", *HAIKU, "--url", line.url)
        jobs = await _jobs(orchestrator)

    assert finished.status == 0
    assert finished.stdout.count("\n") >= 3
    assert len(jobs) == 1
    assert line.accepted == 4  # three were lost; the fourth was answered, and kept for the events


async def test_nothing_at_the_address_is_told_at_once() -> None:
    submitted = await run("jobs", "submit", *HAIKU, "--url", "http://127.0.0.1:1")
    followed = await run("jobs", "follow", "an-id", "--url", "http://127.0.0.1:1")

    for finished in (submitted, followed):
        assert finished.status == 1
        assert "cannot be reached" in finished.stderr
        assert "llorch serve all" in finished.stderr
        assert finished.stderr.count("\n") == 1


async def test_ctrl_c_cancels_the_job(tmp_path: Path, slow: str) -> None:
    async with orchestrator_role(tmp_path) as orchestrator, pool_role(tmp_path, orchestrator.url):
        async with terminal(*_ask(slow, orchestrator.url, tokens=LONG)) as shown:
            await shown.until(lambda seen: "mobi" in seen)
            shown.press(CTRL_C)
            status = await shown.ended()
        job = await _only_job(orchestrator, "cancelled")

    assert status == 130
    assert job.job_id in shown.lines[-2]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
async def test_a_waiting_job_is_cancelled_when_its_command_is_told_to_end(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    async with orchestrator_role(tmp_path) as orchestrator:
        process = await started("jobs", "submit", *HAIKU, "--url", orchestrator.url)
        await _only_job(orchestrator, "queued")
        process.send_signal(number)
        _, said = await process.communicate()
        await _only_job(orchestrator, "cancelled")

    assert process.returncode == status
    assert said.endswith(b": cancelled\n")


async def test_ctrl_c_cancels_the_job_also_when_the_orchestrator_is_away(tmp_path: Path) -> None:
    async with orchestrator_role(tmp_path) as first, terminal("jobs", "submit", *HAIKU, "--url", first.url) as shown:
        await _only_job(first, "queued")
        await first.stop(signal.SIGKILL)
        shown.press(CTRL_C)
        await shown.until(lambda seen: "will be cancelled when it is back" in seen)
        async with again(tmp_path, first.url) as second:
            status = await shown.ended()
            await _only_job(second, "cancelled")

    assert status == 130
    assert shown.lines[-2].endswith(": cancelled")


async def test_a_second_ctrl_c_quits_at_once(tmp_path: Path) -> None:
    async with orchestrator_role(tmp_path) as first, terminal("jobs", "submit", *HAIKU, "--url", first.url) as shown:
        await _only_job(first, "queued")
        await first.stop(signal.SIGKILL)
        shown.press(CTRL_C)
        await shown.until(lambda seen: "Ctrl-C again" in seen)
        shown.press(CTRL_C)
        status = await shown.ended()

    assert status == 130


async def test_ctrl_c_before_the_answer_cancels_what_was_accepted(tmp_path: Path) -> None:
    async with orchestrator_role(tmp_path) as orchestrator, cutting.line(orchestrator.url) as line:
        line.lose_answers = 1_000
        process = await started("jobs", "submit", *HAIKU, "--url", line.url)
        await _only_job(orchestrator, "queued")
        line.lose_answers = 0
        process.send_signal(signal.SIGINT)
        await process.communicate()
        await _only_job(orchestrator, "cancelled")

    assert process.returncode == 130


async def test_a_detached_job_goes_on_and_can_be_followed_from_any_event(tmp_path: Path) -> None:
    async with orchestrator_role(tmp_path) as orchestrator, pool_role(tmp_path, orchestrator.url):
        url = ("--url", orchestrator.url)
        job_id = (await run("jobs", "submit", *HAIKU, "--detach", *url)).stdout.strip()
        whole = await run("jobs", "follow", job_id, *url)
        events = (await run("jobs", "follow", job_id, "--json", *url)).stdout.splitlines()
        rest = (await run("jobs", "follow", job_id, "--after", "5.0", "--json", *url)).stdout.splitlines()
        wrong = await run("jobs", "follow", job_id, "--after", "x", *url)
        unknown = await run("jobs", "follow", "no-such-job", *url)

    assert whole.stdout.count("\n") >= 3
    assert rest == events[events.index(rest[0]) :]
    assert '"id":"6.0"' in rest[0]
    assert [(refused.status, refused.stderr.count("\n")) for refused in (wrong, unknown)] == [(2, 1), (1, 1)]


async def test_a_killed_orchestrator_costs_a_pause_and_no_text(tmp_path: Path, slow: str) -> None:
    async with orchestrator_role(tmp_path) as first, pool_role(tmp_path, first.url):
        unbroken = await run(*_ask(slow, first.url))
        process = await started(*_ask(slow, first.url))
        async with terminal(*_ask(slow, first.url)) as shown:
            begun = await _output(process, 60)
            await shown.until(lambda seen: len(seen.rpartition("\x1b[K")[2]) >= 60)
            await first.stop(signal.SIGKILL)
            async with again(tmp_path, first.url) as second:
                rest, said = await process.communicate()
                status = await shown.ended()
                jobs = await _jobs(second)

    assert (begun + rest).decode() == unbroken.stdout
    assert shown.lines[0] + "\n" == unbroken.stdout
    assert (process.returncode, status) == (0, 0)
    assert said.count(b"\n") == 1
    assert [job.status for job in jobs] == ["completed"] * 3
