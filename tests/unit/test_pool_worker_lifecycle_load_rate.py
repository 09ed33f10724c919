"""How long a load may take on a host that has loaded others."""

from __future__ import annotations

import pytest

from roles.pool.worker_lifecycle.load_rate import KEPT, LARGE_BYTES, LoadRate

GB = 1_000_000_000


def after(*loads: tuple[int, int]) -> float:
    """Return the time for 40 GB after those loads: bytes, and milliseconds."""
    rate = LoadRate()
    for weights_bytes, load_ms in loads:
        rate.saw(weights_bytes, load_ms)
    return rate.time_s(40 * GB)


@pytest.mark.parametrize(
    ("loads", "time_s"),
    [
        ([], 400),
        ([(2_000_000, 2500)], 400),
        ([(LARGE_BYTES - 1, 60_000)], 400),
        ([(4 * GB, 0)], 400),
        ([(4 * GB, 1000)], 400),
        ([(4 * GB, 80_000)], 800),
        ([(4 * GB, 1000), (4 * GB, 80_000), (4 * GB, 1000)], 800),
        ([(4 * GB, 40_000_000)], 8000),
    ],
)
def test_only_large_loads_that_were_slow_buy_time_and_never_without_bound(
    loads: list[tuple[int, int]], time_s: float
) -> None:
    assert after(*loads) == pytest.approx(time_s)


def test_a_slow_load_is_forgotten_after_some_that_were_not() -> None:
    slow, fast = (4 * GB, 80_000), (4 * GB, 10_000)

    assert after(slow, *[fast] * (KEPT - 1)) == pytest.approx(800)
    assert after(slow, *[fast] * KEPT) == pytest.approx(400)
