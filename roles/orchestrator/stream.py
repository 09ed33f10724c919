"""The events of one live job in memory: how many are kept, how many may wait. No I/O.

Limits are in token events, for a token costs more than its bytes, and in bytes, for an event can hold a whole vector.
"""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

import msgspec

from llorch.job import JobId
from llorch.wire.embedding import Capability
from llorch.wire.events import EventId

TAIL_TOKENS, TAIL_BYTES = 512, 1024 * 1024
"""Stored token events that stay in memory for readers that are nearly up to date."""
MAX_BLOCK_TOKENS, MAX_BLOCK_BYTES = 1_024, 1024 * 1024
"""Token events written to a reader in one piece."""
MAX_UNSTORED_TOKENS, MAX_UNSTORED_BYTES = 4_096, 8 * 1024 * 1024
"""Token events that may wait for the disk; beyond them nothing more is taken from the worker."""


@dataclass(slots=True)
class Stream:
    """The events of one live job. Written by the dispatcher alone."""

    job_id: JobId
    seq: int
    kind: Capability = "text-gen"
    """What the job is for: another than text is exact without the model's tokens, because each event is a whole."""
    first: int = 0
    """Index of the first token event that is still in memory."""
    tokens: list[bytes] = field(default_factory=list)
    ends: array[int] = field(default_factory=lambda: array("q", [0]))
    """Where each of them begins, in bytes since the stream was opened, and behind the last where it ends."""
    stored: int = 0
    """Token events handed to the store so far."""
    durable: int = 0
    """Token events on disk."""
    ids: array[int] = field(default_factory=lambda: array("i"))
    """The model's tokens behind all of its token events, while they are known; see `exact`."""
    exact: bool = True
    held: str = ""
    """Text of those tokens that no event holds yet."""
    stored_ids: int = 0
    notices: list[tuple[EventId, bytes]] = field(default_factory=list)
    """`started` events, in order."""
    latest: tuple[EventId, bytes] | None = None
    """The newest `queued`, `loading` or `metrics` event; only the newest matters."""
    shown: tuple[str, msgspec.Struct] | None = None
    queued_ms: int = 0
    """When readers were last told where the job stands in the queue."""
    final: tuple[EventId, bytes] | None = None
    serial: int = 0
    readers: int = 0
    kept: bool = False
    """Somebody writes to it or will: it stays when its last reader leaves."""
    waiters: set[asyncio.Future[None]] = field(default_factory=set)

    @property
    def count(self) -> int:
        """How many token events there have been."""
        return self.first + len(self.tokens)

    def next_serial(self, now_ms: int) -> int:
        """Return a serial for an event that is not a token: the time, but never the same twice."""
        self.serial = max(self.serial + 1, now_ms)
        return self.serial

    @property
    def fresh_bytes(self) -> int:
        """How large the token events are that the store has not been given."""
        return self.size(self.stored, self.count)

    @property
    def congested(self) -> bool:
        """Whether too much waits for the disk."""
        waiting = self.count - self.durable
        return waiting > MAX_UNSTORED_TOKENS or self.size(self.durable, self.count) > MAX_UNSTORED_BYTES

    def add(self, block: bytes) -> None:
        """Add an encoded token event."""
        self.tokens.append(block)
        self.ends.append(self.ends[-1] + len(block))

    def size(self, start: int, stop: int) -> int:
        """Return how many bytes the token events from *start* up to *stop* have, all of which are in memory."""
        return self.ends[stop - self.first] - self.ends[start - self.first]

    def take(self, start: int, end: int) -> list[bytes]:
        """Return token events in memory from *start* up to *end*, as many as are written to a reader in one piece."""
        begin = start - self.first
        most = bisect_right(self.ends, self.ends[begin] + MAX_BLOCK_BYTES) - 1
        return self.tokens[begin : min(end - self.first, begin + MAX_BLOCK_TOKENS, max(begin + 1, most))]

    def keep_tail(self, durable: int) -> None:
        """Drop token events that are on disk, as all up to *durable* are, but for a tail; not for a few."""
        self.durable = durable
        beyond = max(len(self.tokens) - TAIL_TOKENS, bisect_left(self.ends, self.ends[-1] - TAIL_BYTES))
        surplus = min(durable - self.first, beyond)
        if surplus > TAIL_TOKENS or (surplus > 0 and self.ends[surplus] - self.ends[0] > TAIL_BYTES):
            del self.tokens[:surplus], self.ends[:surplus]
            self.first += surplus
