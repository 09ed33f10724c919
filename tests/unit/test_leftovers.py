"""Which temporary folders of llorch's nobody uses any more."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from llorch.leftovers import SHORT, YOUNG_S, date_ahead, left_behind, private_folder
from llorch.program import HELD

NOBODY = 0x3FFFFF00  # above every process id that Linux or macOS gives


def folder_of(temporary: Path, name: str, *, age_s: float = 2 * YOUNG_S, ours: bool = True) -> Path:
    folder = temporary / name
    folder.mkdir()
    if ours:
        (folder / HELD).touch()
    os.utime(folder, (time.time() - age_s,) * 2)
    return folder


@pytest.mark.parametrize("name", [f"_MEI{NOBODY:08x}AbC123", "llorch-a1_b2_c3"])
def test_a_folder_that_a_killed_process_left_is_found(tmp_path: Path, name: str) -> None:
    left = folder_of(tmp_path, name)

    assert left_behind(tmp_path, now_s=time.time()) == [left]


def test_folders_of_others_and_young_ones_and_those_whose_first_process_runs_are_kept(tmp_path: Path) -> None:
    folder_of(tmp_path, f"_MEI{NOBODY:08x}AbC124", ours=False)
    folder_of(tmp_path, f"_MEI{NOBODY:08x}AbC125", age_s=YOUNG_S / 2)
    folder_of(tmp_path, f"_MEI{os.getpid():08x}AbC126")
    folder_of(tmp_path, f"_MEI{NOBODY:08x}")
    folder_of(tmp_path, "llorch-a1b2c3d4", ours=False)
    folder_of(tmp_path, "llorch-a1b2c3d5", age_s=YOUNG_S / 2)
    folder_of(tmp_path, "llorch-a1b2c3d4-backup")
    elsewhere = folder_of(tmp_path, "elsewhere")
    (tmp_path / f"_MEI{NOBODY:08x}AbC127").symlink_to(elsewhere)
    (tmp_path / "llorch-a1b2c3d6").symlink_to(elsewhere)

    assert left_behind(tmp_path, now_s=time.time()) == []


def test_a_folder_is_kept_as_long_as_any_process_holds_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, f"_MEI{NOBODY:08x}AbC128")
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


def test_a_private_folder_is_kept_while_it_is_used_and_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with private_folder(longest=1_000) as folder:
        os.utime(folder, (time.time() - 2 * YOUNG_S,) * 2)
        used, mode, inside = left_behind(tmp_path, now_s=time.time()), folder.stat().st_mode, folder.parent

    assert (used, stat.S_IMODE(mode), inside) == ([], 0o700, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_private_folder_is_made_where_its_path_is_short_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    longest = len(str(tmp_path / "llorch-12345678"))
    with private_folder(longest=longest) as fits, private_folder(longest=longest - 1) as short:
        found = (fits.parent, short.parent)

    assert found == (tmp_path, SHORT)


def test_files_in_use_are_dated_ahead_of_those_that_macos_removes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, f"_MEI{NOBODY:08x}AbC129")
    (folder / "lib").mkdir()
    file = folder / "lib" / "part.so"
    file.write_bytes(b"code")
    week_ago_s = time.time() - 7 * 86_400
    os.utime(file, (week_ago_s, week_ago_s))

    date_ahead(folder, now_s=time.time())

    assert file.stat().st_atime > time.time() + 86_400
    assert file.stat().st_mtime == week_ago_s
