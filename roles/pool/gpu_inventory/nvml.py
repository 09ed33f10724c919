"""NVIDIA GPUs, read through the driver's management library. Read only; needs no CUDA and starts nothing.

A host without a driver has no such device, which is no error. A driver that goes away later (an upgrade, a GPU that
fell off the bus) is a fact to report: the device is gone until it answers again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pynvml
from msgspec import UNSET, UnsetType

from llorch import log
from llorch.wire.pools import Device

RETRY_S = 30.0
T = TypeVar("T")
_log = log.get("pool.nvml")


class Nvml:
    """The driver's devices. Used by one thread."""

    def __init__(self) -> None:
        self._open = False
        self._retry_at = 0.0
        self._failure = ""

    def read(self) -> list[Device]:
        """Measure every GPU that answers now."""
        if not self._open and not self._start():
            return []
        try:
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            self._lost(error)
            return []
        devices = []
        for index in range(count):
            try:
                devices.append(_device(index))
            except pynvml.NVMLError as error:
                self._told(f"GPU {index}: {error}")
        return devices

    def close(self) -> None:
        """Let go of the driver."""
        if self._open:
            self._open = False
            _optional(pynvml.nvmlShutdown)

    def _start(self) -> bool:
        if time.monotonic() < self._retry_at:
            return False
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            self._retry_at = time.monotonic() + RETRY_S
            if not isinstance(error, pynvml.NVMLError_LibraryNotFound):
                self._told(str(error))
            return False
        self._open, self._failure = True, ""
        return True

    def _lost(self, error: Exception) -> None:
        self.close()
        self._retry_at = time.monotonic() + RETRY_S
        self._told(str(error))

    def _told(self, failure: str) -> None:
        """Log a failure once, not once a sample."""
        if failure != self._failure:
            self._failure = failure
            _log.warning("nvidia_driver_failed", error=failure)


def _device(index: int) -> Device:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    utilization = _optional(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    temperature = _optional(lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))
    milliwatts = _optional(lambda: pynvml.nvmlDeviceGetPowerUsage(handle))
    return Device(
        id=f"cuda:{index}",
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        backend="cuda",
        memory_total_bytes=int(memory.total),
        memory_used_bytes=int(memory.used),
        memory_free_bytes=int(memory.free),
        utilization_percent=UNSET if utilization is None else float(utilization),
        temperature_c=UNSET if temperature is None else float(temperature),
        power_w=_watts(milliwatts),
    )


def _watts(milliwatts: int | None) -> float | UnsetType:
    return UNSET if milliwatts is None else milliwatts / 1000


def _optional(ask: Callable[[], T]) -> T | None:
    """Ask for something that not every GPU can tell."""
    try:
        return ask()
    except pynvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    """Return a name, which older bindings give as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
