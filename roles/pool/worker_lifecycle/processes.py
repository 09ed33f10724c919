"""Workers as processes of their own: start, take over, signal, wait, and read what they logged.

Strategy: each worker leads a session and a process group of its own, so that it does not die with the pool and can be
ended with everything it started. The group matters: a frozen one-file executable is two processes, and killing only
the first leaves the second holding the GPU. What it writes goes to a file, not a pipe: a pipe ends with the pool.
A pool that takes a worker over is not its parent, and so cannot know its exit status; its end it sees at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from llorch import program
from llorch.wire.engine_options import fields_of
from roles.pool.worker_lifecycle import identity, log_files
from roles.pool.worker_lifecycle.launcher import WorkerSpec
from roles.pool.worker_lifecycle.snapshots import folder

END_CHECKS = 100
END_CHECK_S = 0.02
POLL_S = 0.1
_URL = re.compile(r"^https?://\S+$", re.MULTILINE)
Command = Callable[[WorkerSpec], Sequence[str]]


def worker_command(
    spec: WorkerSpec, *, config: str = "", snapshots: Path | None = None, snapshot_bytes: int = 0
) -> list[str]:
    """Return the command line that runs a worker. Its token is not in it: every user can read command lines.

    Args:
        spec: The worker.
        config: The file with the settings.
        snapshots: The folder of what workers keep when they are stopped; None keeps nothing.
        snapshot_bytes: What they may keep together.
    """
    told: dict[str, object] = {
        "model": str(spec.path),
        "model_ref": spec.model_ref,
        "worker_id": spec.worker_id,
        "backend": spec.backend,
        "device": spec.device,
        "split": spec.split_text,
        "engine": spec.engine,
        "callback_url": spec.callback_url,
        "orphan_s": spec.orphan_s,
        **fields_of(spec.options),
    }
    if snapshots is not None and spec.engine == "llamacpp":
        with contextlib.suppress(OSError):  # a full disk costs what would be kept, not the worker
            told |= {"snapshots": str(folder(snapshots, spec.path)), "snapshot_bytes": snapshot_bytes}
    settings = {"slots": spec.slots, "ctx": spec.ctx, "host": spec.host, "port": spec.port}
    options = json.dumps({"told": told, "worker": settings, "config": config})
    return program.command(program.WORKER_COMMAND, spec.worker_id, options)


def worker_environment(token: str) -> Mapping[str, str]:
    """Return a worker's environment: with its own token, without the API token, which it has no use for."""
    env = program.environment({program.WORKER_TOKEN_VARIABLE: token}, outlives_parent=True)
    env.pop("LLORCH_API_TOKEN", None)
    return env


class ProcessLauncher:
    """Starts workers as processes, which go on when this one ends.

    Args:
        logs_dir: Where what they write is kept, one file a worker, readable by the owner alone.
        command: The command line for a worker.
    """

    outlived = True

    def __init__(self, logs_dir: Path, command: Command = worker_command) -> None:
        self._logs_dir = logs_dir
        self._command = command

    async def start(self, spec: WorkerSpec) -> ChildProcess:
        """Start one.

        Raises:
            OSError: It cannot be started.
        """
        return await asyncio.to_thread(self._start, spec)

    def _start(self, spec: WorkerSpec) -> ChildProcess:
        log = log_file(self._logs_dir, spec.worker_id)
        output = log_files.open_log(log)
        try:
            process = subprocess.Popen(
                self._command(spec),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=worker_environment(spec.token),
                start_new_session=True,
            )
        finally:
            os.close(output)
        return ChildProcess(process, log)


class AdoptedProcess:
    """A worker process that somebody else started, its group and its log file.

    Args:
        pid: The process, which leads the group.
        birth: Its `identity.birth`.
        log: Its log file.
        url: Where it answers, if that is known.
    """

    def __init__(self, pid: int, birth: str, log: Path, url: str = "") -> None:
        self.pid = pid
        self.birth = birth
        self._log = log
        self._url = url
        self._over = False

    async def wait(self) -> int | None:
        """Return its exit status, when nothing of its group or session is left; None where nobody can know it."""
        await _end(self.pid, self.birth)
        code = self._reap()
        self._over = True
        await asyncio.to_thread(end_session, self.pid)
        return code

    def terminate(self) -> None:
        """Send SIGTERM to the group."""
        if not self._over:
            program.signal_group(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the group."""
        if not self._over:
            program.signal_group(self.pid, signal.SIGKILL)

    def leave(self) -> None:
        """Let it run on; from now on it gets no signal from here."""
        self._over = True

    async def url(self) -> str | None:
        """Return the URL that it printed once it was bound."""
        if not self._url:
            found = _URL.search(await asyncio.to_thread(log_files.head, self._log))
            self._url = found[0] if found else ""
        return self._url or None

    async def lines(self, limit: int) -> list[str]:
        """Return the end of its log."""
        return await asyncio.to_thread(log_files.tail, self._log, limit)

    async def tidy(self) -> None:
        """Keep its log small. Where it answers stands at the beginning, so that has to be known first."""
        if self._url:
            await asyncio.to_thread(log_files.rotate, self._log)

    def _reap(self) -> int | None:
        return None


class ChildProcess(AdoptedProcess):
    """A worker process that this one started, and whose exit status it therefore gets."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        super().__init__(process.pid, identity.birth(process.pid), log)
        self._process = process

    def leave(self) -> None:
        """Let it run on; nobody here waits for it any more."""
        super().leave()
        self._process.returncode = 0  # what Popen takes for: is not mine any more

    def _reap(self) -> int:
        return self._process.wait()


def log_file(logs_dir: Path, worker_id: str) -> Path:
    """Return where a worker's log is."""
    return logs_dir / f"{worker_id}.log"


def end_session(leader: int, *, token: str = "") -> None:
    """Kill every process of the session that *leader* led, and return when they are gone, at the latest after 2 s.

    Args:
        leader: It has ended itself.
        token: Kill only those that have this worker's token; empty for all.
    """
    if not token:
        program.signal_group(leader, signal.SIGKILL)
    for _ in range(END_CHECKS):
        try:
            left = identity.members(leader, token=token)
        except OSError:  # too many open files: they are looked for again
            time.sleep(END_CHECK_S)
            continue
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(END_CHECK_S)


async def _end(pid: int, birth: str) -> None:
    """Return when a process has ended: at once where the system tells, else a moment later."""
    try:
        descriptor = os.pidfd_open(pid) if sys.platform == "linux" else None
    except OSError:
        descriptor = None
    if descriptor is None:
        await _polled_end(pid, birth)
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    try:
        if await asyncio.to_thread(identity.birth, pid) == birth:  # else the descriptor is another process's
            loop.add_reader(descriptor, ended.set)
            await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _polled_end(pid: int, birth: str) -> None:
    while True:
        if not birth or await asyncio.to_thread(identity.birth, pid) != birth:
            return
        await asyncio.sleep(POLL_S)
