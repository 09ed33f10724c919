"""Each flag that a document gives a command is one that the command has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from llorch.cli import remote_option
from llorch.cli.app import build

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"(?<![\w/.-])llorch((?: [^`\n]*)?)")
ENDS = re.compile(r" (?:--|[|;#]|&&|\d?>) ")
FLAG = re.compile(r"--[a-z][a-z-]*")


def commands(text: str) -> Iterator[str]:
    """Yield what stands behind `llorch` in code, up to where something else begins."""
    for code in [*re.findall(r"`([^`\n]+)`", text), *re.findall(r"^\$ (.+)$", text, flags=re.MULTILINE)]:
        for words in COMMAND.findall(code):
            yield ENDS.split(f"{words} ")[0]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_each_flag_is_one_that_its_command_has(document: Path) -> None:
    root = typer.main.get_command(build())
    remote_option.add_to(root, [])
    strange = []

    for line in commands(document.read_text("utf-8")):
        command = root
        for word in line.split():
            if not isinstance(command, typer.core.TyperGroup) or word not in command.commands:
                break
            command = command.commands[word]
        if isinstance(command, typer.core.TyperGroup):
            continue
        known = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)} | {"--help"}
        strange += [f"llorch{line}: {flag}" for flag in FLAG.findall(line) if flag not in known]

    assert strange == []
