"""The command line: what the words mean; each command imports what it starts inside itself."""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys


def run(arguments: list[str]) -> int:
    """Run one command; return the exit status: 0 success, 1 failure, 2 usage or configuration, 130 Ctrl-C."""
    heeds = _quiet_interrupts()
    _open_standard_streams()
    _replace_what_stdout_cannot_encode()
    from llorch.cli.failures import guarded

    if heeds:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    status = guarded(lambda: _invoke(arguments))
    _forget_what_nobody_reads()
    return status


def _invoke(arguments: list[str]) -> int:
    if arguments == ["--version"]:  # hosts are asked for it often: without the tree of commands it takes a third
        from llorch.cli.output import write_version

        write_version()
        return 0
    import typer

    from llorch.cli import remote_option
    from llorch.cli.app import build
    from llorch.cli.tree import towards

    command = typer.main.get_command(towards(build(), arguments))
    remote_option.add_to(command, arguments)
    if "_LLORCH_COMPLETE" in os.environ:
        from llorch.cli import completion

        completion.add_to(command)
    result = command.main(args=arguments or ["--help"], prog_name="llorch", standalone_mode=False)
    return result if isinstance(result, int) else 0


def _quiet_interrupts() -> bool:
    """Let Ctrl-C end the process without a word while modules are imported; tell whether it is heeded at all."""
    heeds = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeds:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return heeds


def _open_standard_streams() -> None:
    """Open what the caller has closed of stdin, stdout and stderr: else a file that we open would be taken for it.

    stdin is opened for writing and stdout for reading, so that using it is an error that is told.
    """
    for name, flags, mode in (("stdin", os.O_WRONLY, "r"), ("stdout", os.O_RDONLY, "w"), ("stderr", os.O_WRONLY, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode, encoding="utf-8"))


def _replace_what_stdout_cannot_encode() -> None:
    """Have a `?` where stdout is not UTF-8 and has no such character: it must not end a command half-way."""
    if isinstance(sys.stdout, io.TextIOWrapper) and codecs.lookup(sys.stdout.encoding).name != "utf-8":
        sys.stdout.reconfigure(errors="replace")


def _forget_what_nobody_reads() -> None:
    """Let what stderr does not take go nowhere: Python tries once more at the end, and would change the exit status."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
