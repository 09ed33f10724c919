"""Streams of live jobs: one writer, many readers, each with its own position.

Strategy: a stream is a list of encoded token events, a short list of the other events, and a set of waiting
readers. A reader holds nothing but its position; it takes what is there from that position on, in one piece, and
waits when there is nothing. So a slow reader costs nobody anything, and what many read is encoded once.

What is on disk is dropped from memory beyond a tail; a reader that is further behind reads it from there. The stream of
a job that has ended is built from its row and its output on disk alone.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial

import msgspec

from llorch.errors import JobNotFound
from llorch.job import FINAL, JobId
from llorch.sse import KEEPALIVE, encode_event, parse_block
from llorch.wire import events
from llorch.wire.codec import encode
from llorch.wire.embedding import Capability
from llorch.wire.events import START, EventId, parse_event_id
from roles.orchestrator.job_events import terminal, token
from roles.orchestrator.state.rows import Chunk, Generated, JobRow
from roles.orchestrator.state.store import Store
from roles.orchestrator.state.text_log import erase
from roles.orchestrator.stream import Stream

KEEPALIVE_S = 15.0
QUEUED_EVERY_MS = 1_000
"""A reader is told no more often where a waiting job stands."""
LARGE_TEXT_BYTES = 1024 * 1024
"""An output of so many bytes is read in a thread, for others would wait for it."""


class Relay:
    """All live streams, by job."""

    def __init__(self, store: Store, *, on_read: Callable[[Stream], None], on_unread: Callable[[JobId], None]) -> None:
        """Take what to call when a live job gets a reader, and when its last reader has gone."""
        self._store = store
        self._on_read = on_read
        self._on_unread = on_unread
        self._streams: dict[JobId, Stream] = {}
        self._shortening = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._streams)

    def open(self, job_id: JobId, seq: int, kind: Capability = "text-gen") -> Stream:
        """Return the stream of a job that has not ended, to write to: it is kept until `finish`."""
        stream = self._stream(job_id, seq)
        stream.kept, stream.kind = True, kind
        return stream

    def find(self, job_id: JobId) -> Stream | None:
        """Return the stream of a job if it is in memory."""
        return self._streams.get(job_id)

    def watched(self) -> Sequence[Stream]:
        """Return the streams that somebody reads."""
        return [stream for stream in self._streams.values() if stream.readers]

    async def restore(self, stream: Stream, row: JobRow, generated: Generated) -> None:
        """Let the stream of a job found on disk go on behind its stored token events."""
        stream.first = stream.stored = stream.durable = generated.pieces
        stream.exact = generated.ids is not None
        stream.ids = generated.ids if generated.ids is not None else array("i")
        stream.stored_ids = len(stream.ids)
        stream.held = generated.held
        stream.notices = await self._notices(row.seq)
        stream.serial = max([row.started_event or 0, row.submitted_ms, *(i.serial for i, _ in stream.notices)])

    def tokens(self, stream: Stream, pieces: Sequence[events.WorkerToken]) -> None:
        """Add token events; readers get the text, the model's tokens stay here."""
        first, known = stream.count, len(stream.ids)
        for piece in pieces:
            stream.add(token(piece))
            if piece.ids:
                stream.ids.extend(piece.ids)
            elif not (piece.t and stream.held.startswith(piece.t)):  # what was held back had its ids told before
                stream.exact = stream.kind != "text-gen"
            stream.held = piece.held
        self._store.texts.add(stream.seq, stream.job_id, _chunk(stream, first, known))
        _wake(stream)

    async def room(self, stream: Stream) -> None:
        """Wait until not too many token events wait for the disk."""
        while stream.congested:
            await _changed(stream)

    def notice(self, stream: Stream, kind: str, body: msgspec.Struct, *, now_ms: int, lasting: bool) -> int:
        """Add another event; a *lasting* one stays for later readers. Returns its serial."""
        serial = stream.next_serial(now_ms)
        event_id = EventId(stream.count, serial)
        encoded = (event_id, encode_event(kind, str(event_id), encode(body)))
        if lasting:
            stream.notices.append(encoded)
            stream.latest = stream.shown = None
        else:
            stream.latest = encoded
        _wake(stream)
        return serial

    def show(self, stream: Stream, kind: str, body: msgspec.Struct, *, now_ms: int) -> None:
        """Tell readers of the present state, unless it is what they were told last, or a place so soon after another.

        Whoever calls this does so again once a second.
        """
        soon = kind == "queued" and now_ms - stream.queued_ms < QUEUED_EVERY_MS
        if soon or stream.shown == (kind, body):
            return
        if kind == "queued":
            stream.queued_ms = now_ms
        stream.shown = (kind, body)
        self.notice(stream, kind, body, now_ms=now_ms, lasting=False)

    def finish(self, stream: Stream, row: JobRow) -> None:
        """End a stream with what the job's row says; readers get that and are done."""
        self.store_rest(stream)
        stream.final = terminal(row)
        stream.latest = None
        self._streams.pop(stream.job_id, None)
        _wake(stream)

    def store_rest(self, stream: Stream) -> None:
        """Hand every token event that is not stored yet to the store; memory keeps a tail once it is on disk."""
        if stream.stored == stream.count:
            return
        chunk = _chunk(stream, stream.stored, stream.stored_ids)
        stream.stored = stream.count
        stream.stored_ids = len(stream.ids)
        self._store.append(stream.seq, chunk, done=partial(_on_disk, stream, stream.stored))

    async def shorten_log(self) -> None:
        """Bring all text that only the text log has into the database, and begin that anew."""
        async with self._shortening:
            files = self._store.texts.rotate()
            for stream in self._streams.values():
                self.store_rest(stream)
            await self._store.writer.write(lambda _db: None)  # behind everything that was asked for until now
            erase(files)

    async def text(self, stream: Stream) -> str:
        """Return the text that a stream's token events carry, those on disk included."""
        stored: list[bytes] = []
        while len(stored) < stream.first:
            chunks = await self._store.output(stream.seq, start=len(stored))
            if not chunks:
                break
            stored += [block for _, count, chunk in chunks for block in chunk.split(b"\n\n")[:count]]
        blocks = [*stored[: stream.first], *stream.tokens]
        if sum(map(len, blocks)) < LARGE_TEXT_BYTES:
            return _text(blocks)
        return await asyncio.to_thread(_text, blocks)

    def _stream(self, job_id: JobId, seq: int) -> Stream:
        stream = self._streams.get(job_id)
        if stream is None:
            stream = self._streams[job_id] = Stream(job_id, seq)
        return stream

    def _forget(self, stream: Stream) -> None:
        """Forget a stream that nobody reads and that only readers have asked for."""
        if not (stream.readers or stream.kept) and self._streams.get(stream.job_id) is stream:
            self._streams.pop(stream.job_id, None)

    async def follow(self, job_id: JobId, after: EventId = START) -> AsyncGenerator[bytes, None]:
        """Yield a job's events behind *after* to its terminal one, then end. Quiet times hold comments.

        Raises:
            JobNotFound: No such job, or its output is not kept any more.
        """
        stream = self._streams.get(job_id)
        if stream is None:
            async for block in self._replay(job_id, after):
                yield block
            return
        stream.readers += 1
        self._on_read(stream)
        try:
            position = after
            while True:
                block, position = await self._next(stream, position)
                if block:
                    yield block
                elif stream.final is not None:
                    return
                elif not await _changed(stream):
                    yield KEEPALIVE
        finally:
            stream.readers -= 1
            if not stream.readers and stream.final is None:
                self._on_unread(job_id)
            self._forget(stream)

    async def _next(self, stream: Stream, position: EventId) -> tuple[bytes, EventId]:
        """Return the events behind *position* that are there, and the position behind them."""
        if position.tokens < stream.first:
            return await self._stored(stream.seq, stream.notices, position, stream.first)
        others = [*stream.notices, *filter(None, (stream.latest, stream.final))]
        parts: list[bytes] = []
        for event_id, encoded in others:
            if event_id <= position:
                continue
            position = _take(parts, stream, position, event_id.tokens)
            if position.tokens < event_id.tokens:
                return b"".join(parts), position
            parts.append(encoded)
            position = event_id
        position = _take(parts, stream, position, stream.count)
        return b"".join(parts), position

    async def _stored(
        self, seq: int, notices: Sequence[tuple[EventId, bytes]], position: EventId, end: int
    ) -> tuple[bytes, EventId]:
        """Return what is on disk between *position* and token *end*, with the notices that belong among it."""
        parts: list[bytes] = []
        rest = [notice for notice in notices if notice[0] > position and notice[0].tokens < end]
        for first, count, chunk in await self._store.output(seq, start=position.tokens):
            blocks = [block + b"\n\n" for block in chunk.split(b"\n\n")[:count]]
            for index, block in enumerate(blocks, start=first):
                while rest and rest[0][0].tokens <= index:
                    event_id, encoded = rest.pop(0)
                    parts.append(encoded)
                    position = event_id
                if position.tokens <= index < end:
                    parts.append(block)
                    position = EventId(index + 1, 0)
        if not parts:
            raise JobNotFound("the output of this job is not kept any more")
        return b"".join(parts), position

    async def _notices(self, seq: int) -> list[tuple[EventId, bytes]]:
        """Return the `started` events of a job as they were told, each with its id."""
        kept = [attempt.started for attempt in await self._store.attempts(seq) if attempt.started is not None]
        return [(parse_event_id(event.id), encoded) for encoded in kept if (event := parse_block(encoded))]

    async def _replay(self, job_id: JobId, after: EventId) -> AsyncGenerator[bytes, None]:
        """Yield the events of a job that has ended, from disk."""
        row = await self._store.get(job_id)
        if row is None:
            raise JobNotFound(f"there is no job {job_id}")
        if row.state not in FINAL:
            stream = self._stream(job_id, row.seq)
            stream.serial = max(stream.serial, row.submitted_ms)
            async for block in self.follow(job_id, after):
                yield block
            return
        notices = await self._notices(row.seq)
        position = after
        while position.tokens < row.pieces:
            block, position = await self._stored(row.seq, notices, position, row.pieces)
            yield block
        final_id, final = terminal(row)
        rest = [encoded for event_id, encoded in notices if position < event_id < final_id]
        if position < final_id:
            yield b"".join([*rest, final])


def _text(blocks: Sequence[bytes]) -> str:
    parsed = map(parse_block, blocks)
    return "".join(msgspec.json.decode(event.data, type=events.Token).t for event in parsed if event is not None)


def _take(parts: list[bytes], stream: Stream, position: EventId, end: int) -> EventId:
    """Add token events from *position* up to *end*, at most a block of them."""
    start = max(position.tokens, stream.first)
    end = min(end, stream.count)
    if end <= start:
        return position
    found = stream.take(start, end)
    parts += found
    return EventId(start + len(found), 0)


async def _changed(stream: Stream) -> bool:
    """Wait for the stream to change; False when it stayed quiet for the keep-alive time."""
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    stream.waiters.add(waiter)
    try:
        async with asyncio.timeout(KEEPALIVE_S):
            await waiter
    except TimeoutError:
        return False
    finally:
        stream.waiters.discard(waiter)
    return True


def _chunk(stream: Stream, first: int, known: int) -> Chunk:
    """Return the token events from index *first* on, behind *known* of the model's tokens."""
    fresh = stream.tokens[first - stream.first :]
    ids = stream.ids[known:].tobytes() if stream.exact else None
    return Chunk(first=first, count=len(fresh), events=b"".join(fresh), ids=ids, held=stream.held)


def _on_disk(stream: Stream, durable: int) -> None:
    """Drop token events from memory that are on disk, but for a tail."""
    if stream.congested:
        _wake(stream)
    stream.keep_tail(durable)


def _wake(stream: Stream) -> None:
    for waiter in stream.waiters:
        if not waiter.done():
            waiter.set_result(None)
    stream.waiters.clear()
