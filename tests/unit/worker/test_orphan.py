"""When a worker that its pool has left ends, and how long it tries to reach one."""

from __future__ import annotations

from itertools import islice

import pytest

from roles.worker.orphan import CALLBACK_TRIES, LONGEST_CALLBACK_WAIT_S, callback_waits, orphaned


@pytest.mark.parametrize(
    ("silent_s", "busy", "ends"), [(9.9, False, False), (10.0, False, True), (10.0, True, False), (1e6, True, False)]
)
def test_only_an_idle_worker_that_has_heard_nothing_for_long_is_an_orphan(
    silent_s: float, busy: bool, ends: bool
) -> None:
    assert orphaned(silent_s, limit_s=10.0, busy=busy) is ends


def test_a_worker_that_nobody_manages_gives_up_soon() -> None:
    assert len(list(callback_waits(patient=False))) == CALLBACK_TRIES


def test_a_managed_worker_never_gives_up_but_asks_ever_less_often() -> None:
    waits = list(islice(callback_waits(patient=True), 100))

    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_CALLBACK_WAIT_S
