"""The tree of commands as a list: what walks over all commands starts here."""

from __future__ import annotations

from collections.abc import Iterator

from typer.core import TyperCommand, TyperGroup


def leaves(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], TyperCommand]]:
    """Yield every command below *command*, with the words that lead to it."""
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from leaves(below, (*path, name))
    elif isinstance(command, TyperCommand):
        yield path, command
