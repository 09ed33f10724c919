"""The manual page names every command and option, and a reader of such pages has nothing to say against it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from llorch.cli.man_page import page
from tests.unit.test_cli_tree import COMMANDS, tree

PAGE = page(tree(), version="1.2.3")


def test_every_command_stands_under_a_heading_with_its_options_and_example() -> None:
    headings = [line.removeprefix(".SS ").replace("\\-", "-") for line in PAGE.splitlines() if line.startswith(".SS ")]
    plain = PAGE.replace("\\-", "-").replace("\\e", "\\")

    assert headings == [" ".join(path) for path, _ in COMMANDS]
    assert [command.epilog for _, command in COMMANDS if str(command.epilog) not in plain] == []
    assert "\n.TP\n.B --priority " in plain
    assert "\nIts class.\n" in plain
    assert ".B --host NAME" in plain
    assert "engine-check" not in plain


def test_the_parts_that_readers_look_for_are_there() -> None:
    assert PAGE.startswith('.TH LLORCH 1 "" "llorch 1.2.3" "llorch"\n.SH NAME\nllorch \\- ')
    for part in ("SYNOPSIS", "DESCRIPTION", "COMMANDS", "EXIT STATUS", "ENVIRONMENT", "FILES"):
        assert f"\n.SH {part}\n" in PAGE


def test_no_text_is_taken_for_a_command_of_the_page() -> None:
    known = {".TH", ".SH", ".SS", ".PP", ".TP", ".B"}

    assert {line.split()[0] for line in PAGE.splitlines() if line.startswith((".", "'"))} == known


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff here")
def test_groff_has_nothing_to_say_against_it() -> None:
    done = subprocess.run(
        ["groff", "-man", "-ww", "-k", "-Tutf8"], input=PAGE.encode(), capture_output=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, b"")
    assert "pool models download" in done.stdout.decode()
