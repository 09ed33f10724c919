"""The database as a file: backups under load, damage that is found, and copies put back."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from llorch.job import Move
from roles.orchestrator.state import maintenance
from roles.orchestrator.state.database import MIGRATIONS
from roles.orchestrator.state.maintenance import Refused, Unusable, backup, check, checkpoint, is_open, restore
from tests.integration.test_store import COMPLETED, rows
from tests.support.storing import new_job, opened, place

SOUND = {"queued": 2_000}
OPENER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("SELECT count(*) FROM jobs").fetchone()
print("open", flush=True)
sys.stdin.read()
"""


async def filled(path: Path, count: int = 2_000) -> Path:
    """Make a database with jobs in it."""
    async with opened(path) as store:
        await asyncio.wait([store.enqueue(new_job(number)) for number in range(1, count + 1)])
    return path


def damage(path: Path) -> None:
    """Overwrite a page in the middle, as a failing disk does."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\xa5" * 4096)


async def test_a_sound_database_has_no_findings(tmp_path: Path) -> None:
    path = await filled(tmp_path / "o.db")

    health = check(path)

    assert health.findings == ()
    assert health.jobs == SOUND
    assert (health.version, health.known_version) == (len(MIGRATIONS), len(MIGRATIONS))
    assert health.mode == 0o600
    assert not health.in_use


async def test_damage_is_found_and_not_made_worse(tmp_path: Path) -> None:
    path = await filled(tmp_path / "o.db")
    damage(path)
    before = path.read_bytes()

    try:
        findings = check(path).findings
    except Unusable as error:
        findings = (error.message,)

    assert findings
    assert path.read_bytes() == before
    with pytest.raises(Unusable, match="damaged"):
        backup(path, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


@pytest.mark.parametrize("content", [b"", b"not a database at all, but long enough to be one" * 100])
def test_what_is_no_database_of_ours_is_told(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    path.write_bytes(content)

    with pytest.raises(Unusable):
        check(path)
    with pytest.raises(Unusable):
        restore(path, tmp_path / "new" / "o.db", now_ms=1)
    assert not (tmp_path / "new" / "o.db").exists()


def test_a_database_that_is_not_there_is_told_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="there is no"):
        check(tmp_path / "o.db")
    with pytest.raises(Unusable, match="there is no"):
        backup(tmp_path / "o.db", tmp_path / "copy.db")

    assert list(tmp_path.iterdir()) == []


async def test_it_is_known_whether_another_process_has_it_open(tmp_path: Path) -> None:
    path = await filled(tmp_path / "o.db", 1)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", OPENER, str(path)], stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        during = is_open(path), check(path).in_use, checkpoint(path)
        other.communicate()
    after = is_open(path), check(path).in_use, checkpoint(path)

    assert during == (True, True, False)
    assert after == (False, False, True)


async def test_a_log_that_was_left_behind_is_written_into_the_database(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    async with opened(path) as store:
        await store.enqueue(new_job(1))
        await store.writer.flush()
        left = {suffix: path.with_name(path.name + suffix).read_bytes() for suffix in ("", "-wal")}
    crashed = tmp_path / "crashed.db"
    for suffix, content in left.items():
        crashed.with_name(crashed.name + suffix).write_bytes(content)

    seen = check(crashed)
    done = checkpoint(crashed)

    assert seen.log_bytes > 0
    assert seen.jobs == {"queued": 1}
    assert done
    assert check(crashed).log_bytes == 0
    assert rows(crashed, "SELECT id FROM jobs") == [("job-1",)]


async def test_a_backup_under_load_is_one_moment_of_the_database(tmp_path: Path) -> None:
    """Were it not, a copy would begin again at every write, and never be done."""
    path = await filled(tmp_path / "o.db", 10_000)
    copy = tmp_path / "copy.db"

    async with opened(path) as store:
        written = 0
        copying = asyncio.get_running_loop().run_in_executor(None, backup, path, copy)
        while not copying.done():
            written += 1
            job = new_job(10_000 + written)
            await store.enqueue(job)
            await store.claim(job.id, place(1), now_ms=1)
            store.start(job.id, engine="e", tokens_in=1, event_serial=2, now_ms=2)
            await store.settle(job.id, Move.COMPLETE, COMPLETED)
        copied = await copying

    assert written > 0
    assert copied.jobs["queued"] in {10_000, 10_001}
    assert sum(copied.jobs.values()) <= 10_000 + written
    assert rows(copy, "SELECT count(*) FROM jobs WHERE state = 'completed' AND finished_ms IS NULL") == [(0,)]
    assert check(copy).findings == ()


async def test_a_backup_is_one_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = await filled(tmp_path / "o.db")
    (tmp_path / "backups").mkdir()
    told: list[int] = []

    copied = backup(path, tmp_path / "backups" / "copy.db", progress=lambda left, _total: told.append(left))

    [only] = (tmp_path / "backups").iterdir()
    assert (only, copied.jobs) == (copied.path, SOUND)
    assert stat.S_IMODE(only.stat().st_mode) == 0o600
    assert told[-1] == 0
    assert len(told) > 1


async def test_a_backup_overwrites_nothing(tmp_path: Path) -> None:
    path = await filled(tmp_path / "o.db")
    there = tmp_path / "there"
    there.write_text("precious")

    with pytest.raises(Refused, match="exists"):
        backup(path, there)
    with pytest.raises(Refused, match="cannot be written"):
        backup(path, tmp_path / "no" / "such" / "folder")

    assert there.read_text() == "precious"
    assert sorted(entry.name for entry in tmp_path.iterdir() if "partial" in entry.name) == []


async def test_a_restored_database_is_the_backup_and_the_old_one_is_set_aside_with_its_log(tmp_path: Path) -> None:
    path = await filled(tmp_path / "o.db")
    backup(path, tmp_path / "copy.db")
    home = tmp_path / "home" / "o.db"
    first = restore(tmp_path / "copy.db", home, now_ms=1)
    home.with_name("o.db-wal").write_bytes(b"the log of another database")

    second = restore(tmp_path / "copy.db", home, now_ms=2)

    assert (first.jobs, first.set_aside) == (SOUND, None)
    assert second.set_aside == home.with_name("o.db.replaced-2")
    assert sorted(entry.name for entry in home.parent.iterdir()) == [
        "o.db",
        "o.db.replaced-2",
        "o.db.replaced-2-wal",
        "o.lock",
    ]
    assert check(home).jobs == SOUND


async def test_a_restored_database_can_be_used_at_once(tmp_path: Path) -> None:
    backup(await filled(tmp_path / "o.db", 3), tmp_path / "copy.db")
    restore(tmp_path / "copy.db", tmp_path / "home" / "o.db", now_ms=1)

    async with opened(tmp_path / "home" / "o.db") as store:
        await store.checkpoint()
        await store.enqueue(new_job(4))

    assert check(tmp_path / "home" / "o.db").jobs == {"queued": 4}


async def test_a_backup_keeps_nobody_waiting_for_an_empty_log(tmp_path: Path) -> None:
    """While it copies, the log cannot be emptied; a writer that waited for that would wait for the whole copy."""
    path = await filled(tmp_path / "o.db", 3)
    async with opened(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM jobs").fetchone()
        await store.enqueue(new_job(4))
        await store.checkpoint()
        held = path.with_name("o.db-wal").stat().st_size
        other.close()
        await store.checkpoint()
        emptied = path.with_name("o.db-wal").stat().st_size

    assert held > 0
    assert emptied == 0


async def test_a_damaged_backup_replaces_nothing(tmp_path: Path) -> None:
    path = await filled(tmp_path / "o.db")
    backup(path, tmp_path / "copy.db")
    damage(tmp_path / "copy.db")

    with pytest.raises(Unusable, match="damaged"):
        restore(tmp_path / "copy.db", path, now_ms=1)

    assert check(path).jobs == SOUND


async def test_a_database_of_a_newer_llorch_is_no_backup_for_this_one(tmp_path: Path) -> None:
    path = await filled(tmp_path / "o.db", 1)
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()

    with pytest.raises(Unusable, match="version"):
        restore(path, tmp_path / "new.db", now_ms=1)


@pytest.mark.skipif(not Path("/dev/full").exists() or os.geteuid() != 0, reason="mounting a small disk needs root")
async def test_a_disk_that_fills_up_leaves_no_half_backup(tmp_path: Path) -> None:
    path = await filled(tmp_path / "o.db", 20_000)
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        with pytest.raises(Refused, match="full"):
            maintenance.backup(path, small / "copy.db")
        left = list(small.iterdir())
    finally:
        subprocess.run(["umount", str(small)], check=True)

    assert left == []
