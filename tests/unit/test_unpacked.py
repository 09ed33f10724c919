"""Which unpacked folders of the executable nobody uses any more."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from llorch.program import HELD
from llorch.unpacked import YOUNG_S, left_behind

NOBODY = 0x3FFFFF00  # above every process id that Linux or macOS gives


def unpacked(temporary: Path, name: str, *, age_s: float = 2 * YOUNG_S, ours: bool = True) -> Path:
    folder = temporary / name
    folder.mkdir()
    if ours:
        (folder / HELD).touch()
    os.utime(folder, (time.time() - age_s,) * 2)
    return folder


def test_a_folder_that_a_killed_process_left_is_found(tmp_path: Path) -> None:
    left = unpacked(tmp_path, f"_MEI{NOBODY:08x}AbC123")

    assert left_behind(tmp_path, now_s=time.time()) == [left]


def test_folders_of_others_and_young_ones_and_those_whose_first_process_runs_are_kept(tmp_path: Path) -> None:
    unpacked(tmp_path, f"_MEI{NOBODY:08x}AbC124", ours=False)
    unpacked(tmp_path, f"_MEI{NOBODY:08x}AbC125", age_s=YOUNG_S / 2)
    unpacked(tmp_path, f"_MEI{os.getpid():08x}AbC126")
    unpacked(tmp_path, f"_MEI{NOBODY:08x}")
    elsewhere = unpacked(tmp_path, "elsewhere")
    (tmp_path / f"_MEI{NOBODY:08x}AbC127").symlink_to(elsewhere)

    assert left_behind(tmp_path, now_s=time.time()) == []


def test_a_folder_is_kept_as_long_as_any_process_holds_it(tmp_path: Path) -> None:
    folder = unpacked(tmp_path, f"_MEI{NOBODY:08x}AbC128")
    script = (
        "import sys; from pathlib import Path; from llorch.program import hold; "
        "hold(Path(sys.argv[1])); print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        held = left_behind(tmp_path, now_s=time.time())
        holder.kill()
    freed = left_behind(tmp_path, now_s=time.time())

    assert held == []
    assert freed == [folder]
