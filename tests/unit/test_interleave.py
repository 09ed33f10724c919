"""Streams that are read as one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from llorch.errors import EngineFailed
from roles.orchestrator.interleave import interleaved


class Source:
    """A stream that tells when it is closed; its items come when they are put."""

    def __init__(self) -> None:
        self.items: asyncio.Queue[str | Exception] = asyncio.Queue()
        self.closed = False

    async def read(self) -> AsyncGenerator[str, None]:
        """Yield items until an empty one."""
        try:
            while item := await self.items.get():
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed = True

    def put(self, *items: str | Exception) -> None:
        """Have items come."""
        for item in items:
            self.items.put_nowait(item)


async def test_what_comes_first_is_told_first_whichever_it_comes_from() -> None:
    one, two = Source(), Source()
    found = interleaved([one.read(), two.read()])

    two.put("a")
    first = await anext(found)
    one.put("b", "c")
    rest = [await anext(found), await anext(found)]
    two.put("d", "")
    later = await anext(found)
    one.put("")
    end = [item async for item in found]

    assert [first, *rest, later] == [(1, "a"), (0, "b"), (0, "c"), (1, "d")]
    assert end == []


async def test_one_that_has_much_to_tell_does_not_hold_up_the_other() -> None:
    one, two = Source(), Source()
    one.put(*"abcdefgh", "")
    two.put(*"ABCDEFGH", "")

    found = [item async for item in interleaved([one.read(), two.read()])]

    assert [item for index, item in found if index == 0] == [*"abcdefgh"]
    assert [item for index, item in found if index == 1] == [*"ABCDEFGH"]
    assert {index for index, _ in found[:4]} == {0, 1}


async def test_an_error_of_one_ends_all_and_a_reader_that_leaves_closes_all() -> None:
    failing, other = Source(), Source()
    failing.put("a", EngineFailed("it broke"))
    with pytest.raises(EngineFailed, match="it broke"):
        [item async for item in interleaved([failing.read(), other.read()])]

    left, behind = Source(), Source()
    left.put("a")
    async with aclosing(interleaved([left.read(), behind.read()])) as found:
        await anext(found)

    assert [failing.closed, other.closed, left.closed, behind.closed] == [True] * 4


async def test_one_alone_is_told_as_it_is_and_closed() -> None:
    alone, left = Source(), Source()
    alone.put("a", "b", "")
    left.put("a")
    found = [item async for item in interleaved([alone.read()])]
    async with aclosing(interleaved([left.read()])) as some:
        await anext(some)

    assert found == [(0, "a"), (0, "b")]
    assert (alone.closed, left.closed) == (True, True)


async def test_none_at_all_is_over_at_once() -> None:
    assert [item async for item in interleaved(list[AsyncGenerator[str, None]]())] == []


async def test_a_source_that_is_alone_is_read_by_its_reader_itself_and_closed() -> None:
    closed = asyncio.Event()

    async def tasks() -> AsyncGenerator[asyncio.Task[object] | None, None]:
        try:
            while True:
                yield asyncio.current_task()
        finally:
            closed.set()

    async with aclosing(interleaved([tasks()])) as found:
        items = [await anext(found), await anext(found)]

    assert items == [(0, asyncio.current_task())] * 2
    assert closed.is_set()


async def test_an_item_costs_the_same_however_many_sources_are_silent() -> None:
    few, many = await _calls(silent=1), await _calls(silent=300)

    assert many < 2 * few


async def _calls(*, silent: int) -> int:
    """Return how many functions are called while one source tells 50 items and others tell nothing."""
    telling, count = Source(), 0
    telling.put(*"a" * 51)

    def called(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    async with aclosing(interleaved([telling.read(), *(Source().read() for _ in range(silent))])) as found:
        await anext(found)
        await anext(found)  # now all others wait
        before = sys.getprofile()
        sys.setprofile(called)
        try:
            for _ in range(49):
                await anext(found)
        finally:
            sys.setprofile(before)
    return count
