"""A model over several devices: each gets what it has room for, whole layers in order, and nothing is lost."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from roles.pool.worker_lifecycle.estimate import Estimate
from roles.pool.worker_lifecycle.split import split
from tests.unit.test_pool_worker_lifecycle_preflight import MODEL

GIB = 2**30
LARGE = replace(
    MODEL,
    block_count=80,
    embedding_length=8192,
    vocab_size=128_000,
    parameters=70 * 10**9,
    kv_heads=(8,) * 80,
    weights_bytes=40 * GIB,
)
NEEDED = Estimate(weights_bytes=40 * GIB, kv_bytes=4 * GIB, compute_bytes=GIB)


def test_as_few_devices_as_it_takes_get_it_and_those_with_most_room() -> None:
    shares = split(LARGE, NEEDED, {"cuda:0": 10 * GIB, "cuda:1": 40 * GIB, "cuda:2": 24 * GIB})

    assert [share.device for share in shares] == ["cuda:1", "cuda:2"]
    assert sum(share.layers for share in shares) == LARGE.block_count + 1  # the output, too
    assert shares[0].layers > shares[1].layers


def test_a_model_that_fits_all_of_them_together_only_is_laid_over_all_in_their_order() -> None:
    shares = split(LARGE, NEEDED, {f"cuda:{n}": 15 * GIB for n in range(4)})

    assert [share.device for share in shares] == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]
    assert max(share.layers for share in shares) - min(share.layers for share in shares) <= 2


@pytest.mark.parametrize(
    "free",
    [{"cuda:0": 90 * GIB}, {"cuda:0": 24 * GIB, "cuda:1": 20 * GIB}, {"cuda:0": 49 * GIB, "cuda:1": GIB}, {}],
)
def test_too_little_is_too_little(free: dict[str, int]) -> None:
    assert split(LARGE, NEEDED, free) == ()


def test_a_file_that_does_not_tell_its_layers_is_not_split() -> None:
    free = {"cuda:0": 90 * GIB, "cuda:1": 90 * GIB}

    assert split(replace(LARGE, block_count=0), NEEDED, free) == ()
    assert split(replace(LARGE, parameters=0), NEEDED, free) == ()


@pytest.mark.parametrize("seed", range(60))
def test_no_device_gets_more_than_it_has_and_all_of_the_model_is_somewhere(seed: int) -> None:
    random = Random(seed)
    free = {f"cuda:{n}": random.randrange(60) * GIB for n in range(random.randint(1, 8))}
    model = replace(LARGE, block_count=random.randint(20, 90))

    shares = split(model, NEEDED, free)

    assert all(share.memory_bytes <= free[share.device] for share in shares)
    if shares:
        assert sum(share.layers for share in shares) == model.block_count + 1
        assert all(share.layers > 0 for share in shares)
        assert sum(share.memory_bytes for share in shares) >= NEEDED.total_bytes
    else:
        assert sum(free.values()) < NEEDED.total_bytes * 2 or len(free) == 1
