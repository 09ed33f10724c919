"""The GPU of a Mac, from what the system's tools print.

The samples are written from the tools' documentation and from public reports; they were not recorded on a Mac.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from roles.pool.gpu_inventory.metal import GPU, LIMITS, PAGES, Gpu, Metal, available_bytes, gpus, limit_bytes

GIB = 2**30
M2 = {
    "SPDisplaysDataType": [
        {
            "_name": "Apple M2 Max",
            "spdisplays_mtlgpufamilysupport": "spdisplays_metal3",
            "spdisplays_ndrvs": [{"_name": "Color LCD"}],
            "spdisplays_vendor": "sppci_vendor_Apple",
            "sppci_bus": "spdisplays_builtin",
            "sppci_cores": "38",
            "sppci_device_type": "spdisplays_gpu",
            "sppci_model": "Apple M2 Max",
        }
    ]
}
INTEL = {
    "SPDisplaysDataType": [
        {"_name": "kHW_IntelUHD630Item", "spdisplays_metal": "spdisplays_supported", "sppci_model": "Intel UHD 630"},
        {"_name": "old", "spdisplays_metal": "spdisplays_notsupported", "sppci_model": "Old"},
        {"_name": "virtual display"},
    ]
}
VM_STAT = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               100000.
Pages active:                             900000.
Pages inactive:                            50000.
Pages speculative:                         10000.
Pages throttled:                               0.
Pages wired down:                         200000.
Pages purgeable:                            5000.
"Translation faults":                  123456789.
Pages copy-on-write:                     1234567.
"""


@pytest.mark.parametrize(
    ("told", "found"),
    [
        (M2, [Gpu("Apple M2 Max", 38)]),
        (INTEL, [Gpu("Intel UHD 630", 0)]),
        ({"SPDisplaysDataType": []}, []),
    ],
)
def test_gpus_that_metal_can_use_are_found(told: object, found: list[Gpu]) -> None:
    assert gpus(json.dumps(told)) == found


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        (f"{96 * GIB}\n0\n", 72 * GIB),
        (f"{96 * GIB}\n81920\n", 80 * GIB),
        (f"{16 * GIB}\n", 16 * GIB * 2 // 3),
        (f"{16 * GIB}\n999999\n", 16 * GIB),
    ],
)
def test_a_part_of_the_ram_may_be_taken(text: str, limit: int) -> None:
    assert limit_bytes(text) == limit


def test_memory_that_can_be_had_without_swapping_is_free() -> None:
    assert available_bytes(VM_STAT) == 16384 * (100_000 + 50_000 + 10_000 + 5_000)


@pytest.mark.parametrize("text", ["", "nonsense", "page size of 4096 bytes"])
def test_something_else_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="vm_stat"):
        available_bytes(text)


def test_a_mac_is_one_device_that_shares_its_ram() -> None:
    told = {GPU: json.dumps(M2), LIMITS: f"{96 * GIB}\n0\n", PAGES: VM_STAT}
    asked: list[Sequence[str]] = []

    def run(command: Sequence[str]) -> str:
        asked.append(command)
        return told[tuple(command)]

    metal = Metal(run)
    [device], [again] = metal.read(), metal.read()

    assert (device.id, device.backend, device.name, device.cores) == ("metal:0", "metal", "Apple M2 Max", 38)
    assert device.memory_total_bytes == 72 * GIB
    assert device.memory_free_bytes == available_bytes(VM_STAT)
    assert device.uuid == again.uuid
    assert asked.count(GPU) == 1


def test_tools_that_do_not_answer_are_a_fact() -> None:
    def missing(command: Sequence[str]) -> str:
        raise FileNotFoundError(2, "No such file", command[0])

    assert Metal(missing).read() == []
    assert Metal(lambda command: "not JSON").read() == []
