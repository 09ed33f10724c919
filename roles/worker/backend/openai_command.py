"""A server that the worker starts itself, behind a guard: started, listened to, ended. What it says is logged."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence

from llorch import log, program
from roles.worker.openai_guard import SIGNALLED

LEFT_S = 1.0
END_S = 15.0
"""More than the guard gives the server."""
MAX_LINE = 2000
_BREAK = re.compile(rb"[\r\n]")
_log = log.get("worker.server")


def ending(status: int) -> str:
    """Return how a guard's exit status says that its command has ended: as a shell's does. Pure."""
    return f"exit status {status}" + (f" (signal {status - SIGNALLED})" if status > SIGNALLED else "")


class Command:
    """One server process and what it has said; its task belongs to *tasks*.

    `heard_s` is when it last said something, by the monotonic clock; `words` counts how often it has.
    """

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.heard_s = time.monotonic()
        self.words = 0
        self._tasks = tasks
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._last = ""

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process is not None and self._process.returncode is not None

    async def start(self, command: Sequence[str], env: Mapping[str, str], on_word: Callable[[], None]) -> None:
        """Start it.

        Args:
            command: The program and its arguments.
            env: Variables beside this process's own.
            on_word: Called whenever it says something.
        """
        inherited = program.environment(env, outlives_parent=False)
        inherited.pop("LLORCH_API_TOKEN", None)
        self._process = await asyncio.create_subprocess_exec(
            *program.command(program.GUARD_COMMAND, json.dumps(list(command))),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=inherited,
        )
        assert self._process.stdout is not None
        self.heard_s = time.monotonic()
        self._reading = self._tasks.create_task(self._read(self._process.stdout, on_word), name="server-output")

    async def wait(self, *, last_words: bool) -> str:
        """Wait for its end; return how it ended, and with *last_words* what it said last.

        Not of one that has taken requests: what such a server says can quote them.
        """
        assert self._process is not None
        status = await self._process.wait()
        await self._heard_out()
        last = f"; its last words: {self._last}" if last_words and self._last else ""
        return f"the server's command ended with {ending(status)}{last}"

    async def close(self) -> None:
        """End it, and return when it has ended; safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(END_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        await self._heard_out()

    async def _heard_out(self) -> None:
        """Read what is left of its output, but not for as long as something that it has started holds that."""
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=LEFT_S)
            self._reading.cancel()

    async def _read(self, stream: asyncio.StreamReader, on_word: Callable[[], None]) -> None:
        rest = b""
        while data := await stream.read(2**16):
            self.heard_s = time.monotonic()
            self.words += 1
            on_word()
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[-MAX_LINE:]
            for line in lines:
                text = _BREAK.split(line.strip())[-1][:MAX_LINE].decode("utf-8", "replace")
                if text:
                    self._last = text[:300]
                    _log.info("server", said=text)
