"""How much of each device is left to other programs. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec.structs import replace

from llorch.wire.pools import Device


@dataclass(frozen=True, slots=True)
class Reserve:
    """Bytes of every device, and of single ones by their id or UUID."""

    each_bytes: int = 0
    single_bytes: dict[str, int] = field(default_factory=dict)

    def of(self, device: Device) -> int:
        """Return the bytes of *device* that are left to others."""
        for name in (device.uuid, device.id):
            if name in self.single_bytes:
                return self.single_bytes[name]
        return self.each_bytes

    def applied(self, devices: Iterable[Device]) -> list[Device]:
        """Return *devices*, each with what is left to others."""
        return [replace(device, reserve_bytes=self.of(device)) for device in devices]

    def unknown(self, devices: Iterable[Device]) -> list[str]:
        """Return the names that are none of *devices*: a device that is gone for now, or a mistake."""
        known = {name for device in devices for name in (device.id, device.uuid)}
        return sorted(self.single_bytes.keys() - known)


def parse(each_bytes: int, text: str) -> Reserve:
    """Read `[pool] reserve_bytes` and `reserve`, which is `device = bytes` separated by commas."""
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    return Reserve(each_bytes, {name.strip(): int(value) for name, _, value in pairs})
