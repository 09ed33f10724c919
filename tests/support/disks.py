"""Small real file systems that can be filled or made to fail. They need root; tests skip with the reason otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

EXT4_ERRORS = Path("/sys/fs/ext4")


def _run(*command: str) -> None:
    """Run a command that changes mounts; skip the test where this machine does not allow it."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip(f"{command[0]} is not installed")
    if done.returncode:
        pytest.skip(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")


def _need_root() -> None:
    if sys.platform != "linux":
        pytest.skip("mounts file systems as Linux does")
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")


@contextmanager
def small(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a file system in memory of that size on *folder* for the length of the block."""
    _need_root()
    folder.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all the space that is left; return the file that holds it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return filler
    raise AssertionError("the disk does not get full")


def read_only(folder: Path, *, on: bool) -> None:
    """Make a file system that nobody writes to read-only, or writable again."""
    subprocess.run(["mount", "-o", f"remount,{'ro' if on else 'rw'}", str(folder)], check=True)


class FailingDisk:
    """An ext4 file system in a file: at an error, the kernel makes it read-only under those who use it."""

    def __init__(self, image: Path, folder: Path) -> None:
        _need_root()
        self._image = image
        self.folder = folder
        folder.mkdir()
        with image.open("wb") as file:
            file.truncate(32 * 2**20)
        _run("mkfs.ext4", "-q", "-O", "^has_journal", str(image))
        self.mount()

    def mount(self) -> None:
        """Mount it; the kernel stops writing to it at the first error."""
        _run("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.folder))

    def fail(self) -> None:
        """Let the kernel find an error."""
        [device] = [
            line.split()[0] for line in Path("/proc/mounts").read_text().splitlines() if str(self.folder) in line
        ]
        trigger = EXT4_ERRORS / Path(device).name / "trigger_fs_error"
        if not trigger.exists():
            pytest.skip("this kernel cannot be asked for a file system error")
        trigger.write_text("1")

    def repair(self) -> None:
        """Do what an operator does: unmount, check, mount again."""
        self.unmount()
        subprocess.run(["fsck.ext4", "-p", "-f", str(self._image)], check=False, capture_output=True)
        self.mount()

    def unmount(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", str(self.folder)], check=True)
