"""docs/configuration.md has every key of the settings, with the variable and the default that it really has."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from llorch.policy import ModelPolicy
from llorch.settings import SECTIONS, Host, Server, Settings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
HEADING = re.compile(r"\| \*\*`\[(.+)\]`\*\* \|")


def table() -> dict[str, dict[str, tuple[str, str]]]:
    """Return the table's sections: of each its keys, with what is told of variable and default."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for line in PAGE.splitlines():
        if heading := HEADING.match(line):
            keys = found.setdefault(heading[1], {})
        elif line.startswith("| `"):
            names, variables, defaults, _ = (cell.strip() for cell in line.strip("|").split(" | ", maxsplit=3))
            several = zip(*(cell.split(", ") for cell in (names, variables, defaults)), strict=True)
            keys |= {name.strip("`"): (variable.strip("`"), default) for name, variable, default in several}
    return found


TABLE = table()


@pytest.mark.parametrize("section", SECTIONS)
def test_the_table_has_every_key_under_its_variable(section: str) -> None:
    fields = [field.name for field in msgspec.structs.fields(SECTIONS[section])]

    told = {key: variable.replace("…", f"LLORCH_{section.upper()}") for key, (variable, _) in TABLE[section].items()}

    assert told == {name: f"LLORCH_{section.upper()}_{name.upper()}" for name in fields}


@pytest.mark.parametrize("section", SECTIONS)
def test_the_table_tells_the_defaults_that_are_values(section: str) -> None:
    defaults = {field.name: field.default for field in msgspec.structs.fields(SECTIONS[section])}
    empty: tuple[object, ...] = ("", ())  # it is found at the start, or there is none
    values = {name: default for name, default in defaults.items() if default not in empty}

    told = {name: TABLE[section][name][1].strip("`") for name in values}

    assert told == {
        name: str(value).lower()
        if isinstance(value, bool)
        else f"{value:.15g}"
        if isinstance(value, float)
        else str(value)
        for name, value in values.items()
    }


def test_every_section_has_its_place() -> None:
    sections = {field.name for field in msgspec.structs.fields(Settings)} - {"token", "source"}
    called = {"servers": "pool.servers"}

    assert {name for name in sections if f"`[{called.get(name, name)}" not in PAGE} == set()


@pytest.mark.parametrize(
    ("heading", "kind"),
    [('## `[models."NAME"]`', ModelPolicy), ("## `[hosts.NAME]`", Host), ("## `[pool.servers.NAME]`", Server)],
)
def test_sections_without_variables_are_told_with_every_key(heading: str, kind: type[msgspec.Struct]) -> None:
    text = PAGE.partition(heading)[2].partition("\n## ")[0]

    assert {field.name for field in msgspec.structs.fields(kind) if f"`{field.name}`" not in text} == set()
