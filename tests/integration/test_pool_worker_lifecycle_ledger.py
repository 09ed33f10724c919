"""Workers written down, read again, struck out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from roles.pool.worker_lifecycle import records
from roles.pool.worker_lifecycle.ledger import Ledger, Saved
from tests.unit.test_pool_worker_lifecycle_records import READY, STARTING

SAVED = Saved(record=replace(STARTING, pid=7), model_path="/m", birth="boot:1")


async def test_what_is_written_down_comes_back_as_it_was(tmp_path: Path) -> None:
    second = Saved(record=records.condemned(replace(READY, worker_id="v", started_ms=0), "X", "y"), model_path="/n")
    ledger = Ledger(tmp_path)
    ledger.save(SAVED)
    ledger.save(second)
    await ledger.close()

    again = Ledger(tmp_path)
    found = await again.read()
    await again.close()

    assert found == [second, SAVED]
    assert [file.stat().st_mode & 0o777 for file in tmp_path.iterdir()] == [0o600, 0o600]


async def test_the_newest_state_counts_and_nothing_comes_back_after_it_was_struck_out(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for number in range(50):
        ledger.save(Saved(record=replace(STARTING, progress=float(number)), model_path="/m"))
    [newest] = await ledger.read()
    ledger.save(SAVED)
    ledger.forget("w")
    ledger.forget("w")
    await ledger.close()

    assert newest.record.progress == 49.0
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_cannot_be_read_stays_and_spoils_no_other(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.save(SAVED)
    await ledger.settled()
    whole = (tmp_path / "w.json").read_bytes()
    (tmp_path / "half.json").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "another.json").write_bytes(whole)
    (tmp_path / "folder.json").mkdir()

    found = await ledger.read()
    await ledger.close()

    assert found == [SAVED]
    assert (tmp_path / "half.json").exists()


async def test_a_full_disk_costs_no_worker(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "gone")

    ledger.save(SAVED)
    await ledger.settled()
    await ledger.close()

    assert not (tmp_path / "gone").exists()


async def test_fields_that_a_later_version_has_added_do_no_harm(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.save(SAVED)
    await ledger.settled()
    file = tmp_path / "w.json"
    file.write_bytes(file.read_bytes().replace(b'{"record":{', b'{"later":1,"record":{"later":[2],'))

    found = await ledger.read()
    await ledger.close()

    assert found == [SAVED]
