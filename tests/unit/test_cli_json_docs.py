"""What docs/commands.md says of --json: of every command that has it, and of no other."""

from __future__ import annotations

import re
from pathlib import Path

import typer.main

from llorch.cli.app import build
from llorch.cli.tree import leaves

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "commands.md"


def test_every_command_with_json_is_in_the_table_and_no_other() -> None:
    table = DOCS.read_text("utf-8").partition("\n## JSON\n")[2].partition("\n## ")[0]
    first = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `")]
    told = {name.partition(" --")[0] for cell in first for name in re.findall(r"`([^`]+)`", cell)}

    root = typer.main.get_command(build())
    have = {" ".join(path) for path, leaf in leaves(root) if any("--json" in param.opts for param in leaf.params)}

    assert told == have


def test_the_readme_names_every_command_without_json_and_no_other() -> None:
    sentence = (ROOT / "README.md").read_text("utf-8").partition("all take `--json` but for ")[2].partition(". ")[0]

    root = typer.main.get_command(build())
    without = {
        "serve" if path[0] == "serve" else " ".join(path)
        for path, leaf in leaves(root)
        if not leaf.hidden and not any("--json" in param.opts for param in leaf.params)
    }

    assert set(re.findall(r"`([^`]+)`", sentence)) == without
