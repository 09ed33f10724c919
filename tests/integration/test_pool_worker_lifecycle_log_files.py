"""The files that workers log to: few, short, and read from both ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from roles.pool.worker_lifecycle.log_files import (
    MAX_HEAD_BYTES,
    MAX_LINE_CHARACTERS,
    MAX_LOGS,
    MAX_TAIL_BYTES,
    head,
    older,
    open_log,
    rotate,
    tail,
)


def test_old_logs_make_room_for_new_ones(tmp_path: Path) -> None:
    for number in range(MAX_LOGS + 5):
        for path in (tmp_path / f"{number}.log", older(tmp_path / f"{number}.log")):
            path.write_text("old")
            os.utime(path, (number, number))

    os.close(open_log(tmp_path / "w.log"))

    assert len(list(tmp_path.glob("*.log"))) == MAX_LOGS + 1
    assert not (tmp_path / "0.log").exists()
    assert not older(tmp_path / "0.log").exists()
    assert (tmp_path / "w.log").stat().st_mode & 0o777 == 0o600


def test_the_log_of_a_living_worker_is_kept_however_quiet_that_is(tmp_path: Path) -> None:
    descriptor = open_log(tmp_path / "quiet.log")
    worker = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=descriptor)
    os.close(descriptor)
    older(tmp_path / "quiet.log").write_text("its older part")
    for number in range(MAX_LOGS + 5):
        (tmp_path / f"{number}.log").touch()
    os.utime(tmp_path / "quiet.log", (1, 1))

    os.close(open_log(tmp_path / "new.log"))
    kept = (tmp_path / "quiet.log").exists(), older(tmp_path / "quiet.log").exists()
    worker.communicate(b"\n")
    os.close(open_log(tmp_path / "newer.log"))

    assert kept == (True, True)
    assert not (tmp_path / "quiet.log").exists()


def test_of_a_log_only_the_end_is_read(tmp_path: Path) -> None:
    log = tmp_path / "w.log"
    log.write_bytes(b"first\n" + b"x" * (2 * MAX_TAIL_BYTES) + b"\n\xff middle\nlast")

    assert tail(log, 2) == ["\ufffd middle", "last"]
    assert tail(log, 100) == ["\ufffd middle", "last"]
    log.write_text("y" * (MAX_LINE_CHARACTERS + 1))
    assert tail(log, 1) == ["y" * MAX_LINE_CHARACTERS]
    assert tail(tmp_path / "none", 5) == []


def test_of_a_log_only_whole_first_lines_are_read(tmp_path: Path) -> None:
    log = tmp_path / "w.log"
    log.write_bytes(b"http://127.0.0.1:1\nhalf")

    assert head(log) == "http://127.0.0.1:1"
    log.write_bytes(b"x\n" * MAX_HEAD_BYTES)
    assert len(head(log)) == MAX_HEAD_BYTES - 1
    assert head(tmp_path / "none") == ""


def test_a_log_that_has_grown_goes_on_in_the_same_file_and_loses_nothing(tmp_path: Path) -> None:
    log = tmp_path / "w.log"
    descriptor = open_log(log)
    with os.fdopen(descriptor, "w", buffering=1) as worker:
        worker.writelines(f"line {number}\n" for number in range(100))
        early = rotate(log, max_bytes=10_000)
        done = rotate(log, max_bytes=100)
        worker.write("line 100\n")

    assert (early, done) == (False, True)
    assert log.read_text() == "line 100\n"
    assert tail(log, 3) == ["line 98", "line 99", "line 100"]
    assert older(log).stat().st_mode & 0o777 == 0o600
    assert rotate(tmp_path / "none", max_bytes=0) is False
