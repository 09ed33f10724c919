"""Makes the README's picture: runs a command on a terminal and draws what it showed.

python build/recording.py docs/demo.svg "make demo" .venv/bin/llorch demo
"""

from __future__ import annotations

import io
import os
import pty
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 96


def shown(command: list[str]) -> str:
    """Run *command* on a pseudo-terminal and return all that it wrote to it."""
    seen = bytearray()

    def read(descriptor: int) -> bytes:
        data = os.read(descriptor, 65536)
        seen.extend(data)
        return data

    os.environ["COLUMNS"] = str(WIDTH)
    pty.spawn(command, read)
    return seen.decode().replace("\r\n", "\n")


def last_states(text: str) -> str:
    """Keep of each line what stood there last: what follows the last carriage return or erasure."""
    return "\n".join(line.replace("\x1b[2K", "\r").rpartition("\r")[2] for line in text.split("\n"))


def main() -> None:
    """Run, draw, write."""
    out, title, *command = sys.argv[1:]
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {title}"))
    console.print(Text.from_ansi(last_states(shown(command))))
    Path(out).write_text(console.export_svg(title="llorch"), "utf-8")


if __name__ == "__main__":
    main()
