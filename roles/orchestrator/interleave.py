"""Several streams read at once, as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def interleaved(sources: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[tuple[int, T], None]:
    """Yield what comes from each of *sources*, with that one's number, as it comes; closes them all at its end.

    A source that has something ready does not wait for another; each has at most one item read ahead. Whatever one of
    them raises ends this. What an item costs does not depend on how many sources there are.
    """
    if len(sources) == 1:  # as nearly always: each task would cost more than what it waits for
        async with aclosing(sources[0]) as only:
            async for item in only:
                yield 0, item
        return
    reading: dict[asyncio.Task[tuple[T] | None], int] = {}
    read: asyncio.Queue[asyncio.Task[tuple[T] | None]] = asyncio.Queue()

    def begin(index: int) -> None:
        # A TaskGroup would wrap what is raised, and a generator that is closed raises; each task is waited for below.
        task = asyncio.create_task(_item(sources[index]), name=f"source {index}")  # noqa: TID251
        reading[task] = index
        task.add_done_callback(read.put_nowait)

    try:
        for index in range(len(sources)):
            begin(index)
        while reading:
            task = await read.get()
            index = reading.pop(task)
            if found := task.result():
                yield index, found[0]
                begin(index)
    finally:
        for task in reading:
            task.cancel()
        if reading:
            await asyncio.wait(reading)
        for source in sources:
            await source.aclose()


async def _item(source: AsyncIterator[T]) -> tuple[T] | None:
    """Return the next item, or nothing at the end; a task cannot raise what says that."""
    async for item in source:
        return (item,)
    return None
