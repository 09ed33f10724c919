"""What a reader of a job's events has seen, connection by connection, and a reader that keeps such a record.

Parses the stream by itself and strictly, so that it does not share a mistake with what it watches.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

import aiohttp

TERMINAL = frozenset({"end", "error"})
SILENCE_S = 60.0
LATER = frozenset({429, 503, 507})
"""Answers that say: try again."""


class Seen(NamedTuple):
    """One event as it was on the wire; its id as two integers."""

    kind: str
    id: tuple[int, int]
    data: bytes


@dataclass(slots=True)
class Transcript:
    """Everything one reader saw of one job."""

    job_id: str
    reader: str
    events: list[Seen] = field(default_factory=list)
    connections: int = 0
    problems: list[str] = field(default_factory=list)
    """What was wrong on the wire."""

    @property
    def ended(self) -> bool:
        """Whether it has seen a terminal event."""
        return bool(self.events) and self.events[-1].kind in TERMINAL


@dataclass(frozen=True, slots=True)
class Habits:
    """How somebody reads."""

    delay_s: float = 0.0
    pause_s: float = 0.0
    """Between one piece of the stream and the next: a slow reader."""
    leave_at: tuple[int, ...] = ()
    """Leaves after so many events, and comes back."""
    by_query: bool = False
    """Says where to go on in the address, not in a header."""


def parse(block: bytes) -> Seen | None:
    """Parse one block of a stream; None for a comment.

    Raises:
        ValueError: It is not exactly one `event:`, one `id:` and one `data:` line.
    """
    if block.startswith(b":"):
        return None
    kind, event_id, data = block.split(b"\n")
    if not (kind.startswith(b"event: ") and event_id.startswith(b"id: ") and data.startswith(b"data: ")):
        raise ValueError(block)
    tokens, serial = event_id.removeprefix(b"id: ").decode().split(".")
    return Seen(kind.removeprefix(b"event: ").decode(), (int(tokens), int(serial)), data.removeprefix(b"data: "))


async def blocks(response: aiohttp.ClientResponse, pause_s: float) -> AsyncIterator[bytes]:
    """Yield whole blocks as they come; what is left of one when the connection ends is no event."""
    rest = b""
    while True:
        async with asyncio.timeout(SILENCE_S):
            data = await (response.content.read(96) if pause_s else response.content.readany())
        if not data:
            return
        rest += data
        *whole, rest = rest.split(b"\n\n")
        for block in whole:
            yield block
        if pause_s:
            await asyncio.sleep(pause_s)


async def take(transcript: Transcript, response: aiohttp.ClientResponse, habits: Habits) -> None:
    """Write down what one connection brings, until it ends or the reader leaves."""
    transcript.connections += 1
    stops = {stop for stop in habits.leave_at if stop > len(transcript.events)}
    async for block in blocks(response, habits.pause_s):
        try:
            seen = parse(block)
        except ValueError as error:
            transcript.problems.append(f"not an event: {error}")
            return
        if seen is None:
            continue
        if transcript.ended:
            transcript.problems.append(f"{seen.kind} {seen.id} came behind the terminal event")
        transcript.events.append(seen)
        if len(transcript.events) in stops and not transcript.ended:
            return


async def follow(http: aiohttp.ClientSession, transcript: Transcript, habits: Habits, random: Random) -> None:
    """Read a job's events to the terminal one, over as many connections as that takes."""
    path = f"/v2/tasks/{transcript.job_id}/events"
    while not transcript.ended:
        position = "{}.{}".format(*transcript.events[-1].id) if transcript.events else ""
        headers = {"Last-Event-ID": position} if position and not habits.by_query else {}
        params = {"after": position} if position and habits.by_query else {}
        try:
            async with http.get(path, headers=headers, params=params) as response:
                if response.status == 200:
                    await take(transcript, response, habits)
                elif response.status not in LATER:
                    transcript.problems.append(f"{response.status} {await response.text()}")
                    return
        except (aiohttp.ClientError, OSError, TimeoutError):
            pass  # a broken connection: it comes back
        await asyncio.sleep(random.uniform(0.01, 0.3))
