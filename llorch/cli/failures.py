"""How a failure is told to a person: one line on stderr and an exit status, never a traceback for what is expected."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

import typer

from llorch.cli.complaints import FAILED, USAGE, complain, told, told_group
from llorch.cli.output import ReaderGone
from llorch.errors import LlorchError

READER_GONE, INTERRUPTED = 141, 130
CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF}


def guarded(command: Callable[[], int]) -> int:
    """Run *command* and return its exit status, or the one of how it failed."""
    try:
        return command()
    except typer.TyperException as error:
        complain(usage(error))
        return error.exit_code
    except typer.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except ReaderGone:
        _discard_stdout()
        return READER_GONE
    except LlorchError as error:
        return told(error)
    except (OSError, UnicodeEncodeError) as error:
        return surroundings(error)
    except BaseExceptionGroup as group:
        return told_group(group)


def surroundings(error: OSError | UnicodeEncodeError) -> int:
    """Print that stdout, a file, an argument or the locale cannot be used; return the exit status.

    Raises:
        OSError: It is something else, and nobody has thought of it.
    """
    if isinstance(error, UnicodeEncodeError):
        complain(_unencodable(error))
        return USAGE
    if error.errno not in CANNOT_WRITE:
        if not isinstance(error.filename, str):
            raise error
        complain(f"{error.filename}: {(error.strerror or str(error)).lower()}")
        return FAILED
    _discard_stdout()
    complain(f"cannot write {error.filename or 'to stdout'}: {error.strerror}")
    return FAILED


def _unencodable(error: UnicodeEncodeError) -> str:
    """Say why a text has no bytes: what Python makes of bytes that are not UTF-8 are surrogates."""
    character = error.object[error.start]
    if "\ud800" <= character <= "\udfff":
        return "an argument is not UTF-8"
    return f"there is no {character!a} in {error.encoding}: use a locale of UTF-8, such as LC_ALL=C.UTF-8"


def _discard_stdout() -> None:
    """Let what is still in its buffer go nowhere, when Python writes it at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def usage(error: typer.TyperException) -> str:
    """Return the line for a command line that cannot be understood; a message of several lines is help already."""
    message = error.format_message()
    if "\n" in message:
        return message
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "llorch"
    told = message.removeprefix("Invalid value: ").rstrip(".")
    first = told.partition(" ")[0]
    if not (first.isupper() and len(first) > 1):  # an argument's name stays as --help has it
        told = told[:1].lower() + told[1:]
    return f"{told}; see {path} --help"
