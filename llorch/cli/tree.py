"""The tree of commands: as a list for what walks over all of them, and cut down to the one that is asked for."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

from typer import Typer
from typer.core import TyperCommand, TyperGroup


def leaves(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], TyperCommand]]:
    """Yield every command below *command*, with the words that lead to it."""
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from leaves(below, (*path, name))
    elif isinstance(command, TyperCommand):
        yield path, command


def towards(app: Typer, words: Sequence[str]) -> Typer:
    """Return *app* with only the branch that *words* name, as far as they name one; *app* itself stays as it is.

    typer makes every parameter of every command ready before it looks at the first word: most of the time that a short
    command takes.

    Args:
        app: A group of commands.
        words: The command line; from its first option or unknown word on, everything is kept.
    """
    if not words:
        return app
    for group in app.registered_groups:
        if group.name == words[0] and group.typer_instance is not None:
            branch = copy.copy(group)
            branch.typer_instance = towards(group.typer_instance, words[1:])
            cut = copy.copy(app)
            cut.registered_groups, cut.registered_commands = [branch], []
            return cut
    for command in app.registered_commands:
        if command.name == words[0]:
            cut = copy.copy(app)
            cut.registered_groups, cut.registered_commands = [], [command]
            return cut
    return app
