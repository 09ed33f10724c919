"""A process that has imported the command line once and runs command after command, each in a fork of its own.

So that a hundred commands do not cost a hundred starts of an interpreter. It reads a JSON list of arguments a line, and
answers each with a line.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

from tests.e2e.processes import Finished, clean_environment

LOOP = """
import json, os, sys, tempfile
import aiohttp, msgspec, structlog, typer
import llorch.client, llorch.config, llorch.cli.app
from llorch.cli import run
for line in sys.stdin:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.stdin = open(0)
            status = 1
            try:
                status = run(json.loads(line))
                sys.stdout.flush()
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        told = [file.seek(0) or file.read().decode() for file in (out, err)]
    print(json.dumps([status, *told]), flush=True)
"""


class Prompt(Protocol):
    """Runs a command to its end."""

    async def __call__(self, *arguments: str) -> Finished:
        """Run it."""


@asynccontextmanager
async def prompt(env: Mapping[str, str]) -> AsyncIterator[Prompt]:
    """Be able to run commands for the length of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        LOOP,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=clean_environment({**env, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}),
        limit=2**24,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    commands, answers = process.stdin, process.stdout

    async def typed(*arguments: str) -> Finished:
        commands.write(json.dumps(arguments).encode() + b"\n")
        return Finished(*json.loads(await answers.readline()))

    try:
        yield typed
    finally:
        commands.close()
        await process.wait()
