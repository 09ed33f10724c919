"""Workers as processes of their own: start, signal, wait, and read what they logged.

Strategy: each worker leads a session and a process group of its own, so that it does not die with the pool and can be
ended with everything it started. The group matters: a frozen one-file executable is two processes, and killing only
the first leaves the second holding the GPU. What it writes goes to a file, not a pipe: a pipe ends with the pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from llorch import program
from roles.pool.worker_lifecycle.launcher import WorkerSpec

MAX_LOGS = 50
MAX_TAIL_BYTES = 256 * 1024
MAX_HEAD_BYTES = 64 * 1024
MAX_LINE_CHARACTERS = 2000
END_CHECKS = 100
END_CHECK_S = 0.02
_URL = re.compile(r"^https?://\S+$", re.MULTILINE)
Command = Callable[[WorkerSpec], Sequence[str]]


def worker_command(spec: WorkerSpec, *, config: str = "") -> list[str]:
    """Return the command line that runs a worker. Its token is not in it: every user can read command lines."""
    arguments = {
        "--model": str(spec.path),
        "--model-ref": spec.model_ref,
        "--worker-id": spec.worker_id,
        "--backend": spec.backend,
        "--device": spec.device,
        "--engine": spec.engine,
        "--slots": str(spec.slots),
        "--ctx": str(spec.ctx),
        "--host": spec.host,
        "--port": str(spec.port),
        "--callback-url": spec.callback_url,
    }
    if config:
        arguments["--config"] = config
    flat = [part for pair in arguments.items() for part in pair]
    return program.command("serve", "worker", *flat)


def worker_environment(token: str) -> Mapping[str, str]:
    """Return a worker's environment: with its own token, without the API token, which it has no use for."""
    env = program.environment({program.WORKER_TOKEN_VARIABLE: token}, outlives_parent=True)
    env.pop("LLORCH_API_TOKEN", None)
    return env


class ProcessLauncher:
    """Starts workers as processes.

    Args:
        logs_dir: Where what they write is kept, one file a worker, readable by the owner alone.
        command: The command line for a worker.
    """

    def __init__(self, logs_dir: Path, command: Command = worker_command) -> None:
        self._logs_dir = logs_dir
        self._command = command

    async def start(self, spec: WorkerSpec) -> ChildProcess:
        """Start one.

        Raises:
            OSError: It cannot be started.
        """
        log = self._logs_dir / f"{spec.worker_id}.log"
        output = await asyncio.to_thread(_open_log, log)
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command(spec),
                stdin=DEVNULL,
                stdout=output,
                stderr=output,
                env=worker_environment(spec.token),
                start_new_session=True,
            )
        finally:
            os.close(output)
        return ChildProcess(process, log)


class ChildProcess:
    """A worker process, its group and its log file."""

    def __init__(self, process: Process, log: Path) -> None:
        self._process = process
        self._log = log
        self._url: str | None = None

    @property
    def pid(self) -> int:
        """The process, which leads the group."""
        return self._process.pid

    async def wait(self) -> int:
        """Return its exit status, when nothing of its group or session is left."""
        code = await self._process.wait()
        _signal_group(self.pid, signal.SIGKILL)
        await asyncio.to_thread(end_session, self.pid)
        return code

    def terminate(self) -> None:
        """Send SIGTERM to the group."""
        if self._process.returncode is None:
            _signal_group(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the group."""
        if self._process.returncode is None:
            _signal_group(self.pid, signal.SIGKILL)

    async def url(self) -> str | None:
        """Return the URL that it printed once it was bound."""
        if self._url is None:
            found = _URL.search(await asyncio.to_thread(_head, self._log))
            self._url = found[0] if found else None
        return self._url

    async def lines(self, limit: int) -> list[str]:
        """Return the end of its log."""
        return await asyncio.to_thread(tail, self._log, limit)


def tail(file: Path, limit: int) -> list[str]:
    """Return the last *limit* lines of a log file, of which at most `MAX_TAIL_BYTES` are read."""
    try:
        with file.open("rb") as log:
            start = max(0, log.seek(0, os.SEEK_END) - MAX_TAIL_BYTES)
            log.seek(start)
            data = log.read(MAX_TAIL_BYTES)
    except OSError:
        return []
    lines = data.decode("utf-8", "replace").splitlines()
    if start:
        lines = lines[1:]
    return [line[:MAX_LINE_CHARACTERS] for line in lines[-limit:]]


def end_session(leader: int) -> None:
    """Kill every process of the session that *leader* led, and return when they are gone, at the latest after 2 s."""
    for _ in range(END_CHECKS):
        left = [pid for pid in psutil.pids() if pid != leader and _alive_in(pid, leader)]
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(END_CHECK_S)


def _alive_in(pid: int, leader: int) -> bool:
    try:
        return os.getsid(pid) == leader and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, PermissionError, psutil.Error):
        return False


def _signal_group(group: int, number: signal.Signals) -> None:
    # macOS says EPERM, not ESRCH, of a group that has only zombies left.
    with contextlib.suppress(ProcessLookupError, *([PermissionError] if sys.platform == "darwin" else [])):
        os.killpg(group, number)


def _head(file: Path) -> str:
    try:
        with file.open("rb") as log:
            data = log.read(MAX_HEAD_BYTES)
    except OSError:
        return ""
    whole, _, _ = data.rpartition(b"\n")
    return whole.decode("utf-8", "replace")


def _open_log(file: Path) -> int:
    """Open a new log, and remove the oldest ones."""
    old = sorted(file.parent.glob("*.log"), key=_modified, reverse=True)[MAX_LOGS:]
    for path in old:
        path.unlink(missing_ok=True)
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
