"""Whose folder is whose, and what the pool removes."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

from roles.pool.worker_lifecycle.snapshots import HALF_DONE_S, KEEP_S, folder, keep_swept, sweep

NOW_S = 2_000_000_000.0


def kept(path: Path, name: str, *, age_s: float) -> Path:
    file = path / name
    file.write_bytes(b"cache")
    os.utime(file, (NOW_S - age_s, NOW_S - age_s))
    return file


def test_each_model_has_a_folder_that_is_its_owners_alone(tmp_path: Path) -> None:
    first, second = (folder(tmp_path / "root", tmp_path / name) for name in ("a.gguf", "b.gguf"))

    assert first != second
    assert first == folder(tmp_path / "root", tmp_path / "a.gguf")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (first, second)] == [0o700] * 2


def test_old_files_and_those_of_models_that_are_gone_are_removed(tmp_path: Path) -> None:
    model = tmp_path / "a.gguf"
    model.touch()
    here, gone = folder(tmp_path / "root", model), folder(tmp_path / "root", tmp_path / "gone.gguf")
    young, old = kept(here, "1.kv", age_s=60), kept(here, "2.kv", age_s=KEEP_S + 60)
    halves = [kept(here, name, age_s=HALF_DONE_S + 1) for name in ("4.part", "5.taken")]
    at_work = kept(here, "6.part", age_s=1)
    kept(gone, "3.kv", age_s=60)

    sweep(tmp_path / "root", now_s=NOW_S)

    assert young.exists()
    assert at_work.exists()
    assert not any(half.exists() for half in halves)
    assert not old.exists()
    assert here.exists()
    assert not gone.exists()


async def test_where_none_are_wanted_none_are_left(tmp_path: Path) -> None:
    path = folder(tmp_path / "root", tmp_path / "a.gguf")
    async with asyncio.timeout(10):
        await keep_swept(tmp_path / "root", wanted=False)

    assert not path.exists()
