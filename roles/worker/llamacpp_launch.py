"""Starts the engine process before anybody knows what it will load, and imports next to nothing for that.

Its interpreter and llama.cpp's library come up while the worker imports what a worker needs.
"""

from __future__ import annotations

import subprocess

from llorch import program


def launch() -> subprocess.Popen[bytes]:
    """Start an engine process; it waits for its options, a line of JSON, on stdin, and dies with this process.

    Call it in the main thread: on Linux it dies with the thread that started it. Its pipes have no buffers.
    """
    return subprocess.Popen(
        program.command(program.ENGINE_COMMAND),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=program.environment({}, outlives_parent=False),
    )
