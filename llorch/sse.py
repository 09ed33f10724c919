"""Server-Sent Events: bytes to events and events to bytes. No I/O.

Source of the format: https://html.spec.whatwg.org/multipage/server-sent-events.html. We write one `event:`, one
`id:` and one `data:` line an event; we read any line ending, comments, and data over several lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

KEEPALIVE = b": keep-alive\n\n"
MAX_EVENT_BYTES = 8 * 1024 * 1024


class Event(NamedTuple):
    """One event as it was on the wire."""

    kind: str
    id: str
    data: bytes


def encode_event(kind: str, event_id: str, data: bytes) -> bytes:
    """Encode one event; *data* is one line of JSON."""
    return b"event: %b\nid: %b\ndata: %b\n\n" % (kind.encode(), event_id.encode(), data)


class EventTooLarge(ValueError):
    """A peer sent an event larger than `MAX_EVENT_BYTES`."""


class Splitter:
    """Cuts a byte stream into whole raw event blocks, each without its closing blank line.

    Cheap on purpose: the relay passes token events on as they came and never parses their JSON. Bytes are looked at
    once, however small the pieces they come in.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._last = b""
        self._held = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the blocks that are now whole.

        Raises:
            EventTooLarge: An event grew beyond `MAX_EVENT_BYTES`.
        """
        if self._held or b"\r" in data:
            data = self._with_one_ending(data)
        self._parts.append(data)
        self._size += len(data)
        border = self._last + data
        self._last = data[-1:] or self._last
        if b"\n\n" not in border:
            blocks: list[bytes] = []
        else:
            blocks = b"".join(self._parts).split(b"\n\n")
            rest = blocks.pop()
            self._parts, self._size, self._last = [rest], len(rest), rest[-1:]
        if self._size > MAX_EVENT_BYTES or any(len(block) > MAX_EVENT_BYTES for block in blocks):
            raise EventTooLarge
        return [block for block in blocks if block.strip(b"\n")]

    def _with_one_ending(self, data: bytes) -> bytes:
        """Make CRLF and CR to LF; a CR at the very end waits for the byte after it."""
        data = self._held + data
        self._held = b"\r" if data.endswith(b"\r") else b""
        return data[: len(data) - len(self._held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def parse_block(block: bytes) -> Event | None:
    """Parse one block from `Splitter`; None when it held only comments or had no data."""
    kind, event_id = "message", ""
    data: list[bytes] = []
    for line in block.split(b"\n"):
        name, colon, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event" and colon:
            kind = value.decode("utf-8", "replace")
        elif name == b"id" and colon and b"\0" not in value:
            event_id = value.decode("utf-8", "replace")
    return Event(kind, event_id, b"\n".join(data)) if data else None


def parse(data: bytes) -> Iterator[Event]:
    """Parse a whole stream held in memory."""
    for block in Splitter().feed(data + b"\n\n"):
        event = parse_block(block)
        if event is not None:
            yield event
