"""NVIDIA GPUs: as many as the driver tells of, none without a driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from roles.pool.gpu_inventory.nvml import Nvml

DRIVER = Path("/proc/driver/nvidia/version")


@pytest.mark.skipif(DRIVER.exists(), reason="this host has an NVIDIA driver")
def test_without_a_driver_there_are_no_devices_and_no_error() -> None:
    nvml = Nvml()

    assert nvml.read() == nvml.read() == []
    nvml.close()


@pytest.mark.skipif(not DRIVER.exists(), reason="this host has no NVIDIA driver")
def test_with_a_driver_every_gpu_is_told_of() -> None:
    nvml = Nvml()

    devices = nvml.read()
    nvml.close()

    assert devices
    for index, device in enumerate(devices):
        assert (device.id, device.backend) == (f"cuda:{index}", "cuda")
        assert device.uuid.startswith(("GPU-", "MIG-"))
        assert 0 < device.memory_free_bytes <= device.memory_total_bytes
