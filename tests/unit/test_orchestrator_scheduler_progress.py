"""How long a worker that was asked for is waited for, until its pool shows it."""

from __future__ import annotations

from roles.orchestrator.scheduler.facts import Facts
from roles.orchestrator.scheduler.progress import Loading
from tests.support.supplies import NOW_MS, decided, started, supply
from tests.support.worlds import GIB, device, model


def test_a_worker_that_was_asked_for_counts_as_starting_while_its_pool_says_nothing() -> None:
    here = Facts(devices=[device()], models=[model("m")])
    known = supply(p=here)
    known.asked("w", Loading("w", "p", "m", "d", known=True), need_bytes=GIB, now_ms=NOW_MS)

    def starts(after_ms: int) -> list[tuple[str, str]]:
        known.forget_unseen(now_ms=NOW_MS + after_ms)
        return started(decided(known, now_ms=NOW_MS + after_ms))

    known.hear("p", here, now_ms=NOW_MS + 1_999)  # may have been written down before
    silent = starts(59_999)
    known.hear("p", here, now_ms=NOW_MS + 2_000)

    assert (silent, starts(9_999), starts(10_000)) == ([], [], [("p", "d")])


def test_a_worker_of_a_pool_that_never_says_anything_is_not_waited_for_for_ever() -> None:
    known = supply(p=Facts(devices=[device()], models=[model("m")]))
    known.asked("w", Loading("w", "p", "m", "d", known=True), need_bytes=GIB, now_ms=NOW_MS)

    known.forget_unseen(now_ms=NOW_MS + 60_000)

    assert started(decided(known, now_ms=NOW_MS + 60_000)) == [("p", "d")]
