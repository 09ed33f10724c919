"""NVIDIA GPUs: as many as the driver tells of, none without a driver; sessions of the driver's library are played."""

from __future__ import annotations

from pathlib import Path

import pynvml
import pytest
from msgspec import UNSET

from llorch.wire.pools import Occupant
from roles.pool.gpu_inventory import nvml
from roles.pool.gpu_inventory.nvml import Nvml
from tests.support.nvml_session import Player, Recorder, error_name, plain, structure

DRIVER = Path("/proc/driver/nvidia/version")
GIB = 2**30


@pytest.mark.skipif(DRIVER.exists(), reason="this host has an NVIDIA driver")
def test_without_a_driver_there_are_no_devices_and_no_error() -> None:
    found = Nvml()

    assert found.read() == found.read() == []
    found.close()


@pytest.mark.skipif(not DRIVER.exists(), reason="this host has no NVIDIA driver")
def test_with_a_driver_every_gpu_is_told_of() -> None:
    found = Nvml()

    devices = found.read()
    found.close()

    assert devices
    for index, device in enumerate(devices):
        assert (device.id, device.backend) == (f"cuda:{index}", "cuda")
        assert device.uuid.startswith(("GPU-", "MIG-"))
        assert 0 < device.memory_free_bytes <= device.memory_total_bytes


def test_each_of_eight_gpus_is_told_of_with_all_it_can_tell() -> None:
    devices = Nvml(Player("h200x8")).read()

    first, last = devices[0], devices[7]
    assert [device.id for device in devices] == [f"cuda:{index}" for index in range(8)]
    assert len({device.uuid for device in devices}) == 8
    assert (first.name, first.backend, first.memory_total_bytes) == ("NVIDIA H200", "cuda", 143771 * 2**20)
    assert first.memory_used_bytes + first.memory_free_bytes == first.memory_total_bytes
    assert (first.utilization_percent, first.temperature_c, first.power_w) == (97.0, 31.0, 76.0)
    assert (last.utilization_percent, last.temperature_c, last.power_w) == (0.0, 38.0, 83.0)


@pytest.mark.parametrize(
    ("named", "seen"),
    [
        (None, [*range(8)]),
        ("", []),
        ("-1", []),
        ("3", [3]),
        (" 5, 2 ", [2, 5]),
        ("1,9,2", [1]),
        ("NoDevFiles", []),
        ("GPU-00000004-0000-4000-8000-000000000004,GPU-00000006", [4, 6]),
        ("GPU-0000", []),
        ("MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", [*range(8)]),
    ],
)
def test_only_gpus_that_the_user_lets_be_seen_are_there(named: str | None, seen: list[int]) -> None:
    devices = Nvml(Player("h200x8"), named=named).read()

    assert [device.id for device in devices] == [f"cuda:{index}" for index in seen]


def test_processes_that_are_not_ours_are_told_with_their_memory() -> None:
    ours = Nvml(Player("h200x8"), lambda pid: pid == 4_000_002).read()[0]
    desktop = Nvml(Player("gtx")).read()[0]

    assert ours.others == [Occupant(pid=4_000_001, memory_bytes=90 * GIB)]
    assert (ours.others_bytes, desktop.others_bytes) == (90 * GIB, 300 * 2**20)
    assert desktop.others == [
        Occupant(pid=4_000_002, memory_bytes=300 * 2**20),
        Occupant(pid=4_000_003, memory_bytes=UNSET),
    ]


def test_what_each_process_holds_of_each_gpu_is_known_as_far_as_the_driver_tells() -> None:
    found, desktop = Nvml(Player("h200x8")), Nvml(Player("gtx"))
    found.read()
    desktop.read()

    assert found.held_bytes["cuda:0"] == {4_000_001: 90 * GIB, 4_000_002: 20 * GIB}
    assert found.held_bytes["cuda:1"] == {}
    assert desktop.held_bytes == {"cuda:0": {4_000_002: 300 * 2**20}}


def test_what_a_gpu_cannot_tell_stays_unset() -> None:
    [device] = Nvml(Player("gtx")).read()

    assert (device.utilization_percent, device.temperature_c, device.power_w) == (UNSET, UNSET, UNSET)
    assert device.memory_total_bytes == 2 * GIB


def test_a_lost_gpu_takes_no_other_with_it_and_the_rest_keep_their_names(capfd: pytest.CaptureFixture[str]) -> None:
    player = Player("h200x8")
    found = Nvml(player)
    found.read()
    player.next()

    devices = [found.read() for _ in range(3)][-1]

    assert [device.id for device in devices] == [f"cuda:{index}" for index in range(8) if index != 3]
    assert capfd.readouterr().out.count("nvidia_failed") == 1


def test_a_driver_that_disappears_is_asked_again_after_a_while_and_its_gpus_are_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    player = Player("h200x8")
    found = Nvml(player)
    before = found.read()
    player.next()
    player.next()
    gone = found.read()
    player.next()
    too_soon = found.read()
    monkeypatch.setattr(nvml, "RETRY_S", 0.0)
    found._retry_at = 0.0

    after = found.read()

    assert [len(devices) for devices in (before, gone, too_soon, after)] == [8, 0, 0, 8]
    assert [device.uuid for device in after] == [device.uuid for device in before]


def test_a_driver_that_is_not_loaded_is_no_device() -> None:
    assert Nvml(Player("no_driver")).read() == []


@pytest.mark.parametrize("name", ["h200x8", "gtx", "no_driver"])
def test_a_session_says_where_it_comes_from(name: str) -> None:
    session = Player(name).session

    assert session["origin"] in {"documentation", "hardware"}
    assert (session["origin"] == "documentation") == ("NOT recorded on hardware" in session["about"])


def test_a_recording_is_what_the_player_plays() -> None:
    recorder = Recorder()
    Nvml(recorder).read()

    answer = recorder.sample["nvmlInit"]
    if "error" in answer:
        assert getattr(pynvml, answer["error"]) == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
    told = {"total": 3, "used": 1, "free": 2}
    assert plain(structure(told)) == told
    assert plain(structure([{"pid": 1, "usedGpuMemory": None}])) == [{"pid": 1, "usedGpuMemory": None}]
    assert error_name(pynvml.NVML_ERROR_GPU_IS_LOST) == "NVML_ERROR_GPU_IS_LOST"
