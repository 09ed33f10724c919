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
    them raises ends this.
    """
    if len(sources) == 1:  # as nearly always: each task would cost more than what it waits for
        async with aclosing(sources[0]) as only:
            async for item in only:
                yield 0, item
        return
    pending = {_next(source): index for index, source in enumerate(sources)}
    try:
        while pending:
            done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=pending.__getitem__):
                index = pending.pop(task)
                if found := task.result():
                    yield index, found[0]
                    pending[_next(sources[index])] = index
    finally:
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)
        for source in sources:
            await source.aclose()


def _next(source: AsyncIterator[T]) -> asyncio.Task[tuple[T] | None]:
    # A TaskGroup would wrap what is raised, and a generator that is closed raises; each task is waited for above.
    return asyncio.create_task(_item(source))  # noqa: TID251


async def _item(source: AsyncIterator[T]) -> tuple[T] | None:
    """Return the next item, or nothing at the end; a task cannot raise what says that."""
    async for item in source:
        return (item,)
    return None
