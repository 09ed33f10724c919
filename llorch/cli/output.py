"""What goes to the terminal: results on stdout, status on stderr; a model's text cannot drive it."""

from __future__ import annotations

import codecs
import contextlib
import errno
import json
import os
import shutil
import sys
from collections.abc import Sequence
from typing import TextIO

# C0 but for tab and line feed, DEL, C1: without ESC and CSI, what is left of a sequence is only text.
_CONTROL = dict.fromkeys([*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0)])
_CLEAR_LINE = "\r\x1b[K"


class ReaderGone(Exception):
    """Whoever read our stdout has closed it, as `| head` does."""


def write(text: str) -> None:
    """Write to stdout at once, as it is.

    Raises:
        ReaderGone: Nobody reads it any more.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in {errno.EPIPE, errno.EIO}:  # EIO: the terminal was closed
            raise
        raise ReaderGone from None


def write_version() -> None:
    """Write which version this is; raises as `write` does."""
    from llorch import __version__

    write(f"llorch {__version__}\n")


def write_text(text: str) -> None:
    """Write what a model wrote: as it is to a file or pipe, as `plain` to a terminal; raises as `write` does."""
    write(plain(text) if sys.stdout.isatty() else text)


def write_json(value: object) -> None:
    """Write a value as one line of JSON; raises as `write` does."""
    from llorch.wire.codec import encode

    text = encode(value).decode()
    if codecs.lookup(sys.stdout.encoding or "ascii").name != "utf-8":
        text = json.dumps(json.loads(text), separators=(",", ":"))  # whose own escapes are ASCII alone
    write(text + "\n")


def write_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write rows under a header, columns aligned; raises as `write` does."""
    shown = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *shown, strict=True)]
    for row in (header, *shown):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        write((bold(line) if row is header else line) + "\n")


def write_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Write names and values, one pair a line, values aligned; raises as `write` does."""
    width = max((len(name) for name, _ in facts), default=0)
    for name, value in facts:
        write(f"{name.ljust(width)}  {one_line(value)}\n")


def plain(text: str) -> str:
    """Return *text* without control characters, but for tab and line feed."""
    return text.translate(_CONTROL)


def one_line(text: str) -> str:
    """Return *text* on one line, without control characters."""
    return " ".join(plain(text).split())


def colourful(stream: TextIO) -> bool:
    """Tell whether *stream* is a terminal whose user has nothing against colour."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def bold(text: str) -> str:
    """Return *text* in bold where stdout shows that."""
    return f"\x1b[1m{text}\x1b[0m" if colourful(sys.stdout) else text


def note(text: str) -> None:
    """Write a line to stderr that is neither a result nor a failure; a closed stderr is nobody's concern."""
    with contextlib.suppress(OSError):
        print(plain(text), file=sys.stderr, flush=True)


class Status:
    """One line on stderr that tells what is going on and is rewritten in place; only on a terminal."""

    def __init__(self, *, wanted: bool = True) -> None:
        self._shown = False
        self._active = wanted and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def show(self, text: str) -> None:
        """Show *text* in place of what is there."""
        if self._active:
            width = shutil.get_terminal_size().columns - 1
            self._put(_CLEAR_LINE + one_line(text)[:width])
            self._shown = True

    def close(self) -> None:
        """Take the line away."""
        if self._shown:
            self._put(_CLEAR_LINE)
            self._shown = False

    def _put(self, text: str) -> None:
        with contextlib.suppress(OSError):
            print(text, end="", file=sys.stderr, flush=True)
