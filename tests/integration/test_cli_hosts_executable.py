"""Which file is copied to a host: programs of this machine, beginnings of others, and what is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from llorch.cli.hosts_executable import OURS, chosen, system_of
from llorch.errors import InvalidConfiguration

ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00"


@pytest.mark.parametrize(
    ("head", "system"),
    [
        (ELF + b"\x3e\x00", "Linux x86_64"),
        (ELF + b"\xb7\x00", "Linux aarch64"),
        (ELF + b"\xff\xff", ""),
        (ELF, ""),
        (b"\xcf\xfa\xed\xfe\x0c\x00\x00\x01" + bytes(12), "Darwin arm64"),
        (b"#!/bin/sh\nexec true\n", ""),
        (b"", ""),
    ],
)
def test_the_system_of_a_program_is_told_by_its_first_bytes(head: bytes, system: str) -> None:
    assert system_of(head) == system


@pytest.mark.skipif(not OURS.startswith(("Linux ", "Darwin ")), reason="the programs of this system are not known")
def test_a_program_of_this_system_has_its_system_and_must_be_llorch() -> None:
    with Path(sys.executable).open("rb") as file:
        assert system_of(file.read(20)) == OURS
    with pytest.raises(InvalidConfiguration, match="this is not llorch"):
        chosen(sys.executable)


def test_a_program_for_others_is_taken_and_what_is_none_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "llorch-arm"
    machine = b"\xb7\x00" if OURS != "Linux aarch64" else b"\x3e\x00"
    other.write_bytes(ELF + machine + bytes(100))
    (tmp_path / "text").write_text("hello")

    found = chosen(str(other))

    assert (found.path, found.system == OURS) == (other, False)
    for name, why in (("text", "no program of Linux or macOS"), ("gone", "no such file")):
        with pytest.raises(InvalidConfiguration, match=why):
            chosen(str(tmp_path / name))


def test_a_program_with_a_folder_of_its_parts_is_not_copied_without_them(tmp_path: Path) -> None:
    (tmp_path / "_internal").mkdir()
    (tmp_path / "llorch-torch").write_bytes(ELF + b"\x3e\x00" + bytes(100))

    with pytest.raises(InvalidConfiguration, match="needs the folder _internal beside it"):
        chosen(str(tmp_path / "llorch-torch"))


def test_the_sources_cannot_be_copied() -> None:
    with pytest.raises(InvalidConfiguration, match="only the one-file executable"):
        chosen(None)
