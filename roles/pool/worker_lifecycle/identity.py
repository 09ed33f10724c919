"""Which process is which: a process id alone says little, because the system gives it to another one later.

Reads what the system tells of processes; changes nothing. Every call blocks.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from llorch.program import WORKER_TOKEN_VARIABLE

CHANGING_CHECKS = 100
CHANGING_CHECK_S = 0.02
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_STATE, _START = 0, 19
"""Where in /proc/PID/stat, behind the name, state and start time are: proc_pid_stat(5), fields 3 and 22."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A process that runs now.

    `birth` is its `birth`. `named` tells whether its command line has the worker's id, `trusted` whether its
    environment has the worker's token; None where that cannot be read.
    """

    pid: int
    birth: str
    named: bool | None
    trusted: bool | None


def birth(pid: int) -> str:
    """Return a mark of when a process began, the same for as long as it runs; empty when it has ended.

    Equal marks of the same process id mean the same process, also after a restart of the system or of its clock.
    """
    try:
        if sys.platform != "linux":
            process = psutil.Process(pid)
            return "" if process.status() == psutil.STATUS_ZOMBIE else f"{began_s(process):.3f}"
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return "" if fields[_STATE] in "ZX" else f"{_BOOT_ID.read_text('ascii').strip()}:{fields[_START]}"
    except (OSError, IndexError, psutil.Error):
        return ""


def began_s(process: psutil.Process) -> float:
    """Return when a process began, as the kernel noted it then: what `create_time()` tells moves with the clock.

    On a Mac each step of the clock, such as the first one after a long sleep, would make all workers others.
    """
    moment: float = process._proc.create_time(monotonic=True)  # type: ignore[attr-defined]  # noqa: SLF001 - not public
    return moment


def look(pid: int, *, worker_id: str, token: str) -> Seen | None:
    """Return what a process is; None when there is none with that id."""
    began = birth(pid)
    if not began:
        return None
    named = trusted = None
    try:
        words, environment = _told(pid)
        named = worker_id in words
        trusted = environment.get(WORKER_TOKEN_VARIABLE) == token
    except (OSError, psutil.Error):
        pass  # another user's
    return Seen(pid, began, named, trusted) if birth(pid) == began else None


def _told(pid: int) -> tuple[list[str], dict[str, str]]:
    """Return a process's command line and environment.

    Either reads as empty for a moment when the process begins, becomes another program or ends, or says that there is
    none while it is still ending; that is waited for.

    Raises:
        OSError, psutil.Error: They may not be read, or the process has ended.
    """
    for _ in range(CHANGING_CHECKS):
        words, environment = [], {}
        try:
            process = psutil.Process(pid)
            words, environment = process.cmdline(), process.environ()
        except (psutil.NoSuchProcess, ProcessLookupError):
            if not birth(pid):
                raise
        if words and environment:
            break
        time.sleep(CHANGING_CHECK_S)
    return words, environment


def find(worker_id: str, *, token: str) -> Seen | None:
    """Return the process of a worker whose process id is not known: the one that leads its session."""
    for process in psutil.process_iter(["cmdline"]):
        if worker_id in (process.info["cmdline"] or ()) and session(process.pid) == process.pid:
            seen = look(process.pid, worker_id=worker_id, token=token)
            if seen is not None and seen.trusted:
                return seen
    return None


def members(leader: int, *, token: str = "") -> list[int]:
    """Return the processes that are left of the session that *leader* led.

    Args:
        leader: Not one of them.
        token: Only those whose environment has this worker's token; empty for all.
    """
    left = [pid for pid in psutil.pids() if pid != leader and session(pid) == leader and birth(pid)]
    return [pid for pid in left if not token or _holds(pid, token)]


def session(pid: int) -> int:
    """Return the session of a process; 0 when it cannot be told."""
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return 0


def _holds(pid: int, token: str) -> bool:
    try:
        return _told(pid)[1].get(WORKER_TOKEN_VARIABLE) == token
    except (OSError, psutil.Error):
        return False
