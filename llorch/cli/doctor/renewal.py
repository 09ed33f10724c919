"""The commands that put llorch itself in place anew: no package index has it, so by how it came here."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import llorch
from llorch import program
from llorch.config import is_loopback

CHECKOUT = Path(llorch.__file__).resolve().parents[1]


def again() -> str:
    """Return what replaces this program, which is damaged or was built for another machine."""
    if program.frozen():
        return _copied("the executable")
    checkout = shlex.quote(str(CHECKOUT))
    return f"make -C {checkout} clean && make -C {checkout} .venv/run.stamp"


def newer() -> str:
    """Return what makes this program a newer one."""
    if program.frozen():
        return _copied("a newer executable")
    checkout = shlex.quote(str(CHECKOUT))
    return f"git -C {checkout} pull && make -C {checkout} .venv/run.stamp"


def on(host: str) -> str:
    """Return what makes the orchestrator on *host*, which runs another version, one of this version."""
    if is_loopback(host):
        return "llorch serve orchestrator  # once the one that runs has been stopped"
    if program.frozen():
        return f"scp {shlex.quote(sys.executable)} {shlex.quote(host)}:.local/bin/llorch  # then restart it there"
    return f"ssh -t {shlex.quote(host)}  # there, in its checkout: git pull && make .venv/run.stamp; then restart it"


def _copied(what: str) -> str:
    # As a new file: macOS kills a program that was written over another one, whose signature it remembers.
    return f"install -m 755 NEW {shlex.quote(sys.executable)}  # NEW: {what}, copied here anew"
