"""Samples of all devices: taken once for everybody who asks at about the same time."""

from __future__ import annotations

from roles.pool.gpu_inventory.sampler import Sampler


async def test_a_young_sample_is_used_again_and_an_old_one_is_not() -> None:
    sampler = Sampler()

    before = sampler.newest
    first = await sampler.sample()
    again = await sampler.sample(max_age_s=60)
    fresh = await sampler.sample(max_age_s=0)
    sampler.close()

    assert before == []
    assert first is again
    assert fresh is not again
    assert fresh is sampler.newest
    assert first[0].id == "cpu"
