"""The folders that the one-file executable unpacks itself into: those that a killed process left behind are removed.

The executable's first process makes one in the folder for temporary files, named `_MEI`, its own id as eight
hexadecimal digits and six characters more, and removes it after its second process
(https://pyinstaller.org/en/stable/operating-mode.html#how-the-one-file-program-works). After `kill -9`, or where memory
ran out, it stays, at 57 MB each. `program.hold` marks them, and those in use.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from llorch import log
from llorch.program import HELD, one_file

YOUNG_S = 600.0
"""A younger one may still be on its way: nobody holds it before it is whole."""
EVERY_S = 3600.0
_NAME = re.compile(r"_MEI([0-9a-f]{8}).{6}")
_log = log.get("unpacked")


def left_behind(temporary: Path, *, now_s: float) -> list[Path]:
    """Return the folders below *temporary* that are llorch's, old, this user's, and used by no process."""
    return [folder for folder in temporary.glob("_MEI*") if _is_left(folder, now_s)]


@contextlib.asynccontextmanager
async def swept() -> AsyncIterator[None]:
    """Remove what others left behind, now and then, for the length of the block, where this is the one file."""
    if not one_file():
        yield
        return
    async with asyncio.TaskGroup() as tasks:
        sweeping = tasks.create_task(_sweep_always(), name="unpacked")
        try:
            yield
        finally:
            sweeping.cancel()


async def _sweep_always() -> None:
    while True:
        with contextlib.suppress(OSError):  # no role ends for want of tidiness
            await asyncio.to_thread(_sweep, Path(tempfile.gettempdir()))
        await asyncio.sleep(EVERY_S)


def _sweep(temporary: Path) -> None:
    for folder in left_behind(temporary, now_s=time.time()):
        shutil.rmtree(folder, ignore_errors=True)
        _log.info("removed", folder=str(folder), because="a process that was killed had unpacked itself there")


def _is_left(folder: Path, now_s: float) -> bool:
    named = _NAME.fullmatch(folder.name)
    if named is None:
        return False
    try:
        made = folder.lstat()
        if made.st_uid != os.geteuid() or now_s - made.st_mtime < YOUNG_S or not (folder / HELD).is_file():
            return False
        return not _runs(int(named[1], 16)) and not _held(folder)
    except OSError:
        return False


def _runs(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _held(folder: Path) -> bool:
    number = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(number)
    return False
