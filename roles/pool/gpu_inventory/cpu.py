"""The CPU as a device: its cores, and the RAM that this process may use. Reads the system; changes nothing.

What a container may use is often less than what the host has: the limits of its control group (version 2 or 1) and of
every group above it count where they are lower, for memory and for time on cores.
"""

from __future__ import annotations

import os
import platform
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from msgspec import UNSET, UnsetType

from llorch.wire.pools import Device
from roles.pool import mac

CPU_ID = "cpu"
_NAMESPACE = uuid.UUID("5b2f8d0e-6c1c-4a0e-9d2b-0f6c6c6f7268")


@dataclass(frozen=True, slots=True)
class Memory:
    """RAM in bytes: what there is, and what can still be taken without swapping."""

    total_bytes: int
    available_bytes: int


class Cpu:
    """Reads the CPU; holds what does not change.

    Args:
        root: Where the system's files are; another place in tests.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._name = _name(root)
        self._uuid = f"CPU-{uuid.uuid5(_NAMESPACE, _machine(root))}"
        self._cores = usable_cores(_allowed_cores(), quotas(root))
        psutil.cpu_percent()  # the first call only starts the measurement
        self._measured = False

    def read(self) -> Device:
        """Measure now."""
        host = psutil.virtual_memory()
        memory = limited(Memory(host.total, host.available), limits(self._root))
        percent: float | UnsetType = psutil.cpu_percent() if self._measured else UNSET
        self._measured = True
        return Device(
            id=CPU_ID,
            uuid=self._uuid,
            name=self._name,
            backend="cpu",
            memory_total_bytes=memory.total_bytes,
            memory_used_bytes=memory.total_bytes - memory.available_bytes,
            memory_free_bytes=memory.available_bytes,
            utilization_percent=percent,
            cores=self._cores,
        )


def limited(host: Memory, groups: list[Memory]) -> Memory:
    """Return the least of the host's RAM and of what its control groups leave."""
    total = min([host.total_bytes, *(group.total_bytes for group in groups)])
    available = min([host.available_bytes, *(group.available_bytes for group in groups)])
    return Memory(total, max(0, min(total, available)))


def limits(root: Path) -> list[Memory]:
    """Return what each control group of this process with a memory limit allows and has left."""
    return [memory for folder in _groups(root, "memory") if (memory := _group_memory(folder)) is not None]


def quotas(root: Path) -> list[float]:
    """Return how many cores' time each control group of this process with a limit may use."""
    return [cores for folder in _groups(root, "cpu") if (cores := _group_cores(folder)) is not None]


def usable_cores(allowed: int, quotas: list[float]) -> int:
    """Return how many threads can run at once all the time: whole cores, at least one."""
    return max(1, int(min([allowed, *quotas])))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's group and of those above it; a container may see only the mount's top.

    Args:
        root: Where the system's files are.
        controller: Which one's folders are meant, where each has its own (version 1).
    """
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            top = root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            top = root / "sys/fs/cgroup" / controller
        else:
            continue
        folder = top / path.lstrip("/")
        if ".." in folder.parts:
            folder = top
        yield folder
        yield from (parent for parent in folder.parents if parent.is_relative_to(top))


def _group_memory(folder: Path) -> Memory | None:
    limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
    used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes")
    if not limit or used is None:
        return None
    return Memory(limit, max(0, limit - max(0, used - _reclaimable(folder))))


def _group_cores(folder: Path) -> float | None:
    try:
        quota, _, period = (folder / "cpu.max").read_text("ascii").strip().partition(" ")
    except (OSError, ValueError):
        quota, period = (str(_number(folder / f"cpu.cfs_{name}_us") or "") for name in ("quota", "period"))
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    return int(quota) / int(period)


def _reclaimable(folder: Path) -> int:
    """Return the bytes of file cache that the kernel gives back first."""
    try:
        lines = (folder / "memory.stat").read_text("ascii").splitlines()
    except (OSError, ValueError):
        return 0
    found = dict(line.split(" ", 1) for line in lines if " " in line)
    value = found.get("total_inactive_file", found.get("inactive_file", "0"))
    return int(value) if value.isdigit() else 0


def _number(file: Path) -> int | None:
    """Return the number in *file*; None for `max`, and where there is no such file."""
    try:
        text = file.read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    return int(text) if text.isdigit() else None


def _allowed_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _name(root: Path) -> str:
    try:
        lines = (root / "proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or mac.processor() or platform.processor() or platform.machine() or "CPU"


def _machine(root: Path) -> str:
    """Return what tells this machine from others, and stays."""
    for file in ("etc/machine-id", "var/lib/dbus/machine-id"):
        try:
            if text := (root / file).read_text("ascii").strip():
                return text
        except (OSError, ValueError):
            continue
    return mac.machine_id() or f"{socket.gethostname()}-{uuid.getnode()}"
