"""Questions to whoever sits at the terminal, before something is lost or changed."""

from __future__ import annotations

import sys

from llorch.cli.output import note


def can_ask() -> bool:
    """Tell whether somebody can see a question and answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def agreed(asked: str) -> bool:
    """Ask on the terminal; anything but yes is no."""
    note(f"{asked} [y/N]")
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
