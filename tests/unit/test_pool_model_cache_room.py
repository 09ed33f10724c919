"""Room for a model: what is left, what would have to go, and what never goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llorch.errors import DiskFull
from llorch.wire.models import Origin, StoredModel
from roles.pool.model_cache.room import MARGIN_BYTES, Space, make, victims

GB = 10**9


def model(
    name: str,
    size: int,
    *,
    used: int = 0,
    added: int = 0,
    origin: Origin = "hub",
    pinned: bool = False,
    in_use: bool = False,
) -> StoredModel:
    return StoredModel(
        model_id=name,
        model_ref=f"hf:o/{name}",
        origin=origin,
        size_bytes=size,
        files=[],
        last_used_ms=used,
        added_ms=added,
        pinned=pinned,
        in_use=in_use,
    )


def names(models: list[StoredModel], shortage: int) -> list[str] | None:
    plan = victims(models, shortage)
    return None if plan is None else [victim.model_id for victim in plan]


def test_the_least_recently_used_go_first_and_just_enough() -> None:
    models = [model("a", 3, used=30), model("b", 3, used=10), model("c", 3, used=20)]

    assert names(models, 1) == ["b"]
    assert names(models, 4) == ["b", "c"]
    assert names(models, 9) == ["b", "c", "a"]
    assert names(models, 10) is None


def test_a_new_model_that_was_never_used_is_not_the_oldest() -> None:
    assert names([model("new", 3, added=50), model("old", 3, used=20)], 1) == ["old"]


def test_a_small_one_stays_when_a_later_one_is_enough() -> None:
    assert names([model("small", 1, used=1), model("large", 9, used=2)], 9) == ["large"]


def test_pinned_models_models_in_use_and_files_of_the_user_never_go() -> None:
    models = [
        model("pinned", 9, pinned=True),
        model("running", 9, in_use=True),
        model("mine", 9, origin="file"),
        model("registered", 9, origin="registered"),
        model("builtin", 9, origin="builtin"),
    ]

    assert names(models, 1) is None


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 9))), st.integers(1, 200))
def test_a_plan_is_enough_and_no_part_of_it_is_needless(sizes: list[tuple[int, int]], shortage: int) -> None:
    models = [model(f"m{n}", size, used=used) for n, (size, used) in enumerate(sizes)]

    plan = victims(models, shortage)

    if plan is None:
        assert sum(size for size, _ in sizes) < shortage
    else:
        freed = sum(victim.size_bytes for victim in plan)
        assert freed >= shortage
        assert all(freed - victim.size_bytes < shortage for victim in plan)


def test_the_tighter_of_disk_and_budget_counts_and_so_does_what_is_promised() -> None:
    disk = Space(total_bytes=1000 * GB, free_bytes=10 * GB, models_bytes=5 * GB)
    budget = Space(total_bytes=1000 * GB, free_bytes=10 * GB, models_bytes=5 * GB, budget_bytes=8 * GB)
    promised = Space(
        total_bytes=1000 * GB, free_bytes=10 * GB, models_bytes=5 * GB, budget_bytes=8 * GB, promised_bytes=2 * GB
    )

    assert disk.available_bytes() == 10 * GB - MARGIN_BYTES
    assert budget.available_bytes() == 3 * GB
    assert promised.available_bytes() == 1 * GB
    assert Space(total_bytes=100, free_bytes=0, models_bytes=0).available_bytes() == 0


def test_a_refusal_shows_the_bytes_and_the_plan_and_evict_carries_it_out() -> None:
    space = Space(total_bytes=1000 * GB, free_bytes=100 * GB, models_bytes=7 * GB, budget_bytes=8 * GB)
    models = [model("a", 4 * GB, used=2), model("b", 3 * GB, used=1)]

    with pytest.raises(DiskFull) as refused:
        make(space, models, 3 * GB, evict=False)
    plan = make(space, models, 3 * GB, evict=True)

    assert refused.value.details == {
        "required_bytes": 3 * GB,
        "available_bytes": 1 * GB,
        "evict": [{"model_id": "b", "model_ref": "hf:o/b", "size_bytes": 3 * GB}],
    }
    assert "the models' budget has 1.0 GB left" in refused.value.message
    assert [victim.model_id for victim in plan] == ["b"]
    assert make(space, models, 1 * GB, evict=False) == []


def test_what_can_never_fit_is_refused_even_with_evict() -> None:
    space = Space(total_bytes=10 * GB, free_bytes=GB, models_bytes=GB)

    with pytest.raises(DiskFull, match="delete other models, or choose a smaller one"):
        make(space, [model("a", GB)], 9 * GB, evict=True)
