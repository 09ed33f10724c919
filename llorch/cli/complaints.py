"""An expected failure as one line on stderr, and the exit status that goes with it. Knows no command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from llorch.cli.output import one_line
from llorch.errors import InvalidConfiguration, LlorchError

FAILED, USAGE = 1, 2


def told(*errors: LlorchError) -> int:
    """Print expected failures, a line each; return the exit status."""
    for message in dict.fromkeys(error.message for error in errors):
        for line in message.splitlines():
            complain(line)
    return USAGE if any(isinstance(error, InvalidConfiguration) for error in errors) else FAILED


def told_group(group: BaseExceptionGroup) -> int:
    """Print a group's expected failures; return the exit status.

    Raises:
        BaseExceptionGroup: Something in it is a bug.
    """
    known, bugs = group.split(LlorchError)
    if bugs is not None or known is None:
        raise group
    return told(*_leaves(known))


def complain(text: str) -> None:
    """Write to stderr, a single line with the program's name in front; a closed stderr is nobody's concern."""
    line = text if "\n" in text else f"llorch: {one_line(text)}"
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        return


def _leaves(group: BaseExceptionGroup[LlorchError]) -> Iterator[LlorchError]:
    """Yield the errors that a tree of groups holds."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
