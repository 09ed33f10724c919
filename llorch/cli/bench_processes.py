"""Starts the roles that a measurement needs as processes of their own, and ends them with it."""

from __future__ import annotations

import asyncio
import secrets
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from llorch import program
from llorch.client import Client
from llorch.errors import EngineFailed, Unreachable
from llorch.settings import Worker
from llorch.wire.workers import WorkerHealth

START_S = 60.0
STOP_S = 60.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Started:
    """A role that answers: its client, and its process."""

    client: Client
    process: Process
    log: Path

    def said(self) -> str:
        """Return its log."""
        return _read(self.log)

    def memory_bytes(self) -> int:
        """Return what it and the processes that it started have in memory, mapped files included."""
        with suppress(psutil.NoSuchProcess):
            own = psutil.Process(self.process.pid)
            return sum(int(one.memory_info().rss) for one in (own, *own.children(recursive=True)))
        return 0


@asynccontextmanager
async def role(
    arguments: Sequence[str], folder: Path, *, env: Mapping[str, str] | None = None, token: str = ""
) -> AsyncIterator[Started]:
    """Run `llorch serve …` on a free port of the loopback address until the block ends.

    Settings of this user do not reach it, but for the variables of `[worker]`.

    Args:
        arguments: The role, and its own options.
        folder: For its configuration, which is empty, and its log.
        env: Variables to add.
        token: Which it asks for.

    Raises:
        EngineFailed: It did not start; the message is its own.
    """
    config, log = folder / "llorch.toml", folder / f"{arguments[0]}-{secrets.token_hex(4)}.log"
    config.touch()
    command = program.command("serve", *arguments, "--host", "127.0.0.1", "--port", "0", "--config", str(config))
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=errors,
            env=environment(program.environment(env or {}, outlives_parent=False), keep=env or {}),
            start_new_session=True,
            preexec_fn=program.die_with_parent,  # so that kill -9 leaves nothing behind; no other thread runs here
        )
    try:
        url = await _url(process, arguments[0], log)
        async with Client(url, token=token, what=f"the {arguments[0]}") as client:
            yield Started(client, process, log)
    finally:
        await _stop(process)


@asynccontextmanager
async def worker(
    model: Path, folder: Path, *, options: Worker, more: Sequence[str] = ()
) -> AsyncIterator[tuple[Started, WorkerHealth]]:
    """Run a worker for *model* until the block ends; begins when the model is loaded, raises as `role` does."""
    token = secrets.token_hex(16)
    numbers = {"--slots": options.slots, "--ctx": options.ctx, "--threads": options.threads}
    arguments = ["worker", "--model", str(model), *(word for name, n in numbers.items() for word in (name, str(n)))]
    env = {program.WORKER_TOKEN_VARIABLE: token, "LLORCH_WORKER_BATCH": str(options.batch)}
    async with AsyncExitStack() as stack:
        started = await stack.enter_async_context(role([*arguments, *more], folder, env=env, token=token))
        while True:
            try:
                health = await started.client.send("GET", "/health", WorkerHealth)
            except Unreachable:
                raise EngineFailed(f"the worker ended: {why(started.said())}") from None
            if health.status in {"ready", "busy"}:
                break
            if health.status == "failed" or started.process.returncode is not None:
                reason = health.error if isinstance(health.error, str) else why(started.said())
                raise EngineFailed(f"the worker did not get ready: {reason}")
            await asyncio.sleep(POLL_S)
        yield started, health


def environment(present: Mapping[str, str], *, keep: Mapping[str, str]) -> dict[str, str]:
    """Return *present* without the settings of llorch, but for those of a worker and those to *keep*. Pure."""
    kept = ("LLORCH_WORKER_", *keep)
    return {
        name: value
        for name, value in present.items()
        if not name.startswith("LLORCH_")
        or (name.startswith(kept) and (name != program.WORKER_TOKEN_VARIABLE or name in keep))
    }


def why(log: str) -> str:
    """Return why a role ended, from its log: its complaint, else its last line. Pure."""
    lines = [line for line in log.splitlines() if line.strip()]
    told = [line.removeprefix("llorch: ") for line in lines if line.startswith("llorch: ")]
    return (told or lines or ["it does not say why"])[-1]


def _read(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


async def _url(process: Process, name: str, log: Path) -> str:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            url = (await process.stdout.readline()).decode().strip()
    except TimeoutError:
        raise EngineFailed(f"the {name} did not start within {START_S:.0f} s") from None
    if not url.startswith("http"):
        raise EngineFailed(f"the {name} did not start: {why(_read(log))}")
    return url


async def _stop(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            program.signal_group(process.pid, signal.SIGKILL)
            await process.wait()
