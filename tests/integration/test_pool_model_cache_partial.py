"""A file that is not whole yet, on a real disk."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from llorch.errors import Conflict, DiskFull, HubUnreachable
from roles.pool.model_cache.partial import LOCK, Partial, TooLong, disk_error, disk_errors, empty, locked


def test_it_grows_at_its_end_over_several_openings(tmp_path: Path) -> None:
    told: list[int] = []
    for piece in (b"abc", b"def"):
        with Partial(tmp_path / "p", 6, told.append) as partial:
            partial.write(piece)
            partial.finish()

    assert (tmp_path / "p").read_bytes() == b"abcdef"
    assert told == [3, 6]


def test_one_that_is_longer_than_the_file_begins_again(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"too long")

    with Partial(tmp_path / "p", 3, lambda _: None) as partial:
        assert partial.tell() == 0


def test_what_has_no_end_is_not_taken_to_its_end(tmp_path: Path) -> None:
    with Partial(tmp_path / "p", 4, lambda _: None) as partial:
        partial.write(b"abcd")
        with pytest.raises(TooLong):
            partial.write(b"e")


def test_a_full_disk_is_told_as_that_and_not_as_the_hubs_fault() -> None:
    with Partial(Path("/dev/full"), 2**40, lambda _: None) as partial, pytest.raises(DiskFull):
        partial.write(b"x")


def test_there_is_one_writer(tmp_path: Path) -> None:
    with locked(tmp_path / "d"), pytest.raises(HubUnreachable), locked(tmp_path / "d"):
        raise AssertionError


def test_what_is_being_written_is_not_deleted_and_what_was_left_is(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    with locked(folder):
        (folder / "0").write_bytes(b"so far")
        empty(folder)
        kept = (folder / "0").read_bytes()
    empty(folder)
    empty(folder)

    assert kept == b"so far"
    assert not folder.exists()


def test_what_was_left_without_a_lock_is_deleted_too(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "0").write_bytes(b"so far")

    empty(tmp_path / "d")

    assert not (tmp_path / "d").exists()


def test_a_lock_that_was_deleted_meanwhile_is_no_lock(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    with locked(folder):
        (folder / LOCK).unlink()
        with locked(folder), pytest.raises(HubUnreachable), locked(folder):
            raise AssertionError


def test_other_errors_of_the_disk_are_told_too() -> None:
    with pytest.raises(Conflict, match="Read-only file system"), disk_errors():
        raise OSError(errno.EROFS, "Read-only file system")
    assert isinstance(disk_error(OSError(errno.EDQUOT, "quota")), DiskFull)
