"""Temporary folders whose processes were killed are removed, once no process holds them any more.

Two kinds, and each is marked and locked by who uses it, see `program.hold`: a lock ends with its process, however that
ends, and others that tidy up, systemd-tmpfiles(8) among them, leave a locked folder alone.

The one-file executable unpacks itself into one: its first process makes it in the folder for temporary files, named
`_MEI`, its own id as eight hexadecimal digits and six characters more, and removes it after its second process
(https://pyinstaller.org/en/stable/operating-mode.html#how-the-one-file-program-works). After `kill -9`, or where memory
ran out, it stays, at 57 MB each. The others are those of `private_folder`.

macOS itself empties a user's folder for temporary files, each night or when a Mac wakes, of what has not been read for
three days, whether its folder is locked or not (dirhelper(8)). A role would lose what it has not imported yet, so its
files are dated ahead.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from llorch import log
from llorch.program import HELD, hold, one_file

YOUNG_S = 600.0
"""A younger one may still be on its way: nobody holds it before it is whole."""
EVERY_S = 3600.0
AHEAD_S = 10 * 365 * 86_400.0
SHORT = Path("/tmp")  # noqa: S108 - only folders of random names and mode 0700 are made there
"""Where a folder is made whose path must be short."""
_PREFIX = "llorch-"
_NAME = re.compile(rf"_MEI(?P<process>[0-9a-f]{{8}}).{{6}}|{_PREFIX}[a-z0-9_]{{8}}")
_log = log.get("leftovers")


@contextlib.contextmanager
def private_folder(*, longest: int) -> Iterator[Path]:
    """Make a folder of mode 0700 for the length of the block, of a path of at most *longest* characters."""
    inside = Path(tempfile.gettempdir())
    if len(f"{inside}/{_PREFIX}12345678") > longest:
        inside = SHORT
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=inside))
    with contextlib.ExitStack() as last:
        last.callback(shutil.rmtree, folder, ignore_errors=True)
        last.callback(os.close, hold(folder))
        yield folder


def left_behind(temporary: Path, *, now_s: float) -> list[Path]:
    """Return the folders below *temporary* that are llorch's, old, this user's, and used by no process."""
    return [folder for folder in temporary.glob("*") if _is_left(folder, now_s)]


def date_ahead(folder: Path, *, now_s: float) -> None:
    """Have the files below *folder* look as if they had been read in years to come."""
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):  # then it is as safe as it was
            if file.is_file():
                os.utime(file, ns=(int((now_s + AHEAD_S) * 1e9), file.stat().st_mtime_ns))


@contextlib.asynccontextmanager
async def swept() -> AsyncIterator[None]:
    """Keep this process's own folder, and remove what others left behind now and then, for the length of the block."""
    if sys.platform == "darwin" and one_file():
        own = Path(sys._MEIPASS)  # type: ignore[attr-defined]  # noqa: SLF001 - PyInstaller's documented name
        await asyncio.to_thread(date_ahead, own, now_s=time.time())
    async with asyncio.TaskGroup() as tasks:
        sweeping = tasks.create_task(_sweep_always(), name="leftovers")
        try:
            yield
        finally:
            sweeping.cancel()


async def _sweep_always() -> None:
    while True:
        with contextlib.suppress(OSError):  # no role ends for want of tidiness
            await asyncio.to_thread(_sweep)
        await asyncio.sleep(EVERY_S)


def _sweep() -> None:
    for temporary in {Path(tempfile.gettempdir()), SHORT}:
        for folder in left_behind(temporary, now_s=time.time()):
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                _log.info("removed", folder=str(folder), because="the process that had made it was killed")


def _is_left(folder: Path, now_s: float) -> bool:
    named = _NAME.fullmatch(folder.name)
    if named is None:
        return False
    try:
        made = folder.lstat()
        if not stat.S_ISDIR(made.st_mode) or made.st_uid != os.geteuid() or now_s - made.st_mtime < YOUNG_S:
            return False
        if not (folder / HELD).is_file() or (named["process"] and _runs(int(named["process"], 16))):
            return False
        return not _held(folder)
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
