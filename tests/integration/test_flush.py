"""Files are flushed as the system does it best, and by fsync where it does not know how."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from llorch.flush import FULL, flush

UNKNOWN = 0x7FFF
"""A command of fcntl(2) that no system has."""


@pytest.mark.parametrize("full", [FULL, fcntl.F_GETFD, UNKNOWN])
def test_a_file_and_its_folder_are_flushed(full: int | None, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")

    for path in (tmp_path / "file", tmp_path):
        number = os.open(path, os.O_RDONLY)
        flush(number, full)
        os.close(number)

    assert (tmp_path / "file").read_bytes() == b"kept"


@pytest.mark.parametrize("full", [FULL, UNKNOWN])
def test_what_cannot_be_flushed_is_told(full: int | None) -> None:
    read, write = os.pipe()

    with pytest.raises(OSError, match="Invalid argument"):
        flush(write, full)

    os.close(read)
    os.close(write)
