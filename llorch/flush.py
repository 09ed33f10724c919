"""Has the disk itself keep what was written, so that a power cut does not lose it. Every call blocks."""

from __future__ import annotations

import contextlib
import fcntl
import os

FULL: int | None = getattr(fcntl, "F_FULLFSYNC", None)
"""macOS alone has it; what its fsync(2) has written may still be in the disk's own memory."""


def flush(number: int, full: int | None = FULL) -> None:
    """Flush the file or folder that is open as descriptor *number*; *full* is the system's command for that.

    Raises:
        OSError: It could not be written.
    """
    if full is not None:
        with contextlib.suppress(OSError):  # a file system, such as a network's, that does not know it
            fcntl.fcntl(number, full)
            return
    os.fsync(number)
