"""Opening the database: its lock, its version, and what it refuses to touch."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from llorch.errors import InvalidConfiguration
from roles.orchestrator.state.database import MIGRATIONS
from roles.orchestrator.state.store import Store
from tests.support.storing import new_job, opened, place


def rows(path: Path, statement: str) -> list[tuple[Any, ...]]:
    """Ask a second connection, which sees only what is committed."""
    db = sqlite3.connect(path)
    try:
        return db.execute(statement).fetchall()
    finally:
        db.close()


async def test_only_the_owner_can_read_the_database_and_its_side_files(tmp_path: Path) -> None:
    path = tmp_path / "new" / "o.db"
    async with opened(path) as store:
        await store.enqueue(new_job(1))

        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}

    assert modes == {"o.db": 0o600, "o.db-wal": 0o600, "o.db-shm": 0o600, "o.lock": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    path.touch(mode=0o644)

    async with opened(path):
        mode = stat.S_IMODE(path.stat().st_mode)

    assert mode == 0o600


async def test_a_second_orchestrator_on_the_same_data_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    async with opened(tmp_path / "o.db"):
        with pytest.raises(InvalidConfiguration) as refused:
            async with Store(tmp_path / "o.db"):
                pass
    async with opened(tmp_path / "o.db"):
        pass

    assert f"process {os.getpid()}" in refused.value.message
    assert "--data-dir" in refused.value.message


async def test_a_database_of_the_first_version_is_brought_up_with_its_jobs(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    db = sqlite3.connect(path)
    db.executescript(resources.files("roles.orchestrator.state").joinpath(MIGRATIONS[0]).read_text("utf-8"))
    db.execute("PRAGMA user_version = 1")
    old = new_job(1)
    names = [field.name for field in fields(old) if field.name != "kind"]  # of a later version
    marks = ", ".join("?" * len(names))
    db.execute(
        f"INSERT INTO jobs (state, {', '.join(names)}) VALUES ('queued', {marks})",
        [str(getattr(old, name)) if name == "seed" else getattr(old, name) for name in names],
    )
    db.commit()
    db.close()

    async with opened(path) as store:
        request = await store.claim(old.id, place(1), now_ms=10)
        found = await store.whereabouts(1)

    assert (request, found) == (old.request, place(1))


async def test_migrations_run_once(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    async with opened(path) as store:
        await store.enqueue(new_job(1))

    async with opened(path) as store:
        [(version,)] = rows(path, "PRAGMA user_version")
        found = await store.get("job-1")

    assert version == len(MIGRATIONS)
    assert found is not None


def garbage(path: Path) -> None:
    path.write_bytes(b"this is not a database at all\n" * 500)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5_000])


def overwritten(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:100] + b"\xff" * (len(data) - 100))


def too_new(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()


def of_another_program(path: Path) -> None:
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE jobs (mine TEXT)")
    db.close()


@pytest.mark.parametrize("spoil", [garbage, cut_off, overwritten, too_new, of_another_program])
async def test_a_file_it_cannot_use_is_refused_in_one_line_and_left_as_it_is(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    path = tmp_path / "o.db"
    async with opened(path) as store:
        await store.enqueue(new_job(1))
    spoil(path)
    before = path.read_bytes()

    with pytest.raises(InvalidConfiguration) as refused:
        async with Store(path):
            pass

    assert "\n" not in refused.value.message
    assert str(path) in refused.value.message
    assert path.read_bytes() == before


async def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(InvalidConfiguration, match=r"cannot be written.*--data-dir"):
        async with Store(tmp_path / "file" / "o.db"):
            pass
