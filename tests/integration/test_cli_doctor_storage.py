"""Doctor and a real database: sound, damaged, readable by others, newer, with a log left behind."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from llorch.cli.doctor.result import Examined, Result
from llorch.cli.doctor.storage import database
from llorch.settings import Settings
from roles.orchestrator.app import DATABASE
from roles.orchestrator.state.database import MIGRATIONS
from tests.integration.test_orchestrator_state_maintenance import damage, filled
from tests.support.storing import new_job, opened


def found(folder: Path) -> list[Result]:
    results = database(Examined(settings=Settings(), data_dir=str(folder)))
    return [results] if isinstance(results, Result) else list(results)


async def test_a_sound_database_is_told_with_its_jobs(tmp_path: Path) -> None:
    await filled(tmp_path / DATABASE, 3)

    [result] = found(tmp_path)

    assert result.state == "ok"
    assert result.found.startswith(f"sound, version {len(MIGRATIONS)}, ")
    assert result.found.endswith("not in use, 3 queued")


def test_no_database_is_no_failure_and_none_is_made(tmp_path: Path) -> None:
    [result] = found(tmp_path)

    assert result.state == "skipped"
    assert list(tmp_path.iterdir()) == []


async def test_a_damaged_database_names_the_command_that_puts_a_backup_back(tmp_path: Path) -> None:
    damage(await filled(tmp_path / DATABASE))

    [result] = found(tmp_path)

    assert result.state == "failed"
    assert "damaged" in result.found
    assert result.fix == f"llorch dev restore BACKUP --data-dir {tmp_path}"


async def test_a_database_that_others_can_read_is_a_failure(tmp_path: Path) -> None:
    path = await filled(tmp_path / DATABASE, 1)
    path.chmod(0o644)

    [result] = found(tmp_path)

    assert (result.state, result.fix) == ("failed", f"chmod 600 {path}")


async def test_a_database_of_a_newer_llorch_is_a_failure(tmp_path: Path) -> None:
    path = await filled(tmp_path / DATABASE, 1)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()

    [result] = found(tmp_path)

    assert result.state == "failed"
    assert "version 99" in result.found


async def test_a_log_that_a_crash_left_is_written_into_the_database(tmp_path: Path) -> None:
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    path = tmp_path / DATABASE
    async with opened(path) as store:
        await store.enqueue(new_job(1))
        for suffix in ("", "-wal"):
            crashed.joinpath(DATABASE + suffix).write_bytes(path.with_name(path.name + suffix).read_bytes())
    crashed.joinpath(DATABASE).chmod(0o600)

    first, second = found(crashed)

    assert (first.state, second.state) == ("ok", "ok")
    assert "left behind" in first.found
    assert second.found.endswith("1 queued")
    assert [result.state for result in found(crashed)] == ["ok"]
