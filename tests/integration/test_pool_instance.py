"""What tells a pool from others with its id: kept in its data directory, worth nothing elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

from roles.pool.instance import instance, mark


def test_a_pool_has_the_same_mark_after_a_restart_and_another_directory_another_one(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()

    assert instance(one) == instance(one)
    assert instance(one) != instance(other)
    assert (one / "instance").stat().st_mode & 0o777 == 0o600
    assert instance(one).encode() not in (one / "instance").read_bytes()


def test_a_secret_that_is_cut_off_is_made_anew(tmp_path: Path) -> None:
    before = instance(tmp_path)
    (tmp_path / "instance").write_bytes(b"short")

    after = instance(tmp_path)

    assert before != after == instance(tmp_path)


def test_a_copy_on_another_machine_has_another_mark(tmp_path: Path) -> None:
    instance(tmp_path)
    shutil.copytree(tmp_path, tmp_path / "copy")
    secret = (tmp_path / "copy" / "instance").read_bytes()

    assert instance(tmp_path / "copy") == instance(tmp_path)  # of the same machine: one of the two does not start
    assert len({mark(secret, host=host, node=node) for host in ("a", "b") for node in (1, 2)}) == 4
