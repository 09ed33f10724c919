"""The manual page, from the tree of commands: what `--help` says, as roff. Pure."""

from __future__ import annotations

import typer
from typer.core import TyperCommand, TyperGroup

from llorch.cli.tree import leaves

_ENVIRONMENT = (
    ("LLORCH_CONFIG", "The configuration file; --config goes before it."),
    ("LLORCH_URL", "The orchestrator; --url goes before it."),
    ("LLORCH_API_TOKEN", "The token; it goes before [auth] token_file."),
    ("LLORCH_SSH", 'The ssh that reaches other hosts, with options: "ssh -F ./ssh_config".'),
    ("LLORCH_SECTION_KEY", "Any key of the configuration, such as LLORCH_POOL_PORT for [pool] port."),
    ("NO_COLOR", "No colour."),
)
_FILES = (
    ("~/.config/llorch/llorch.toml", "The user's configuration."),
    ("/etc/llorch/llorch.toml", "The system's, where the user has none."),
    ("~/.local/share/llorch", "Data of the orchestrator and the pool, models among them."),
)
_STATUS = (
    ("0", "Success."),
    ("1", "Failure."),
    ("2", "Wrong use, or a wrong configuration."),
    ("130", "Ctrl-C; 128 and the number for other signals."),
    ("141", "Nobody reads stdout any more."),
)


def page(root: TyperGroup, *, version: str) -> str:
    """Return llorch(1)."""
    top = typer.Context(root, info_name="llorch")
    lines = [
        f'.TH LLORCH 1 "" "llorch {_text(version)}" "llorch"',
        ".SH NAME",
        r"llorch \- one service for language models from all your machines",
        ".SH SYNOPSIS",
        ".B llorch",
        _text("[OPTIONS] COMMAND [ARGS]..."),
        ".SH DESCRIPTION",
        _text(
            "One program for every role. An orchestrator takes jobs and decides where they run, a pool on each machine "
            "knows its devices, models and workers, a worker runs one model. Everything else is a client of those."
        ),
        ".SH COMMANDS",
    ]
    for path, command in leaves(root):
        if not command.hidden:
            lines += _command(command, path, top)
    for heading, entries in (("EXIT STATUS", _STATUS), ("ENVIRONMENT", _ENVIRONMENT), ("FILES", _FILES)):
        lines.append(f".SH {heading}")
        for name, text in entries:
            lines += [".TP", f".B {_text(name)}", _text(text)]
    return "\n".join(lines) + "\n"


def _command(command: TyperCommand, path: tuple[str, ...], top: typer.Context) -> list[str]:
    context = typer.Context(command, parent=top, info_name=" ".join(path))
    pieces = command.collect_usage_pieces(context)
    lines = [f".SS {_text(' '.join(path))}", f".B {_text(' '.join(('llorch', *path)))}", _text(" ".join(pieces))]
    for paragraph in (command.help or "").strip().split("\n\n"):
        lines += [".PP", _text(" ".join(paragraph.split()))]
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None:
            lines += [".TP", f".B {_text(record[0])}", _text(record[1] or " ")]
    if command.epilog:
        lines += [".PP", _text(command.epilog)]
    return lines


def _text(text: str) -> str:
    r"""Return one line of text as roff takes it: backslashes and hyphens as they are, no control line by chance."""
    plain = " ".join(text.replace("\b", "").split()).replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{plain}" if plain.startswith((".", "'")) else plain
