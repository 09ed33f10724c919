"""Roles that are started again on the same port and data directory, however they ended; and who is left of them.

Everything that descends from a run carries its mark in the environment, which is how orphans are found.
"""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from tests.e2e.processes import START_S, STOP_S, clean_environment, program

MARK = "TEST_RUN_MARK"
Part = Literal["orchestrator", "pool", "worker", "engine"]


@dataclass(slots=True)
class Kept:
    """One role. `ends` are the exit statuses that nobody asked for."""

    arguments: list[str]
    log: Path
    env: Mapping[str, str]
    port: int = 0
    process: asyncio.subprocess.Process | None = None
    ends: list[int] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it listens, also while it does not."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it and wait for its ready line."""
        with self.log.open("ab") as errors:
            process = self.process = await asyncio.create_subprocess_exec(
                *program(), "serve", *self.arguments, "--port", str(self.port),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=clean_environment(self.env),
                start_new_session=True,
            )  # fmt: skip
        assert process.stdout is not None
        async with asyncio.timeout(START_S):
            line = (await process.stdout.readline()).decode().strip()
        assert line.startswith("http://"), f"no ready line: {self.log.read_text()[-2000:]}"
        self.port = int(line.rpartition(":")[2])

    async def kill(self) -> None:
        """End it as a power cut would; what it has started in sessions of their own goes on."""
        process, self.process = self.process, None
        if process is None:
            return
        if process.returncode is not None:
            self.ends.append(process.returncode)
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

    async def stop(self) -> int:
        """Ask it to end; return its exit status."""
        process = self.process
        assert process is not None
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_S):
            status = await process.wait()
        self.process = None
        return status


@asynccontextmanager
async def kept(role: Kept) -> AsyncIterator[Kept]:
    """Keep a role for the length of the block."""
    await role.start()
    try:
        yield role
    finally:
        await role.kill()


def new_mark() -> str:
    """Return a mark for a run."""
    return uuid.uuid4().hex


def marked(mark: str) -> Iterator[tuple[psutil.Process, Part]]:
    """Yield the processes of a run, and what each is. Zombies hold nothing and are left out."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                part = _part(process.cmdline())
                if part is not None:
                    yield process, part


def _part(command: list[str]) -> Part | None:
    if "__engine" in command:
        return "engine"
    if "__worker" in command:
        return "worker"
    return next((part for part in ("orchestrator", "pool", "worker") if part in command), None)
