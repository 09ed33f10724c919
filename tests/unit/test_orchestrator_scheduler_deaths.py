"""How long no replica is started where one has died: longer with every short life, not at all after a long one."""

from __future__ import annotations

import pytest
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from roles.orchestrator.scheduler.deaths import LONG_LIFE_MS, Deaths
from tests.support.worlds import report

NOW_MS = 1_000_000


def die(known: Deaths, *, after_ms: int, first: str = "ready", ready_ms: int | UnsetType = 1) -> list[int]:
    """Let a worker be there for a while; return the first and the last second in which no other is started."""
    worker = report("w", "m")
    known.heard("p", [replace(worker, status=first)], now_ms=NOW_MS)
    died_ms = NOW_MS + after_ms
    known.heard("p", [replace(worker, status="failed", ready_ms=ready_ms)], now_ms=died_ms)
    known.heard("p", [replace(worker, status="failed", ready_ms=ready_ms)], now_ms=died_ms + 1)
    blocked = [s for s in range(200) if known.blocked("m", now_ms=died_ms + 1_000 * s) == {("p", "d")}]
    known.heard("p", [], now_ms=died_ms)
    return blocked[:1] + blocked[-1:]


def test_pauses_double_with_each_short_life_and_a_long_one_ends_them() -> None:
    known = Deaths()

    pauses = [die(known, after_ms=ms) for ms in (1, LONG_LIFE_MS - 1, 1, *[1] * 5, LONG_LIFE_MS, 1)]

    assert pauses == [[0, 1], [0, 3], [0, 7], [0, 15], [0, 31], [0, 63], [0, 119], [0, 119], [], [0, 1]]


@pytest.mark.parametrize(("first", "ready_ms", "expected"), [("starting", 1, [0, 1]), ("starting", UNSET, [])])
def test_a_worker_that_was_never_ready_is_not_meant(first: str, ready_ms: int | UnsetType, expected: list[int]) -> None:
    assert die(Deaths(), after_ms=1, first=first, ready_ms=ready_ms) == expected


def test_what_had_failed_before_a_pool_came_is_not_meant_nor_what_a_pool_had_that_is_gone() -> None:
    known, failed = Deaths(), replace(report("w", "m"), status="failed", ready_ms=1)
    known.heard("p", [failed], now_ms=NOW_MS)
    before = known.blocked("m", now_ms=NOW_MS)

    pause = die(known, after_ms=1)
    known.leave("p")

    assert (before, pause) == (set(), [0, 1])
    assert known.blocked("m", now_ms=NOW_MS + 2) == set()
