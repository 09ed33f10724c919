"""Servers that are not llorch's, as processes on TCP ports: llama.cpp's own, which can be killed and come back."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 30.0


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def command(model: Path, port: int, *more: str) -> list[str]:
    """Return the command line of llama.cpp's server."""
    told = ["-m", "tests.support.llama_server", "--port", str(port), "--model", str(model), *more]
    return [sys.executable, *told]


class LlamaServer:
    """One such server, at the same port whenever it runs.

    Args:
        model: What it serves, under `name`.
        log: What it says goes there.
        key: What it asks for; empty is nothing.
        slots: Requests at a time.
        ctx: Context of each, in tokens.
    """

    name = "org/Model-1B"

    def __init__(self, model: Path, log: Path, *, key: str = "", slots: int = 2, ctx: int = 256) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.key = key
        told = ["--alias", self.name, "--slots", str(slots), "--ctx", str(ctx)]
        self._command = command(model, self.port, *told)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it takes requests."""
        env = {**os.environ, "PYTHONPATH": str(ROOT)} | ({"LLAMA_API_KEY": self.key} if self.key else {})
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=env)
        until_healthy(self.port)

    def kill(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def until_healthy(port: int) -> None:
    """Return when a server takes requests."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                return
        except OSError:
            assert time.monotonic() < deadline, "it takes no requests"
            time.sleep(0.02)


@contextmanager
def llama_server(model: Path, folder: Path, **options: object) -> Iterator[LlamaServer]:
    """Run llama.cpp's server until the block ends."""
    server = LlamaServer(model, folder / "server.log", **options)  # type: ignore[arg-type]  # tests name what they need
    try:
        server.start()
        yield server
    finally:
        server.kill()
