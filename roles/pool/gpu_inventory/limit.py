"""A device as this pool may use it: no more of its memory than the operator allows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from llorch.wire.pools import Device


def limited(devices: Iterable[Device], taken_bytes: Mapping[str, int], *, limit_bytes: int) -> list[Device]:
    """Return *devices* no larger than *limit_bytes* each.

    Args:
        devices: As measured.
        taken_bytes: What this pool's workers have taken, by device; only that counts against the limit.
        limit_bytes: The most that this pool may use of a device; 0 is all of it.
    """
    return [_limited(device, taken_bytes.get(device.id, 0), limit_bytes) for device in devices]


def _limited(device: Device, taken_bytes: int, limit_bytes: int) -> Device:
    if not 0 < limit_bytes < device.memory_total_bytes:
        return device
    outside_bytes = device.memory_total_bytes - limit_bytes
    free_bytes = max(0, min(device.memory_free_bytes, limit_bytes - taken_bytes))
    return replace(
        device,
        memory_total_bytes=limit_bytes,
        memory_free_bytes=free_bytes,
        memory_used_bytes=limit_bytes - free_bytes,
        others_bytes=max(0, device.others_bytes - outside_bytes),
    )
