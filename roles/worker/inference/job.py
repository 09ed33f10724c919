"""One attempt of a job: its events, who reads them, and how it is stopped. Independent of connections.

The job's own task is its only writer, and one reader at a time follows it: the newest, because a reader that comes
back can be sooner here than the news that its old connection is gone. When the reader has left, the job goes on for
`reattach_s` and keeps its events, within a limit: beyond it the job ends with a retriable error, because llama.cpp
cannot be paused (it would go on into its own memory) and an event that was dropped could never be delivered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import NamedTuple

from msgspec import UNSET

from llorch import errors
from llorch.sse import KEEPALIVE, encode_event
from llorch.wire import codec
from llorch.wire.conversation import TokenLogprob, ToolCallDelta
from llorch.wire.events import START, Failed, WorkerText, WorkerToken, counts_of
from roles.worker.inference.replay import Id, Replay

BUFFER_BYTES = 4 * 1024 * 1024
KEEPALIVE_S = 15.0


class Apart(NamedTuple):
    """What a piece of an output holds beside text."""

    logprobs: Sequence[TokenLogprob]
    reasoning_content: str
    tool_calls: Sequence[ToolCallDelta]


class Piece(NamedTuple):
    """What one token event holds, not all empty, and what `WorkerToken` says about it."""

    text: str
    ids: list[int]
    held: str
    apart: Apart | None = None

    def token(self, index: int) -> WorkerText | WorkerToken:
        """Return the event."""
        if self.apart is None:
            return WorkerText(index, self.text, self.ids, self.held)
        return WorkerToken(
            index,
            self.text,
            self.ids,
            self.held,
            logprobs=list(self.apart.logprobs) or UNSET,
            reasoning_content=self.apart.reasoning_content or UNSET,
            tool_calls=list(self.apart.tool_calls) or UNSET,
        )


class _Reader:
    """One who follows; `waiting` while there is nothing to write for it, `hang_up` ends it while there is."""

    def __init__(self, hang_up: Callable[[], None] | None) -> None:
        self.waiting: asyncio.Future[None] | None = None
        self._hang_up = hang_up

    async def news(self) -> None:
        self.waiting = asyncio.get_running_loop().create_future()
        await self.waiting
        self.waiting = None

    def wake(self) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)

    def end(self) -> None:
        if self.waiting is not None:
            self.wake()
        elif self._hang_up is not None:
            self._hang_up()


class Job:
    """One attempt of a job.

    `task` is the one that brings it to its end. `interruptible` is the one that is cancelled when the job is stopped;
    set by that task itself when it has begun to listen, because a task that is cancelled before its first step never
    writes the last event.

    Args:
        job_id: Given by the orchestrator.
        attempt: Its number.
        first_token: The index of the first token event.
        buffer_bytes: How many events are kept, in bytes.
    """

    def __init__(self, job_id: str, attempt: int, *, first_token: int = 0, buffer_bytes: int = BUFFER_BYTES) -> None:
        self.id = job_id
        self.attempt = attempt
        self.done = False
        self.error: errors.LlorchError | None = None
        self.stopping: errors.LlorchError | None = None
        self.stopped_s = 0.0
        self.task: asyncio.Task[object] | None = None
        self.interruptible: asyncio.Task[object] | None = None
        self.unread_since_s = self.changed_s = self.ended_s = time.monotonic()
        self._replay = Replay(buffer_bytes)
        self._next_token = first_token
        self._serial = 0
        self._reader: _Reader | None = None
        self._read_to = 0
        self._taken = asyncio.Event()

    @property
    def is_read(self) -> bool:
        """Whether somebody follows it now."""
        return self._reader is not None

    def tokens(self, pieces: Iterable[Piece]) -> None:
        """Write pieces of text.

        Raises:
            WorkerLost: The buffer is full of events that nobody has read.
        """
        self.add(pieces)
        if self._crowded():
            raise errors.WorkerLost("nobody read the job's events until their buffer was full")

    def add(self, pieces: Iterable[Piece]) -> None:
        """Write pieces, whether or not there is room for more; for who then waits for `room`."""
        for piece in pieces:
            index = self._next_token
            self._next_token = number = index + 1
            body = codec.encode(piece.token(index))
            self._replay.append((number, 0), encode_event("token", f"{number}.0", body))
        self._wake()

    async def room(self) -> None:
        """Wait until the buffer is not full of events that nobody has read."""
        while self._crowded():
            self._taken.clear()
            await self._taken.wait()

    def event(self, kind: str, body: object) -> None:
        """Write an event that is not a token; `end` and `error` are the last."""
        self._serial = max(self._serial + 1, time.time_ns() // 1_000_000)
        event_id: Id = (self._next_token, self._serial)
        self._replay.append(event_id, encode_event(kind, f"{event_id[0]}.{event_id[1]}", codec.encode(body)))
        if kind in {"end", "error"}:
            self.done = True
            self.ended_s = time.monotonic()
        self._wake()

    def fail(self, error: errors.LlorchError) -> None:
        """Write the last event of a job that did not get to its end."""
        self.error = error
        details = counts_of(error.details)
        self.event("error", Failed(code=error.code, message=error.message, retriable=error.retriable, details=details))

    def stop(self, reason: errors.LlorchError) -> None:
        """Have it ended with *reason* at once; the first reason stays."""
        if self.done or self.stopping is not None:
            return
        self.stopping, self.stopped_s = reason, time.monotonic()
        if self.interruptible is not None:
            self.interruptible.cancel()

    def position_after(self, event_id: Id) -> int:
        """Return where to follow from; raises JobNotFound when what comes next is no longer kept."""
        return self._replay.position_after(event_id)

    async def follow(
        self, position: int = 0, *, after: Id = START, hang_up: Callable[[], None] | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield encoded events from *position* to the last one, a comment when nothing happens.

        A reader who falls so far behind that its next event is gone gets an early end, as does the one that followed
        until another began to.

        Args:
            position: Where to begin.
            after: An id that has been seen: nothing up to it is yielded, even if it is still to come.
            hang_up: Ends the reader's connection; called when another reader comes while this one does not take what
                was yielded.
        """
        me = _Reader(hang_up)
        before, self._reader = self._reader, me
        if before is not None:
            before.end()
        self._read_to = position
        try:
            while self._reader is me:
                if position < self._replay.end:
                    position = max(position, self._replay.first_after(after))
                    block = self._replay.read(position)
                    if block is None:
                        return
                    self._read_to = position = self._replay.end
                    self._taken.set()
                    if block:
                        yield block
                elif self.done:
                    return
                else:
                    await me.news()
                    if position == self._replay.end and not self.done:
                        yield KEEPALIVE
        finally:
            if self._reader is me:
                self._reader = None
                self.unread_since_s = time.monotonic()

    def nudge(self, now_s: float) -> None:
        """Let the reader say that it is still there when the job has been quiet for long."""
        if self._reader is not None and self._reader.waiting is not None and now_s - self.changed_s > KEEPALIVE_S:
            self._wake()

    def _crowded(self) -> bool:
        """Tell whether the buffer is full, after letting go of what has been read."""
        if self._replay.full:
            self._replay.let_go(self._read_to)
        return self._replay.full

    def _wake(self) -> None:
        self.changed_s = time.monotonic()
        if self._reader is not None:
            self._reader.wake()
