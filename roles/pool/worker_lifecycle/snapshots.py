"""Where workers keep what they have computed while another model has their memory, and when that goes.

The files are the workers': they write, read and count them. The pool gives each model a folder, and removes what nobody
will come back for, also of workers that were killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
import time
from pathlib import Path

KEEP_S = 86_400.0
LOOK_S = 60.0
SAVE_S = 15.0
"""What a worker may take to write it, at its end."""
HALF_DONE_S = 120.0
WHOLE = ".kv"
OWNER = "model"


def folder(root: Path, model: Path) -> Path:
    """Make the folder for the workers of a model file, for the owner alone, and return it. Blocks.

    Raises:
        OSError: It cannot be made.
    """
    path = root / hashlib.sha256(str(model).encode()).hexdigest()[:16]
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    (path / OWNER).write_text(str(model))
    return path


def sweep(root: Path, *, now_s: float) -> None:
    """Remove what is older than a day, what was left half done, and everything of models whose file is gone. Blocks."""
    for path in root.glob("*"):
        with contextlib.suppress(OSError):
            if not Path((path / OWNER).read_text()).exists():
                shutil.rmtree(path)
                continue
            for file in path.glob("*.*"):
                keep_s = KEEP_S if file.suffix == WHOLE else HALF_DONE_S
                if now_s - file.stat().st_mtime > keep_s:
                    file.unlink()


async def keep_swept(root: Path, *, wanted: bool) -> None:
    """Sweep for ever; where none are wanted, remove all there are."""
    if not wanted:
        await asyncio.to_thread(shutil.rmtree, root, ignore_errors=True)
        return
    while True:
        with contextlib.suppress(OSError):  # too many open files: the next time will do
            await asyncio.to_thread(sweep, root, now_s=time.time())
        await asyncio.sleep(LOOK_S)
