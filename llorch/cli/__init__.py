"""The command line: what the words mean; each command imports what it starts inside itself."""

from __future__ import annotations


def run(arguments: list[str]) -> int:
    """Run one command; return the exit status: 0 success, 1 failure, 2 usage or configuration, 130 Ctrl-C."""
    from llorch.cli.failures import guarded

    return guarded(lambda: _invoke(arguments))


def _invoke(arguments: list[str]) -> int:
    import typer

    from llorch.cli.app import build

    command = typer.main.get_command(build())
    result = command.main(args=arguments or ["--help"], prog_name="llorch", standalone_mode=False)
    return result if isinstance(result, int) else 0
