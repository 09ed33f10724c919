"""Files of batches on a real disk: read in stretches, kept whole or not at all, for their owner's eyes alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from llorch.errors import DiskFull
from roles.orchestrator.batches.folder import STRETCH_LINES, Folder, write


def kept(folder: Folder, file_id: str, data: bytes) -> int:
    file = folder.create(file_id)
    write(file, data)
    return folder.keep(file_id, file)


def opened(path: Path) -> Folder:
    folder = Folder(path / "files")
    folder.open()
    folder.open()
    return folder


def test_a_file_is_there_once_it_is_kept_and_only_for_its_owner(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    size = kept(folder, "file-1", b"abc")
    unkept = folder.create("file-2")
    before = {path.name for path in folder.path.iterdir()}
    folder.drop("file-2", unkept)

    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder.path, folder.file("file-1"))]
    assert (size, folder.file("file-1").read_bytes(), modes) == (3, b"abc", [0o700, 0o600])
    assert before == {"file-1", "file-2.part"}
    assert {path.name for path in folder.path.iterdir()} == {"file-1"}


def test_what_a_crash_left_is_deleted(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    for name in ("file-1", "file-2"):
        kept(folder, name, b"x")
    folder.create("file-3").close()

    folder.tidy({"file-1", "file-9"})
    folder.remove("file-9")

    assert [path.name for path in folder.path.iterdir()] == ["file-1"]


def test_a_large_file_is_read_in_stretches_that_are_all_of_it(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    lines = [b"%d" % number for number in range(STRETCH_LINES + 5)]
    kept(folder, "f", b"\r\n".join(lines))

    first = folder.stretch("f", start=0, number=1, longest=100)
    rest = folder.stretch("f", start=first[-1].end, number=first[-1].number + 1, longest=100)
    none = folder.stretch("f", start=rest[-1].end, number=0, longest=100)

    assert (len(first), len(rest), none) == (STRETCH_LINES, 5, [])
    assert [line.text for line in [*first, *rest]] == lines
    assert [line.number for line in [*first, *rest]] == list(range(1, len(lines) + 1))
    assert folder.lines("f", [first[3].start, rest[-1].start], longest=100) == [lines[3], lines[-1]]


def test_of_a_line_without_an_end_no_more_is_read_than_is_allowed(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    kept(folder, "f", b"ok\n" + b"x" * 10_000)

    found = folder.stretch("f", start=0, number=1, longest=100)

    assert [(line.number, len(line.text)) for line in found] == [(1, 2), (2, 102)]


def test_a_full_disk_is_said_to_be_full() -> None:
    with Path("/dev/full").open("wb", buffering=0) as file, pytest.raises(DiskFull):
        write(file, b"x")  # unbuffered, so that the write itself fails
