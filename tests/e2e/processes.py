"""Real roles as real processes, from source or from the executable that LLORCH_EXE names."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

from llorch.client import Client
from llorch.sse import Event
from llorch.wire.pools import PoolStatus, WorkerList
from llorch.wire.tasks import Accepted, CancelReply, Task

T = TypeVar("T")
START_S = 30.0
STOP_S = 45.0


def program() -> list[str]:
    """Return the command line that is `llorch`."""
    exe = os.environ.get("LLORCH_EXE")
    return [str(Path(exe).resolve())] if exe else [sys.executable, "-m", "llorch"]


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without any llorch setting, plus *extra*.

    Workers compute with one thread: llama.cpp's threads wait for each other in a busy loop, which takes for ever where
    something else wants the same cores. The hub is not asked, unless a test names one of its own.
    """
    shaped = ("LLORCH_", "COLUMNS", "LINES")  # a size in the environment goes before the terminal's own
    kept = {name: value for name, value in os.environ.items() if not name.startswith(shaped)}
    hub = {} if "HF_ENDPOINT" in {**kept, **(extra or {})} else {"HF_HUB_OFFLINE": "1"}
    return {**kept, **hub, "NO_COLOR": "1", "LLORCH_WORKER_THREADS": "1", **(extra or {})}


@dataclass(slots=True)
class Role:
    """A role that runs and answers."""

    url: str
    process: asyncio.subprocess.Process
    client: Client
    log: Path

    async def submit(self, **task: object) -> Accepted:
        """Submit a job."""
        return await self.client.send("POST", "/v2/tasks", Accepted, body=task)

    async def follow(self, job_id: str, after: str = "") -> AsyncIterator[Event]:
        """Yield a job's events to the end."""
        async for event in self.client.follow(f"/v2/tasks/{job_id}/events", after=after):
            yield event

    async def events(self, job_id: str) -> list[Event]:
        """Return all events of a job, once it has ended."""
        return [event async for event in self.follow(job_id)]

    async def task(self, job_id: str) -> Task:
        """Return what is known of a job."""
        return await self.client.send("GET", f"/v2/tasks/{job_id}", Task)

    async def cancel(self, job_id: str) -> CancelReply:
        """Cancel a job."""
        return await self.client.send("DELETE", f"/v2/tasks/{job_id}", CancelReply)

    async def status(self) -> PoolStatus:
        """Return a pool's status."""
        return await self.client.send("GET", "/v2/status", PoolStatus)

    async def workers(self) -> WorkerList:
        """Return a pool's workers."""
        return await self.client.send("GET", "/v2/workers", WorkerList)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        if self.process.returncode is None:
            os.killpg(self.process.pid, number) if number is signal.SIGKILL else self.process.send_signal(number)
        async with asyncio.timeout(STOP_S):
            return await self.process.wait()


def role(
    *arguments: str, log: Path, env: Mapping[str, str] | None = None, token: str = "", inside: Sequence[str] = ()
) -> AbstractAsyncContextManager[Role]:
    """Run `llorch serve …` until the block ends, *inside* another command; what it logs goes to *log*."""
    return _running([*inside, *program(), "serve", *arguments], log=log, env=env, token=token)


def named(name: str, folder: Path, *arguments: str) -> AbstractAsyncContextManager[Role]:
    """Run the program under one of its old names: a link to the executable, or the installed entry point."""
    exe = os.environ.get("LLORCH_EXE")
    command = Path(sys.executable).with_name(name)
    if exe:
        command = folder / name
        command.symlink_to(Path(exe).resolve())
    return _running([str(command), *arguments], log=folder / "log", env=None, token="")


@asynccontextmanager
async def _running(command: list[str], *, log: Path, env: Mapping[str, str] | None, token: str) -> AsyncIterator[Role]:
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env=clean_environment(env),
            start_new_session=True,
        )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            url = (await process.stdout.readline()).decode().strip()
        assert url.startswith("http://"), f"no ready line: {log.read_text()}"
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(Client(url, token=token))
            running = Role(url, process, client, log)
            yield running
            await running.stop()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def orchestrator_role(folder: Path) -> AbstractAsyncContextManager[Role]:
    """Run an orchestrator on a free port that keeps its state in *folder*."""
    return role("orchestrator", "--port", "0", "--data-dir", str(folder / "orchestrator"), log=folder / "log")


def pool_role(folder: Path, orchestrator: str, pool_id: str = "pool") -> AbstractAsyncContextManager[Role]:
    """Run a pool on a free port that keeps its state in *folder*."""
    data = str(folder / pool_id)
    arguments = ("--port", "0", "--data-dir", data, "--orchestrator", orchestrator, "--pool-id", pool_id)
    return role("pool", *arguments, log=folder / "log")


def whole_system(folder: Path) -> AbstractAsyncContextManager[Role]:
    """Run all roles in one process on free ports."""
    return role("all", "--port", "0", "--pool-port", "0", "--data-dir", str(folder / "all"), log=folder / "log")


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has ended."""

    status: int
    stdout: str
    stderr: str


async def run(
    *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b"", inside: Sequence[str] = ()
) -> Finished:
    """Run a command to its end, *inside* another one."""
    process = await asyncio.create_subprocess_exec(
        *inside,
        *program(),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(env),
    )
    out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return Finished(process.returncode, out.decode(), err.decode())


async def finish(
    *command: str, env: Mapping[str, str] | None = None, stdout: int = asyncio.subprocess.PIPE
) -> tuple[int, str, str]:
    """Run any command to its end; return its exit status, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(env),
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, (out or b"").decode(), err.decode()


def complaint(stderr: str) -> str:
    """Return the one line of stderr that is not a log line; there must be exactly one, and no traceback."""
    [line] = [line for line in stderr.splitlines() if not line.startswith("{")]
    assert line.startswith("llorch: "), stderr
    assert "Traceback" not in stderr
    return line.removeprefix("llorch: ")


async def until(probe: Callable[[], Awaitable[T | None]], seconds: float = 30.0) -> T:
    """Ask again and again until the answer is something; return it."""
    async with asyncio.timeout(seconds):
        while not (found := await probe()):
            await asyncio.sleep(0.02)
    return found


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have."""
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def text_of(events: list[Event]) -> str:
    """Return the text that the token events carry, after checking that none is missing or doubled."""
    tokens = [json.loads(event.data) for event in events if event.kind == "token"]
    assert [token["i"] for token in tokens] == list(range(len(tokens)))
    return "".join(token["t"] for token in tokens)
