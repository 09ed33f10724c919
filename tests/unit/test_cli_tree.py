"""Every command as the tree has it: what it says of itself, and that its example is one."""

from __future__ import annotations

import shlex

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from llorch.cli import remote_option
from llorch.cli.app import build
from llorch.cli.tree import leaves, towards


def tree() -> TyperGroup:
    """Return the whole command line."""
    root = typer.main.get_command(build())
    remote_option.add_to(root, [])
    assert isinstance(root, TyperGroup)
    return root


COMMANDS = [(path, command) for path, command in leaves(tree()) if not command.hidden]

# The specification's list of commands.
SPECIFIED = """
serve orchestrator, serve pool, serve worker, serve all
jobs submit, jobs list, jobs show, jobs watch, jobs cancel, jobs explain
pool status, pool list, pool register, pool drain
pool models download, pool models list, pool models catalog, pool models info, pool models verify, pool models delete
pool models disk-usage, pool models register, pool models unregister
pool worker spawn, pool worker list, pool worker stop, pool worker stop-all, pool worker logs
pool git status, pool git pull, pool git sync, pool git submodules, pool git branches, pool git log, pool git clean
hosts add, hosts list, hosts remove, hosts install, hosts exec
dev setup, dev doctor
top, demo
bench system, bench model, bench overhead
"""


def test_every_command_that_was_specified_is_there() -> None:
    wanted = {name.strip() for line in SPECIFIED.strip().splitlines() for name in line.split(",")}

    assert wanted - {" ".join(path) for path, _ in COMMANDS} == set()


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
def test_every_command_says_what_it_does_and_has_an_example_that_it_understands(
    path: tuple[str, ...], command: TyperCommand
) -> None:
    example = (command.epilog or "").removeprefix("Example: ")
    words = shlex.split(example, comments=True)
    words = words[: words.index(">")] if ">" in words else words

    context = command.make_context(" ".join(path), words[1 + len(path) :])

    assert words[: 1 + len(path)] == ["llorch", *path]
    assert context.args == []
    assert command.help


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
def test_every_option_has_a_help_text(path: tuple[str, ...], command: TyperCommand) -> None:
    context = typer.Context(command, info_name=" ".join(path))
    records = [(parameter.name, parameter.get_help_record(context)) for parameter in command.params]

    assert [name for name, record in records if record is not None and not record[1]] == []


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
def test_the_tree_cut_down_to_a_command_has_that_one_and_no_other(path: tuple[str, ...], command: TyperCommand) -> None:
    cut = typer.main.get_command(towards(build(), [*path, "--json"]))
    remote_option.add_to(cut, [])

    ((left, kept),) = leaves(cut)

    assert left == path
    assert [parameter.name for parameter in kept.params] == [parameter.name for parameter in command.params]


@pytest.mark.parametrize("words", [[], ["--help"], ["--json", "jobs"], ["unknown"]])
def test_what_names_no_command_leaves_the_whole_tree(words: list[str]) -> None:
    kept = leaves(typer.main.get_command(towards(build(), words)))

    assert [path for path, _ in kept] == [path for path, _ in leaves(tree())]


def test_a_group_that_is_named_keeps_all_of_its_own_and_the_whole_tree_stays_as_it_was() -> None:
    app = build()

    kept = leaves(typer.main.get_command(towards(app, ["pool", "models", "unknown"])))

    assert {path[:2] for path, _ in kept} == {("pool", "models")}
    assert len(list(leaves(typer.main.get_command(app)))) == len(list(leaves(tree())))
