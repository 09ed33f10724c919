"""Whether processes have ended, and their end; one that ends while it is looked at has."""

from __future__ import annotations

from pathlib import Path

import psutil


def ended(process: psutil.Process) -> bool:
    """Tell whether a process has ended; nobody need have waited for it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def pid_ended(pid: int) -> bool:
    """Tell the same of the process that has that id, which may be none."""
    try:
        return ended(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return True


def end_all_of(home: Path) -> None:
    """Kill what was started with that folder as its home."""
    for process in psutil.process_iter():
        try:
            if process.environ().get("HOME") == str(home):
                process.kill()
        except psutil.Error:
            continue
