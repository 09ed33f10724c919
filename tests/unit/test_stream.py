"""How much of a live job's events is in memory, is told at once, and may wait for the disk."""

from __future__ import annotations

import pytest

from llorch.job import JobId
from roles.orchestrator.stream import (
    MAX_BLOCK_BYTES,
    MAX_BLOCK_TOKENS,
    MAX_UNSTORED_BYTES,
    MAX_UNSTORED_TOKENS,
    TAIL_BYTES,
    TAIL_TOKENS,
    Stream,
)

VECTOR = b"v" * 32 * 1024
FEW = TAIL_BYTES // len(VECTOR)


def stream(block: bytes, count: int) -> Stream:
    found = Stream(JobId("j"), 1)
    for _ in range(count):
        found.add(block)
    return found


@pytest.mark.parametrize(("block", "most"), [(b"t", MAX_UNSTORED_TOKENS), (VECTOR, MAX_UNSTORED_BYTES // len(VECTOR))])
def test_so_many_events_or_bytes_may_wait_for_the_disk_and_no_more(block: bytes, most: int) -> None:
    full, over, relieved = stream(block, most), stream(block, most + 1), stream(block, most + 1)

    relieved.keep_tail(1)

    assert (full.congested, over.congested, relieved.congested) == (False, True, False)


@pytest.mark.parametrize(("block", "tail"), [(b"t", TAIL_TOKENS), (VECTOR, FEW)])
def test_a_tail_stays_in_memory_of_what_is_on_disk(block: bytes, tail: int) -> None:
    count = 5 * tail
    found = stream(block, count)

    found.keep_tail(count)

    assert (found.first, len(found.tokens), found.count, found.size(found.first, count)) == (
        count - tail,
        tail,
        count,
        tail * len(block),
    )


@pytest.mark.parametrize(("block", "tail"), [(b"t", TAIL_TOKENS), (VECTOR, FEW)])
def test_a_few_are_not_worth_dropping_and_nothing_is_dropped_that_is_not_on_disk(block: bytes, tail: int) -> None:
    few, unstored = stream(block, 2 * tail), stream(block, 5 * tail)

    few.keep_tail(2 * tail)
    unstored.keep_tail(3 * tail)

    assert (few.first, unstored.first) == (0, 3 * tail)


def test_a_reader_is_given_a_block_and_at_least_one_event() -> None:
    small, vectors, huge = stream(b"t", 2 * MAX_BLOCK_TOKENS), stream(VECTOR, 3 * FEW), stream(b"h", 1)
    huge.add(b"h" * 2 * MAX_BLOCK_BYTES)

    assert len(small.take(5, small.count)) == MAX_BLOCK_TOKENS
    assert len(small.take(5, 9)) == 4
    assert len(vectors.take(5, vectors.count)) == MAX_BLOCK_BYTES // len(VECTOR)
    assert [len(huge.take(start, 2)) for start in (0, 1)] == [1, 1]


def test_what_was_dropped_is_not_counted_among_what_the_store_has_not_been_given() -> None:
    found = stream(VECTOR, 5 * FEW)
    found.stored = 5 * FEW
    found.keep_tail(5 * FEW)

    found.add(b"fresh")

    assert found.fresh_bytes == len(b"fresh")
