"""Samples of all devices: taken once for everybody who asks at about the same time."""

from __future__ import annotations

import threading

import pytest

from roles.pool.gpu_inventory import sampler as sampler_module
from roles.pool.gpu_inventory.sampler import Sampler
from tests.support.nvml_session import Player
from tests.support.open_files import none_left


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


async def test_gpus_are_sampled_beside_the_cpu_and_a_slow_driver_blocks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    player, release = Player("h200x8"), threading.Event()
    monkeypatch.setattr(sampler_module, "PATIENCE_S", 0.05)
    sampler = Sampler(library=player)
    first = await sampler.sample(max_age_s=0)
    monkeypatch.setattr(player, "nvmlDeviceGetCount", lambda: release.wait(30) and 8, raising=False)

    stale = await sampler.sample(max_age_s=0)
    release.set()
    sampler.close()

    assert [device.id for device in first] == ["cpu", *(f"cuda:{index}" for index in range(8))]
    assert stale is first
    assert sampler.cost_s > 0


async def test_without_open_files_left_the_last_sample_is_what_there_is() -> None:
    sampler = Sampler()
    first = await sampler.sample()

    with none_left():
        meanwhile = await sampler.sample(max_age_s=0)
    later = await sampler.sample(max_age_s=0)
    sampler.close()

    assert meanwhile is first
    assert later is not first


async def test_what_some_processes_hold_of_a_gpu_is_added_up() -> None:
    sampler = Sampler(library=Player("h200x8"))

    held = [
        await sampler.held_bytes(devices, is_part)
        for devices, is_part in (
            (["cuda:0"], lambda pid: pid == 4_000_002),
            (["cuda:0", "cuda:1"], lambda _: True),
            (["cuda:1"], lambda _: True),
            (["cpu"], lambda _: True),
        )
    ]
    sampler.close()

    assert held == [20 * 2**30, 110 * 2**30, 0, 0]
