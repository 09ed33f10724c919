"""The last events of one job, in order, so that a reader who lost its connection can go on. Pure.

Positions count all events of the job from 0; they stay valid when old events are let go.
"""

from __future__ import annotations

from bisect import bisect_right

from llorch import errors

Id = tuple[int, int]


class Replay:
    """Events by id, at most about *limit_bytes* of them. Written by the job's own task only."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._ids: list[Id] = []
        self._events: list[bytes] = []
        self._gone = 0
        self._last_gone: Id = (-1, -1)
        self._size_bytes = 0

    @property
    def end(self) -> int:
        """The position behind the last event."""
        return self._gone + len(self._events)

    @property
    def full(self) -> bool:
        """Whether the kept events exceed the limit."""
        return self._size_bytes > self._limit_bytes

    def append(self, event_id: Id, event: bytes) -> None:
        """Add an event; ids only ever grow."""
        self._ids.append(event_id)
        self._events.append(event)
        self._size_bytes += len(event)

    def position_after(self, event_id: Id) -> int:
        """Return the position of the first event after *event_id*.

        Raises:
            JobNotFound: Events that come after it are no longer kept.
        """
        if event_id < self._last_gone:
            raise errors.JobNotFound("the events after that id are no longer kept")
        return self.first_after(event_id)

    def first_after(self, event_id: Id) -> int:
        """Return the position of the first event after *event_id* that is kept or still to come."""
        return self._gone + bisect_right(self._ids, event_id)

    def read(self, position: int) -> bytes | None:
        """Return all events from *position* on; None when the first of them is no longer kept."""
        if position < self._gone:
            return None
        return b"".join(self._events[position - self._gone :])

    def let_go(self, position: int) -> None:
        """Forget events before *position*, oldest first, until half of the limit is free."""
        count = 0
        while count < position - self._gone and self._size_bytes > self._limit_bytes // 2:
            self._size_bytes -= len(self._events[count])
            count += 1
        if count:
            self._last_gone = self._ids[count - 1]
            del self._ids[:count], self._events[:count]
            self._gone += count
