"""Records on a real disk: whole or not there, and one bad one spoils nothing, nor do two writers."""

from __future__ import annotations

import asyncio
import itertools
import stat
from pathlib import Path

import pytest

from llorch.errors import DiskFull
from llorch.models import HAIKU_REF, model_id
from roles.pool.model_cache.catalogue import Catalogue
from roles.pool.model_cache.ledger import Ledger, ModelRecord
from roles.pool.model_cache.library import Library


def test_a_record_is_read_back_by_another_ledger(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "records"
    record = ModelRecord(model_ref="file:/m", pinned=True)
    Ledger(folder, ModelRecord).write("a", ModelRecord(model_ref="file:/m"))
    Ledger(folder, ModelRecord).write("a", record)

    assert Ledger(folder, ModelRecord).read() == {"a": record}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_removed_record_is_gone_and_removing_it_again_is_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, ModelRecord)
    ledger.write("a", ModelRecord(model_ref="file:/m"))
    ledger.remove("a")
    ledger.remove("a")

    assert ledger.read() == {}


def test_a_broken_record_spoils_no_other_and_stays_to_be_looked_at(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, ModelRecord)
    ledger.write("good", ModelRecord(model_ref="file:/m"))
    (tmp_path / "bad.json").write_text('{"model_ref": 1')
    (tmp_path / "half.new").write_text("{")

    assert list(ledger.read()) == ["good"]
    assert (tmp_path / "bad.json").exists()


async def test_writers_of_one_record_do_not_disturb_each_other(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, ModelRecord)
    records = [ModelRecord(model_ref="file:/m", added_ms=number) for number in range(200)]

    async with asyncio.TaskGroup() as writers:
        for record in records:
            writers.create_task(asyncio.to_thread(ledger.write, "a", record))

    assert ledger.read()["a"] in records
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(DiskFull):
        Ledger(tmp_path / "file" / "x", ModelRecord).write("a", ModelRecord(model_ref="file:/m"))


def test_no_records_is_no_error(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "none", ModelRecord).read() == {}


async def test_what_is_known_last_is_what_stays_on_the_disk(tmp_path: Path) -> None:
    now, written = itertools.count(1), list[tuple[int, int]]()
    ledger = Ledger(tmp_path / "known", ModelRecord)
    library = Library(
        Catalogue(tmp_path),
        ledger,
        in_use=set,
        budget_bytes=0,
        changed=lambda: None,
        clock_ms=lambda: next(now),
    )

    for last in range(20, 320, 20):
        async with asyncio.TaskGroup() as users:
            for _ in range(20):
                users.create_task(library.used(HAIKU_REF))
        written.append((last, ledger.read()[model_id(HAIKU_REF)].last_used_ms))

    assert [at for _, at in written] == [last for last, _ in written]
