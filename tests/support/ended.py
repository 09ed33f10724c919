"""Whether processes have ended; one that ends while it is looked at has."""

from __future__ import annotations

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
