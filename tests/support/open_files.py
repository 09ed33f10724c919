"""A process that has no open files left, for the length of a block: a real EMFILE, wherever it hits."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

SPARE = 16


@contextlib.contextmanager
def none_left() -> Iterator[None]:
    """Take all files that this process may open, under a limit just above what it has open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + SPARE, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)
