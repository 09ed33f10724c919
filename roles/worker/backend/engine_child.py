"""An engine process of ours as the worker sees it: started, asked, watched, killed. It computes in `torch_host`."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from llorch import errors, log, program
from roles.worker.backend.engine_messages import (
    Asked,
    Dropped,
    Loading,
    Piece,
    Pieces,
    Ready,
    Refused,
    Tokens,
    Told,
)
from roles.worker.backend.llamacpp_options import ending

LINE_LIMIT_BYTES = 64 << 20
_log = log.get("worker.engine")


class EngineChild:
    """The one engine process of a worker: that of the engine called *name*. Its tasks belong to *tasks*."""

    def __init__(self, tasks: asyncio.TaskGroup, name: str) -> None:
        self._tasks = tasks
        self._name = name
        self._process: asyncio.subprocess.Process | None = None
        self._last_words: deque[str] = deque(maxlen=20)
        self._readers: list[asyncio.Task[None]] = []
        self._ready: asyncio.Future[Ready] | None = None
        self._answers: dict[int, asyncio.Queue[Tokens | Refused | Piece | None]] = {}
        self._dropping: set[int] = set()
        self._settled = asyncio.Event()
        self._settled.set()
        self._last_id = 0

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    async def load(self, options: msgspec.Struct, on_progress: Callable[[float], None]) -> Ready:
        """Start it and wait until its model is loaded.

        Raises:
            ModelNotFound, ModelInvalid, ModelIncompatible, BackendUnavailable, EngineFailed: It could not.
        """
        self._ready = asyncio.get_running_loop().create_future()
        process = self._process = await asyncio.create_subprocess_exec(
            *program.command(program.ENGINE_COMMAND, self._name, msgspec.json.encode(options).decode()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=program.environment({}, outlives_parent=False),
            limit=LINE_LIMIT_BYTES,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = [
            self._tasks.create_task(self._read(process.stdout, on_progress), name="engine-answers"),
            self._tasks.create_task(self._read_log(process.stderr), name="engine-log"),
        ]
        both: set[asyncio.Future[Any]] = {self._ready, self._readers[0]}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if self._ready.done():
            return self._ready.result()
        raise errors.EngineFailed(f"{await self.wait()}, while it loaded the model")

    async def wait(self) -> str:
        """Wait for its end; return how it ended and its last words."""
        assert self._process is not None
        status = await self._process.wait()
        await asyncio.wait(self._readers)
        last = f"; its last words: {self._last_words[-1]}" if self._last_words else ""
        return f"the engine process ended with {ending(status)}{last}"

    def open(self) -> tuple[int, asyncio.Queue[Tokens | Refused | Piece | None]]:
        """Return an id for what will be asked, and the queue of its answers; None in that is the process's end."""
        self._last_id += 1
        answers = self._answers[self._last_id] = asyncio.Queue()
        if self._process is None or self._readers[0].done():
            answers.put_nowait(None)
        return self._last_id, answers

    def ask(self, asked: Asked) -> None:
        """Send what is asked; what a process that has just ended cannot take any more is answered by its end."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(asked) + b"\n")

    def forget(self, asked_id: int) -> None:
        """Take no more answers of that id."""
        self._answers.pop(asked_id, None)

    def drop(self, asked_id: int, asked: Asked) -> None:
        """Have a text stopped."""
        self.forget(asked_id)
        if self._process is not None and not self._readers[0].done():
            self._dropping.add(asked_id)
            self._settled.clear()
            self.ask(asked)

    async def settled(self) -> None:
        """Wait until no text is computed that was to be stopped."""
        await self._settled.wait()

    async def close(self) -> None:
        """Kill it: it holds nothing that needs saving."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            if process.stdin is not None:
                process.stdin.close()
            await asyncio.wait(self._readers)

    async def _read(self, stream: asyncio.StreamReader, on_progress: Callable[[float], None]) -> None:
        decoder = msgspec.json.Decoder(Told)
        try:
            while (line := await stream.readline()).endswith(b"\n"):
                self._hear(decoder.decode(line), on_progress)
        finally:
            for answers in self._answers.values():
                answers.put_nowait(None)
            self._dropping.clear()
            self._settled.set()

    def _hear(self, told: Told, on_progress: Callable[[float], None]) -> None:
        if isinstance(told, Pieces):
            for piece in told.pieces:
                self._answer(piece.id, piece)
        elif isinstance(told, Dropped):
            self._dropping.discard(told.id)
            if not self._dropping:
                self._settled.set()
        elif isinstance(told, Loading):
            on_progress(told.percent)
        elif isinstance(told, Tokens) or (isinstance(told, Refused) and told.id is not None):
            self._answer(told.id, told)
        elif self._ready is not None and not self._ready.done():
            if isinstance(told, Ready):
                self._ready.set_result(told)
            else:
                self._ready.set_exception(error_of(told))

    def _answer(self, asked_id: int | None, answer: Tokens | Refused | Piece) -> None:
        if asked_id is not None and asked_id in self._answers:
            self._answers[asked_id].put_nowait(answer)

    async def _read_log(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            said = line.decode("utf-8", "replace").strip()[:300]
            if said and not line.startswith(b" "):  # a traceback's inner lines
                self._last_words.append(said)
                _log.debug("engine", said=said)


def error_of(told: Refused) -> errors.LlorchError:
    """Return the error that the engine process told of."""
    kind: type[errors.LlorchError] = getattr(errors, told.error)
    return kind(told.message, details=told.details or None)
