"""Commands in odd surroundings: output that nobody takes, no input, a terminal of no width, a log without a reader."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from llorch.job import FINAL
from llorch.wire.tasks import Task, TaskPage
from tests.e2e.processes import (
    Role,
    clean_environment,
    complaint,
    finish,
    orchestrator_role,
    program,
    run,
    until,
    whole_system,
)

PATIENCE_S = 45.0
HAIKU = ("--model", "haiku", "--prompt", "Write a haiku about rain", "--temperature", "0")


async def redirected(how: str, *arguments: str) -> tuple[int, str, str]:
    """Run llorch as a shell does with a redirection."""
    return await finish("sh", "-c", f'exec "$@" {how}', "sh", *program(), *arguments)


async def without_reader(*arguments: str) -> tuple[int, str, str]:
    """Run llorch on a pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return await finish(*program(), *arguments, stdout=writing)
    finally:
        os.close(writing)


async def _all_ended(whole: Role) -> list[Task] | None:
    """Return the jobs once none is under way."""
    tasks = (await whole.client.send("GET", "/v2/tasks", TaskPage)).tasks
    return tasks if all(task.status in FINAL for task in tasks) else None


async def test_output_that_nobody_takes_is_told_or_not_worth_a_word(tmp_path: Path) -> None:
    async with whole_system(tmp_path) as whole:
        url = ("--url", whole.url)
        spoken = await run("jobs", "submit", *HAIKU, *url)
        lists = ("jobs", "list", *url)
        submits = ("jobs", "submit", *HAIKU, *url)
        gone = [await without_reader(*lists), await without_reader(*submits), await without_reader(*submits, "--json")]
        full = [await redirected("> /dev/full", *command) for command in (lists, submits, ("--version",))]
        closed = [await redirected(">&-", *command) for command in (lists, submits, ("--version",))]
        mute = await redirected("2>&-", *submits)
        no_stdin = await redirected("<&-", "jobs", "submit", "--model", "haiku", "--prompt", "-", *url)
        unread_stdin = await redirected("<&-", *submits)
        tasks = await until(lambda: _all_ended(whole))

    assert gone == [(141, "", "")] * 3
    assert [(status, complaint(err)) for status, _, err in full] == [
        (1, "cannot write to stdout: No space left on device")
    ] * 3
    assert [(status, complaint(err)) for status, _, err in closed] == [
        (1, "cannot write to stdout: Bad file descriptor")
    ] * 3
    assert mute == (0, spoken.stdout, "")
    assert (no_stdin[0], unread_stdin[:2]) == (2, (0, spoken.stdout))
    assert "cannot be read" in complaint(no_stdin[2])
    assert {task.status for task in tasks} <= {"completed", "cancelled"}


async def test_what_stdout_has_no_character_for_stops_no_command(tmp_path: Path) -> None:
    env = {"LLORCH_POOL_DATA_DIR": str(tmp_path), "LLORCH_POOL_PORT": "1", "PYTHONIOENCODING": "ascii"}

    finished = await run("pool", "status", env=env)

    assert finished.status == 0, finished.stderr
    assert "haiku" in finished.stdout, "the last table is missing"


async def on_terminal(*arguments: str, columns: int, env: Mapping[str, str]) -> tuple[int, str]:
    """Run llorch on a terminal of so many columns; return its exit status and all that the terminal got."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 1, columns, 0, 0))
    without = {name: value for name, value in clean_environment().items() if name != "NO_COLOR"}
    process = await asyncio.create_subprocess_exec(
        *program(), *arguments, stdin=slave, stdout=slave, stderr=slave, env={**without, "TERM": "xterm", **env}
    )
    os.close(slave)
    got = b""
    with suppress(OSError):  # the end of a terminal
        while data := await asyncio.to_thread(os.read, master, 65_536):
            got += data
    os.close(master)
    return await process.wait(), got.decode()


@pytest.mark.parametrize("columns", [0, 1])
async def test_a_terminal_of_next_to_no_width_gets_the_whole_text(columns: int, tmp_path: Path) -> None:
    async with whole_system(tmp_path) as whole:
        url = ("--url", whole.url)
        plain = await run("jobs", "submit", *HAIKU, *url)
        status, shown = await on_terminal("jobs", "submit", *HAIKU, *url, columns=columns, env={})
        listed = await on_terminal("jobs", "list", *url, columns=columns, env={})
        pools = await on_terminal("pool", "list", *url, columns=columns, env={})

    assert status == listed[0] == pools[0] == 0
    assert plain.stdout.replace("\n", "\r\n") in shown
    assert "completed" in listed[1]
    assert "Traceback" not in shown + listed[1] + pools[1]


async def test_colour_is_left_out_where_nobody_wants_it(tmp_path: Path) -> None:
    async with orchestrator_role(tmp_path) as orchestrator:
        command = ("jobs", "list", "--url", orchestrator.url)
        coloured = await on_terminal(*command, columns=80, env={})
        plain = await on_terminal(*command, columns=80, env={"NO_COLOR": "1"})
        dumb = await on_terminal(*command, columns=80, env={"TERM": "dumb"})

    assert "\x1b[" in coloured[1]
    assert "\x1b" not in plain[1] + dumb[1]
    assert coloured[0] == plain[0] == dumb[0] == 0


async def test_ctrl_c_cancels_the_job_and_says_nothing_else(tmp_path: Path) -> None:
    async with orchestrator_role(tmp_path) as orchestrator:
        process = await asyncio.create_subprocess_exec(
            *program(),
            *("jobs", "submit", *HAIKU, "--json", "--url", orchestrator.url),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=clean_environment(),
            start_new_session=True,
        )
        assert process.stdout is not None
        await process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        _, err = await process.communicate()
        [task] = (await orchestrator.client.send("GET", "/v2/tasks", TaskPage)).tasks

    assert process.returncode == 130
    assert task.status == "cancelled"
    assert b"Traceback" not in err


@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full", "<&-"])
async def test_a_role_goes_on_when_nobody_takes_its_log(how: str, tmp_path: Path) -> None:
    command = ("serve", "orchestrator", "--port", "0", "--data-dir", str(tmp_path))
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f'exec "$@" {how}', "sh", *program(), *command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=clean_environment(),
        start_new_session=True,
    )
    assert process.stdout is not None
    assert await _works_and_ends(process, (await process.stdout.readline()).decode().strip()) == (0, 0, 0)


async def test_a_role_goes_on_when_the_reader_of_its_log_has_gone(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *program(),
        *("serve", "orchestrator", "--port", "0", "--data-dir", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(),
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    url = (await process.stdout.readline()).decode().strip()
    for pipe in (process.stdout, process.stderr):
        pipe._transport.close()  # type: ignore[attr-defined]  # there is no other way to stop reading
    assert await _works_and_ends(process, url) == (0, 0, 0)


async def _works_and_ends(process: asyncio.subprocess.Process, url: str) -> tuple[int, int, int]:
    """Submit and cancel a job at a role and end it; return the statuses of all three."""
    try:
        submitted = await run("jobs", "submit", *HAIKU, "--detach", "--url", url)
        cancelled = await run("jobs", "cancel", submitted.stdout.strip(), "--url", url)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            status = await process.wait()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return submitted.status, cancelled.status, status
