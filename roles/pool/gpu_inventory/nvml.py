"""NVIDIA GPUs, read through the driver's management library. Read only; needs no CUDA and starts nothing.

A host without a driver has no such device, which is no error. A driver that goes away later (an upgrade, a GPU that
fell off the bus) is a fact to report: the device is gone until it answers again. What a GPU cannot tell stays unset.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

import psutil
import pynvml
from msgspec import UNSET, UnsetType

from llorch import log
from llorch.wire.pools import Device, Occupant

RETRY_S = 30.0
MAX_OTHERS = 16
T = TypeVar("T")
_log = log.get("pool.nvml")


class MemoryInfo(Protocol):
    """Bytes; `used` includes what the driver keeps for itself."""

    total: int
    used: int
    free: int


class Rates(Protocol):
    """Percent of the last moment."""

    gpu: int


class RunningProcess(Protocol):
    """A process on a GPU; `usedGpuMemory` is None where the driver cannot tell."""

    pid: int
    usedGpuMemory: int | None  # noqa: N815 - as NVML calls it


class Library(Protocol):
    """The calls of `pynvml` that are made; each may raise `pynvml.NVMLError`. A handle is the library's own."""

    def nvmlInit(self) -> None: ...  # noqa: N802, D102 - as NVML calls it
    def nvmlShutdown(self) -> None: ...  # noqa: N802, D102
    def nvmlDeviceGetCount(self) -> int: ...  # noqa: N802, D102
    def nvmlDeviceGetHandleByIndex(self, index: int) -> object: ...  # noqa: N802, D102
    def nvmlDeviceGetUUID(self, handle: object) -> str | bytes: ...  # noqa: N802, D102
    def nvmlDeviceGetName(self, handle: object) -> str | bytes: ...  # noqa: N802, D102
    def nvmlDeviceGetMemoryInfo(self, handle: object) -> MemoryInfo: ...  # noqa: N802, D102
    def nvmlDeviceGetUtilizationRates(self, handle: object) -> Rates: ...  # noqa: N802, D102
    def nvmlDeviceGetTemperature(self, handle: object, sensor: int) -> int: ...  # noqa: N802, D102
    def nvmlDeviceGetPowerUsage(self, handle: object) -> int: ...  # noqa: N802, D102
    def nvmlDeviceGetComputeRunningProcesses(self, handle: object) -> Iterable[RunningProcess]: ...  # noqa: N802, D102
    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: object) -> Iterable[RunningProcess]: ...  # noqa: N802, D102


class Nvml:
    """The driver's devices. Used by one thread.

    Args:
        library: `pynvml`, or what answers in its place.
        is_ours: Tells whether a process belongs to this pool's workers.
        named: Which GPUs may be used, as `CUDA_VISIBLE_DEVICES` says it; None where it says nothing. See `visible`.
    """

    def __init__(
        self,
        library: Library = pynvml,
        is_ours: Callable[[int], bool] = lambda pid: False,
        *,
        named: str | None = None,
    ) -> None:
        self._library = library
        self._is_ours = is_ours
        self._named = named
        self._open = False
        self._retry_at = 0.0
        self._failures: dict[str, str] = {}
        self.held_bytes: dict[str, dict[int, int]] = {}
        """What each process holds of each device, as far as the driver told it at the last reading."""

    def read(self) -> list[Device]:
        """Measure every GPU that answers now."""
        self.held_bytes = {}
        if not self._open and not self._start():
            return []
        try:
            count = self._library.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            self._lost(error)
            return []
        devices = []
        for index in range(count):
            name = f"cuda:{index}"
            try:
                devices.append(self._device(index, name))
                self._well(name)
            except pynvml.NVMLError as error:
                self._told(name, str(error))
        return devices if self._named is None else visible(devices, self._named)

    def close(self) -> None:
        """Let go of the driver."""
        if self._open:
            self._open = False
            _optional(self._library.nvmlShutdown)

    def _start(self) -> bool:
        if time.monotonic() < self._retry_at:
            return False
        try:
            self._library.nvmlInit()
        except pynvml.NVMLError as error:
            self._retry_at = time.monotonic() + RETRY_S
            if not isinstance(error, pynvml.NVMLError_LibraryNotFound):
                self._told("driver", str(error))
            return False
        self._open = True
        self._well("driver")
        return True

    def _lost(self, error: Exception) -> None:
        self.close()
        self._retry_at = time.monotonic() + RETRY_S
        self._told("driver", str(error))

    def _told(self, what: str, failure: str) -> None:
        """Log a failure once, not once a sample."""
        if self._failures.get(what) != failure:
            self._failures[what] = failure
            _log.warning("nvidia_failed", device=what, error=failure)

    def _well(self, what: str) -> None:
        if self._failures.pop(what, None):
            _log.info("nvidia_back", device=what)

    def _device(self, index: int, name: str) -> Device:
        nvml = self._library
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        utilization = _optional(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        temperature = _optional(lambda: nvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))
        milliwatts = _optional(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        computing = _optional(lambda: list(nvml.nvmlDeviceGetComputeRunningProcesses(handle))) or []
        drawing = _optional(lambda: list(nvml.nvmlDeviceGetGraphicsRunningProcesses(handle))) or []
        held = _held([*computing, *drawing])
        others = {pid: size for pid, size in held.items() if not self._is_ours(pid)}
        self.held_bytes[name] = {pid: size for pid, size in held.items() if size is not None}
        return Device(
            id=name,
            uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
            name=_text(nvml.nvmlDeviceGetName(handle)),
            backend="cuda",
            memory_total_bytes=int(memory.total),
            memory_used_bytes=int(memory.used),
            memory_free_bytes=int(memory.free),
            utilization_percent=UNSET if utilization is None else float(utilization),
            temperature_c=UNSET if temperature is None else float(temperature),
            power_w=_watts(milliwatts),
            others=_occupants(others),
            others_bytes=sum(size or 0 for size in others.values()),
        )


def visible(devices: Sequence[Device], named: str) -> list[Device]:
    """Return those GPUs that `CUDA_VISIBLE_DEVICES` names, by number or by the beginning of a UUID, as CUDA reads it.

    Names behind one that fits nothing do not count; nothing named is nothing seen. Instances of a GPU (`MIG-…`) are not
    told apart here, so that they leave all as it is. Numbers are the driver's. Source: the CUDA programming guide,
    "CUDA Environment Variables".
    """
    found: list[Device] = []
    for name in (part.strip() for part in named.split(",")):
        if name.startswith("MIG-"):
            return list(devices)
        by_uuid = name.startswith("GPU-")
        fitting = [one for one in devices if (one.uuid.startswith(name) if by_uuid else one.id == f"cuda:{name}")]
        if len(fitting) != 1:
            break
        found += fitting
    return [device for device in devices if device in found]


def _held(running: Iterable[RunningProcess]) -> dict[int, int | None]:
    """Return what each process holds; one that computes and draws is told of twice, and counts once."""
    held: dict[int, int | None] = {}
    for process in running:
        held[process.pid] = max(held.get(process.pid) or 0, process.usedGpuMemory or 0) or None
    return held


def _occupants(held: Mapping[int, int | None]) -> list[Occupant]:
    found = [
        Occupant(pid=pid, name=_name(pid), memory_bytes=UNSET if memory is None else memory)
        for pid, memory in held.items()
    ]
    return sorted(found, key=lambda one: (-(one.memory_bytes or 0), one.pid))[:MAX_OTHERS]


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


def _name(pid: int) -> str:
    """Return what a process is called; a driver may know processes that are not to be seen from here."""
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return ""
