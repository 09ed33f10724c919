"""Starts the processes that a measurement needs; the ready line is the only synchronisation."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Process:
    """A role that answers at `url`."""

    url: str
    popen: subprocess.Popen[str]

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.url.rpartition(":")[2])

    def memory_mb(self) -> float:
        """Return the memory that is its own, in MB: what would be free if it ended."""
        return float(psutil.Process(self.popen.pid).memory_full_info().uss) / 1e6


@contextlib.contextmanager
def started(command: list[str], env: Mapping[str, str] | None = None) -> Iterator[Process]:
    """Run a command until the block ends; its first line on stdout is its URL."""
    popen = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, **(env or {})}
    )
    try:
        assert popen.stdout is not None
        url = popen.stdout.readline().strip()
        if not url.startswith("http"):
            raise RuntimeError(f"{command} did not start")
        yield Process(url, popen)
    finally:
        popen.send_signal(signal.SIGTERM)
        popen.wait(30)
        if popen.stdout is not None:
            popen.stdout.close()


def llorch(*arguments: str, env: Mapping[str, str] | None = None) -> contextlib.AbstractContextManager[Process]:
    """Run a role of llorch."""
    return started([sys.executable, "-m", "llorch", *arguments], env)


def script(name: str, *arguments: str) -> contextlib.AbstractContextManager[Process]:
    """Run a script of this folder."""
    return started([sys.executable, "-m", f"tests.bench.{name}", *arguments])
