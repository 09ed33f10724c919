"""The configuration file is replaced as a whole, or not at all."""

from __future__ import annotations

import asyncio
import os
import tomllib
from pathlib import Path

import pytest

from llorch.config_file import edit, with_section
from llorch.errors import InvalidConfiguration


def test_a_file_that_is_not_there_is_made_with_its_folder_and_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "new" / "llorch.toml"

    edit(file, lambda text: text + "[pool]\n")

    assert file.read_text() == "[pool]\n"
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_link_stays_a_link_and_the_mode_stays(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles.toml", tmp_path / "llorch.toml"
    real.write_bytes(b"[pool]\r\n")
    real.chmod(0o644)
    link.symlink_to(real)

    edit(link, lambda text: text + "port = 1\r\n")

    assert link.is_symlink()
    assert real.read_bytes() == b"[pool]\r\nport = 1\r\n"
    assert real.stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dotfiles.toml", "llorch.toml"]


def test_a_refused_change_names_the_file_and_leaves_it(tmp_path: Path) -> None:
    file = tmp_path / "llorch.toml"
    file.write_text("[pool\n")

    with pytest.raises(InvalidConfiguration, match=f"configuration: {file}: not TOML"):
        edit(file, lambda text: with_section(text, ("hosts", "mac"), {}))

    assert file.read_text() == "[pool\n"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(InvalidConfiguration, match="cannot be changed"):
        edit(tmp_path / "file" / "llorch.toml", lambda text: text)


async def test_changes_at_the_same_time_are_all_there_in_the_end(tmp_path: Path) -> None:
    file = tmp_path / "llorch.toml"

    def add(number: int) -> None:
        edit(file, lambda text: with_section(text, ("hosts", f"h{number}"), {"ssh": str(number)}))

    async with asyncio.TaskGroup() as tasks:
        for number in range(20):
            tasks.create_task(asyncio.to_thread(add, number))

    assert sorted(tomllib.loads(file.read_text())["hosts"]) == sorted(f"h{number}" for number in range(20))


def test_what_is_no_regular_file_is_left_alone(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)

    with pytest.raises(InvalidConfiguration, match="is no regular file"):
        edit(pipe, lambda _: "x")
    with pytest.raises(InvalidConfiguration, match="is a link to itself"):
        edit(loop, lambda _: "x")

    assert pipe.is_fifo()
