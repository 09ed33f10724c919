"""How much of each device is left to other programs."""

from __future__ import annotations

import pytest

from llorch import config
from llorch.errors import InvalidConfiguration
from llorch.wire.pools import Device
from roles.pool.gpu_inventory.reserve import Reserve, parse


def device(name: str, uuid: str) -> Device:
    return Device(
        id=name,
        uuid=uuid,
        name=name,
        backend="cpu",
        memory_total_bytes=10,
        memory_used_bytes=0,
        memory_free_bytes=10,
    )


CPU, GPU = device("cpu", "CPU-1"), device("cuda:0", "GPU-1")


@pytest.mark.parametrize(
    ("text", "cpu", "gpu"),
    [
        ("", 5, 5),
        ("cuda:0=7", 5, 7),
        (" GPU-1 = 8 , cpu=0 ", 0, 8),
        ("cuda:0=7,GPU-1=9", 5, 9),
    ],
)
def test_a_single_device_goes_before_all_of_them_and_its_uuid_before_its_id(text: str, cpu: int, gpu: int) -> None:
    found = parse(5, text).applied([CPU, GPU])

    assert [device.reserve_bytes for device in found] == [cpu, gpu]


def test_names_that_are_no_device_are_known() -> None:
    assert Reserve(0, {"cuda:0": 1, "cuda:9": 1, "GPU-1": 1}).unknown([CPU, GPU]) == ["cuda:9"]


@pytest.mark.parametrize("text", ["cuda:0", "cuda:0=x", "=5", "cuda:0=-1", "cuda:0=1;cpu=2", "cuda:0=1,"])
def test_anything_else_is_said_with_what_is_allowed(text: str) -> None:
    with pytest.raises(InvalidConfiguration, match="device = bytes, separated by commas"):
        config.load(env={}, overrides={"pool": {"reserve": text}})
