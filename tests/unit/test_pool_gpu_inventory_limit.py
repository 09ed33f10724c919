"""A device that a pool may use in part: never larger than the limit, never freer than the device."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from roles.pool.gpu_inventory.limit import limited
from tests.support.worlds import device

GIB = 2**30


@pytest.mark.parametrize(("limit", "left"), [(0, 5), (8, 5), (6, 3), (3, 0), (2, 0)])
def test_what_others_hold_comes_first_off_what_this_pool_may_not_use(limit: int, left: int) -> None:
    measured = replace(device("d", gib=8, free_gib=3), others_bytes=5 * GIB)

    (found,) = limited([measured], {}, limit_bytes=limit * GIB)

    assert found.others_bytes == left * GIB


@pytest.mark.parametrize(
    ("limit", "taken", "total", "free"),
    [(0, 0, 8, 6), (9, 0, 8, 6), (4, 0, 4, 4), (4, 1, 4, 3), (4, 5, 4, 0), (7, 0, 7, 6)],
)
def test_only_what_its_own_workers_have_taken_counts_against_the_limit(
    limit: int, taken: int, total: int, free: int
) -> None:
    measured = device("d", gib=8, free_gib=6)

    (found,) = limited([measured], {"d": taken * GIB}, limit_bytes=limit * GIB)

    assert found == replace(
        measured,
        memory_total_bytes=total * GIB,
        memory_free_bytes=free * GIB,
        memory_used_bytes=(total - free) * GIB,
    )
