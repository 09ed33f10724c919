"""The files that workers write their logs to: opened, read from both ends, kept small. Every call blocks.

A worker writes to its file itself, also while no pool runs. So the file is not replaced when it has grown: what is in
it moves to a second file and the worker, which appends, goes on at the start of the first.

A log is locked by having it open: the worker inherits the lock, and the system lets it go when the last process that
can write there ends, however it ends and whichever pool started it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from pathlib import Path

MAX_LOGS = 50
MAX_LOG_BYTES = 10 * 1024 * 1024
MAX_TAIL_BYTES = 256 * 1024
MAX_HEAD_BYTES = 64 * 1024
MAX_LINE_CHARACTERS = 2000
OLDER = ".1"
"""What follows the name of a log's older part."""


def open_log(file: Path) -> int:
    """Open a new log for the owner alone, and remove the oldest ones that no worker writes to any more."""
    old = sorted(file.parent.glob("*.log"), key=_modified, reverse=True)[MAX_LOGS:]
    for path in old:
        if not _written_to(path):
            path.unlink(missing_ok=True)
            older(path).unlink(missing_ok=True)
    descriptor = _create(file, os.O_APPEND)
    with contextlib.suppress(OSError):  # a file system without locks costs an old log, not the worker
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return descriptor


def older(file: Path) -> Path:
    """Return where the older part of a log is."""
    return file.with_name(file.name + OLDER)


def rotate(file: Path, *, max_bytes: int = MAX_LOG_BYTES) -> bool:
    """Move what is in a log to its older part, if it is longer than *max_bytes*; tell whether it was.

    A line that is written between the copy and the cut is lost; nothing else is.
    """
    try:
        if file.stat().st_size <= max_bytes:
            return False
        with file.open("rb") as source, os.fdopen(_create(older(file)), "wb") as target:
            shutil.copyfileobj(source, target)
        os.truncate(file, 0)
    except OSError:
        return False
    return True


def tail(file: Path, limit: int) -> list[str]:
    """Return the last *limit* lines of a log, of which at most `MAX_TAIL_BYTES` are read."""
    lines = _last(file, limit)
    if len(lines) < limit:
        lines = [*_last(older(file), limit - len(lines)), *lines]
    return lines


def head(file: Path) -> str:
    """Return the first lines of a log, as far as they are whole; at most `MAX_HEAD_BYTES`."""
    try:
        with file.open("rb") as log:
            data = log.read(MAX_HEAD_BYTES)
    except OSError:
        return ""
    whole, _, _ = data.rpartition(b"\n")
    return whole.decode("utf-8", "replace")


def _create(file: Path, how: int = os.O_TRUNC) -> int:
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o600)


def _written_to(file: Path) -> bool:
    """Tell whether a process has a log open that `open_log` has opened."""
    try:
        with file.open("rb") as log:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _last(file: Path, limit: int) -> list[str]:
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


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
